"""Logical axes of UMT5's parameters: attention by heads, the rest but its norms by hidden channels."""

from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (
    ("*token_embedding/embedding", (None, "hidden")),
    ("*attn/[qkv]/kernel", (None, "heads")),
    ("*attn/o/kernel", ("heads", None)),
    ("*pos_embedding/embedding", (None, "heads")),
    ("*ffn/gate/kernel", (None, "hidden")),
    ("*ffn/fc1/kernel", (None, "hidden")),
    ("*ffn/fc2/kernel", ("hidden", None)),
)
