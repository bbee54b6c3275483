"""TalkVerse's parameters and their names in the published PyTorch files (976 of them at full size)."""

from talkverse_jax.models.wan.keys import TRUNK, attention, convolution
from talkverse_jax.weights.rule import CONV1D, CONV3D, SAME, Rule, TensorLayout, linear

_AUDIO = "casual_audio_encoder.encoder"  # upstream's spelling

RULES: tuple[Rule, ...] = (
    *TRUNK,
    Rule("audio_encoder/layer_weights", "casual_audio_encoder.weights", TensorLayout(squeeze=(0, 2, 3))),
    Rule("audio_encoder/padding_token", f"{_AUDIO}.padding_tokens", TensorLayout(squeeze=(0, 1, 2))),
    *(
        rule
        for part in ("conv1_local", "conv1_global", "conv2", "conv3")
        for rule in convolution(f"audio_encoder/{part}/conv", f"{_AUDIO}.{part}.conv", CONV1D)
    ),
    *linear("audio_encoder/final_linear", f"{_AUDIO}.final_linear"),
    *attention("audio_injectors/*/attention", "audio_injector.injector.*"),
    *linear("audio_injectors/*/modulation", "audio_injector.injector_adain_layers.*.linear"),
    *convolution("frame_packer/embeddings/0", "frame_packer.proj", CONV3D),
    *convolution("frame_packer/embeddings/1", "frame_packer.proj_2x", CONV3D),
    *convolution("frame_packer/embeddings/2", "frame_packer.proj_4x", CONV3D),
    Rule("token_kind", "trainable_cond_mask.weight", SAME),
)
