"""Logical axes of wav2vec2's parameters: attention by heads, feed-forward by hidden channels.

The layers before the transformer are small (54 MB of 1.3 GB): split while at rest, whole when used.
"""

from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (
    ("*attention/[qkv]_proj/kernel", (None, "heads")),
    ("*attention/[qkv]_proj/bias", ("heads",)),
    ("*attention/out_proj/kernel", ("heads", None)),
    ("*feed_forward/intermediate_dense/kernel", (None, "hidden")),
    ("*feed_forward/intermediate_dense/bias", ("hidden",)),
    ("*feed_forward/output_dense/kernel", ("hidden", None)),
    ("*conv/kernel", ("width",)),
    ("*conv/weight_v", ("width",)),
    ("*projection/kernel", ("width",)),
)
