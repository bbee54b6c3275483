"""Where MultiTalk's models are published, and InfiniteTalk's transformer."""

import dataclasses
from typing import Any

from talkverse_jax.models.clip.component import clip_origin
from talkverse_jax.models.tiny_decoder.component import tiny_decoder_origin
from talkverse_jax.models.umt5.component import umt5_origin
from talkverse_jax.models.vae.component import vae_origin
from talkverse_jax.models.wav2vec2.component import wav2vec2_base_origin
from talkverse_jax.models.wav2vec2.config import CHINESE_BASE
from talkverse_jax.weights.published import AdapterFile, Origin, Repository
from talkverse_jax.weights.published_files import Safetensors

WAN = Repository("ckpt_dir", "Wan-AI/Wan2.1-I2V-14B-480P")
DIT_STEM = "diffusion_pytorch_model"
VAE_FILE = "Wan2.1_VAE.pth"

MULTITALK = AdapterFile(
    flag="multitalk_dir",
    repository="MeiGen-AI/MeiGen-MultiTalk",
    file="multitalk.safetensors",
    title="the MultiTalk file",
    adds=(r"audio_proj\.", r"blocks\.\d+\.(norm_x|audio_cross_attn)\."),
    dtype="float32",
)
INFINITETALK = dataclasses.replace(
    MULTITALK,
    flag="infinitetalk_dir",
    repository="MeiGen-AI/InfiniteTalk",
    file="infinitetalk.safetensors",
    title="InfiniteTalk's",
    variants=("single", "multi"),
)

SOURCES = {
    "dit": Origin(
        WAN,
        # MultiTalk has people put its file and its own index beside the shards
        Safetensors(DIT_STEM, shards=7, passed_over=(MULTITALK.file,)),
        file_flag="dit_file",
        whole_flag="quant_file",
        diffusers=Safetensors(DIT_STEM, inside="transformer"),
        adapters=(MULTITALK, INFINITETALK),
        lora_flag="lora_ckpt",
    ),
    "vae": vae_origin(WAN, VAE_FILE, file_flag="vae_file"),
    "text": umt5_origin(WAN, file_flag="text_file"),
    "audio": wav2vec2_base_origin(Repository("wav2vec_dir", CHINESE_BASE, inside="ckpt_dir")),
    "clip": clip_origin(WAN),
    "tiny_decoder": tiny_decoder_origin("taew2_1.pth"),
}


def configs_for(configs: Any, sources: Any) -> Any:
    """The sizes with the recipe of the adapter that is given: its file is of the same tensors."""
    if not sources.infinitetalk_dir:
        return configs
    return dataclasses.replace(configs, dit=dataclasses.replace(configs.dit, recipe="infinitetalk"))
