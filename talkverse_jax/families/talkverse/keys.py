"""TalkVerse's parameters and their names in the published PyTorch files (976 of them at full size)."""

from talkverse_jax.weights.rule import CONV1D, CONV3D, SAME, Rule, TensorLayout, linear


def _attention(path: str, name: str) -> tuple[Rule, ...]:
    return (
        *(rule for part in "qkvo" for rule in linear(f"{path}/{part}", f"{name}.{part}")),
        *(Rule(f"{path}/norm_{part}/scale", f"{name}.norm_{part}.weight") for part in "qk"),
    )


def _convolution(path: str, name: str, layout: TensorLayout) -> tuple[Rule, Rule]:
    return Rule(f"{path}/kernel", f"{name}.weight", layout), Rule(f"{path}/bias", f"{name}.bias")


_AUDIO = "casual_audio_encoder.encoder"  # upstream's spelling

RULES: tuple[Rule, ...] = (
    *_convolution("patch_embedding", "patch_embedding", CONV3D),
    *linear("text_embedding/linear_in", "text_embedding.0"),
    *linear("text_embedding/linear_out", "text_embedding.2"),
    *linear("time_embedding/linear_in", "time_embedding.0"),
    *linear("time_embedding/linear_out", "time_embedding.2"),
    *linear("time_embedding/projection", "time_projection.1"),
    Rule("blocks/*/modulation", "blocks.*.modulation", TensorLayout(squeeze=(0,))),
    *_attention("blocks/*/self_attn", "blocks.*.self_attn"),
    *_attention("blocks/*/cross_attn", "blocks.*.cross_attn"),
    Rule("blocks/*/norm3/scale", "blocks.*.norm3.weight"),
    Rule("blocks/*/norm3/bias", "blocks.*.norm3.bias"),
    *linear("blocks/*/ffn/linear_in", "blocks.*.ffn.0"),
    *linear("blocks/*/ffn/linear_out", "blocks.*.ffn.2"),
    *linear("head/linear", "head.head"),
    Rule("head/modulation", "head.modulation", TensorLayout(squeeze=(0,))),
    Rule("audio_encoder/layer_weights", "casual_audio_encoder.weights", TensorLayout(squeeze=(0, 2, 3))),
    Rule("audio_encoder/padding_token", f"{_AUDIO}.padding_tokens", TensorLayout(squeeze=(0, 1, 2))),
    *(
        rule
        for part in ("conv1_local", "conv1_global", "conv2", "conv3")
        for rule in _convolution(f"audio_encoder/{part}/conv", f"{_AUDIO}.{part}.conv", CONV1D)
    ),
    *linear("audio_encoder/final_linear", f"{_AUDIO}.final_linear"),
    *_attention("audio_injectors/*/attention", "audio_injector.injector.*"),
    *linear("audio_injectors/*/modulation", "audio_injector.injector_adain_layers.*.linear"),
    *_convolution("frame_packer/embeddings/0", "frame_packer.proj", CONV3D),
    *_convolution("frame_packer/embeddings/1", "frame_packer.proj_2x", CONV3D),
    *_convolution("frame_packer/embeddings/2", "frame_packer.proj_4x", CONV3D),
    Rule("token_kind", "trainable_cond_mask.weight", SAME),
)
