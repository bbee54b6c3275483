"""The logical axes of the trunk's parameters (see sharding/rules.py), by pattern of their path; a family adds its own.

Vectors of the model's width stay whole: together they are 3 MB.
"""

from talkverse_jax.sharding.layout import ParameterAxes

TRUNK: ParameterAxes = (
    ("*/[qkv]/kernel", ("width", "heads")),
    ("*/[qkv]/bias", ("heads",)),
    ("*/[qkv]/scale", ("heads",)),
    ("*/norm_[qk]/scale", ("heads",)),
    ("*/o/kernel", ("heads", "width")),
    ("*ffn/linear_in/kernel", ("width", "hidden")),
    ("*ffn/linear_in/bias", ("hidden",)),
    ("*ffn/linear_in/scale", ("hidden",)),
    ("*ffn/linear_out/kernel", ("hidden", "width")),
    ("text_embedding/linear_in/kernel", ("width", "hidden")),
    ("text_embedding/linear_in/bias", ("hidden",)),
    ("text_embedding/linear_out/kernel", ("hidden", "width")),
    ("time_embedding/*/kernel", ("width", "hidden")),
    ("time_embedding/*/bias", ("hidden",)),
    ("*/[qk]/adapter/a", ("width", None)),
    ("*/[qk]/adapter/b", (None, "heads")),
    ("*/o/adapter/a", ("heads", None)),
    ("*/o/adapter/b", (None, "width")),
    ("*ffn/linear_in/adapter/a", ("width", None)),
    ("*ffn/linear_in/adapter/b", (None, "hidden")),
    ("*ffn/linear_out/adapter/a", ("hidden", None)),
    ("*ffn/linear_out/adapter/b", (None, "width")),
    ("patch_embedding/kernel", ("width",)),
    ("head/linear/kernel", ("width", None)),
)

IMAGE: ParameterAxes = (  # of the image-to-video models of Wan2.1, besides
    ("*/[kv]_img/kernel", ("width", "heads")),
    ("*/[kv]_img/bias", ("heads",)),
    ("*/[kv]_img/scale", ("heads",)),
    ("*/norm_k_img/scale", ("heads",)),
    ("*/[kv]_img/adapter/a", ("width", None)),
    ("*/[kv]_img/adapter/b", (None, "heads")),
    ("image_embedding/linear_in/kernel", ("width", "hidden")),
    ("image_embedding/linear_in/bias", ("hidden",)),
    ("image_embedding/linear_out/kernel", ("hidden", "width")),
)
