"""The logical axes of TalkVerse's parameters (see sharding/rules.py), by pattern of their path."""

from talkverse_jax.models.wan.axes import TRUNK
from talkverse_jax.sharding.fields import FieldAxes
from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (
    *TRUNK,
    ("*modulation/kernel", ("width", "hidden")),
    ("*modulation/bias", ("hidden",)),
    ("audio_encoder/*/kernel", ("width", "hidden")),
    ("frame_packer/*/kernel", ("width",)),
)

# Of the parts of `ClipConditions`, the logical axes behind the one of stacked layers.
CONDITION_AXES: FieldAxes = {
    "keys": ("batch", None, "heads", None),
    "values": ("batch", None, "heads", None),
    "shift": ("batch", None, None),
    "scale": ("batch", None, None),
    "clean_tokens": ("batch", None, None),
    "clean_time": (None, None, None),
    "cos": ("tokens", None),
    "sin": ("tokens", None),
}
