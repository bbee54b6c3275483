"""Logical axes of CLIP's parameters: attention by heads, the rest but norms and embeddings by hidden channels."""

from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (
    ("embedding/patches/kernel", ("hidden",)),
    ("*attn/to_qkv/kernel", (None, "heads")),
    ("*attn/to_qkv/bias", ("heads",)),
    ("*attn/proj/kernel", ("heads", None)),
    ("*mlp/fc1/kernel", (None, "hidden")),
    ("*mlp/fc1/bias", ("hidden",)),
    ("*mlp/fc2/kernel", ("hidden", None)),
)
