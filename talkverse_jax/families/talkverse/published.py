"""Where TalkVerse's models are published."""

from talkverse_jax.models.tiny_decoder.component import tiny_decoder_origin
from talkverse_jax.models.umt5.component import umt5_origin
from talkverse_jax.models.vae.component import vae_origin
from talkverse_jax.models.wav2vec2.component import wav2vec2_origin
from talkverse_jax.models.wav2vec2.config import ENGLISH_CTC
from talkverse_jax.weights.published import AdapterFile, Origin, RandomTensors, Repository
from talkverse_jax.weights.published_files import Safetensors

WAN = Repository("ckpt_dir", "Wan-AI/Wan2.2-TI2V-5B")
WAV2VEC2 = Repository("wav2vec_dir", ENGLISH_CTC, inside="ckpt_dir")
DIT_STEM = "diffusion_pytorch_model"
VAE_FILE = "Wan2.2_VAE.pth"

ADAPTER = AdapterFile(
    flag="lora_ckpt",
    repository="snap-research/talkverse-s2v-5b",
    file="talkverse_s2v_5b.safetensors",
    title="the TalkVerse file",
    adds=("casual_audio_encoder", "audio_injector", "trainable_cond_mask", "frame_packer"),
    replaces=("time_embedding", "time_projection", "head"),
    pairs=r"blocks\.\d+\.((self|cross)_attn\.[qko]|ffn\.[02])",
)

SOURCES = {
    "dit": Origin(
        WAN,
        Safetensors(DIT_STEM, shards=3),
        file_flag="dit_file",
        diffusers=Safetensors(DIT_STEM, inside="transformer"),
        adapters=(ADAPTER,),
        random=RandomTensors(
            values={
                "casual_audio_encoder.weights": (0.03, 0.005),  # of the layers' average
                "*.padding_tokens": (0.0, 0.1),
            }
        ),
    ),
    "vae": vae_origin(WAN, VAE_FILE, file_flag="vae_file"),
    "text": umt5_origin(WAN, file_flag="text_file"),
    "audio": wav2vec2_origin(WAV2VEC2),
    "tiny_decoder": tiny_decoder_origin("taew2_2.pth"),
}
