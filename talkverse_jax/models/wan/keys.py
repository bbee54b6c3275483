"""The trunk's parameters and their names in Wan's PyTorch files; a family adds its own."""

from talkverse_jax.weights.rule import CONV3D, Rule, TensorLayout, linear, norm

PREFIXES = ("model.diffusion_model.", "diffusion_model.")  # in ComfyUI's files


def attention(path: str, name: str) -> tuple[Rule, ...]:
    """The rules of an attention: q, k, v, o, and the norms of q and k."""
    return (
        *(rule for part in "qkvo" for rule in linear(f"{path}/{part}", f"{name}.{part}")),
        *(Rule(f"{path}/norm_{part}/scale", f"{name}.norm_{part}.weight") for part in "qk"),
    )


def convolution(path: str, name: str, layout: TensorLayout) -> tuple[Rule, Rule]:
    """The rules of a convolution with bias."""
    return Rule(f"{path}/kernel", f"{name}.weight", layout), Rule(f"{path}/bias", f"{name}.bias")


TRUNK: tuple[Rule, ...] = (
    *convolution("patch_embedding", "patch_embedding", CONV3D),
    *linear("text_embedding/linear_in", "text_embedding.0"),
    *linear("text_embedding/linear_out", "text_embedding.2"),
    *linear("time_embedding/linear_in", "time_embedding.0"),
    *linear("time_embedding/linear_out", "time_embedding.2"),
    *linear("time_embedding/projection", "time_projection.1"),
    Rule("blocks/*/modulation", "blocks.*.modulation", TensorLayout(squeeze=(0,))),
    *attention("blocks/*/self_attn", "blocks.*.self_attn"),
    *attention("blocks/*/cross_attn", "blocks.*.cross_attn"),
    *norm("blocks/*/norm3", "blocks.*.norm3"),
    *linear("blocks/*/ffn/linear_in", "blocks.*.ffn.0"),
    *linear("blocks/*/ffn/linear_out", "blocks.*.ffn.2"),
    *linear("head/linear", "head.head"),
    Rule("head/modulation", "head.modulation", TensorLayout(squeeze=(0,))),
)

IMAGE: tuple[Rule, ...] = (  # of the image-to-video models of Wan2.1, besides
    *norm("image_embedding/norm_in", "img_emb.proj.0"),
    *linear("image_embedding/linear_in", "img_emb.proj.1"),
    *linear("image_embedding/linear_out", "img_emb.proj.3"),
    *norm("image_embedding/norm_out", "img_emb.proj.4"),
    *linear("blocks/*/cross_attn/k_img", "blocks.*.cross_attn.k_img"),
    *linear("blocks/*/cross_attn/v_img", "blocks.*.cross_attn.v_img"),
    Rule("blocks/*/cross_attn/norm_k_img/scale", "blocks.*.cross_attn.norm_k_img.weight"),
)
