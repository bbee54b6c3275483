"""The logical axes of MultiTalk's parameters (see sharding/rules.py), by pattern of their path.

Keys and values of the sound are one kernel: a part of it would be keys alone. It is small, so only `width` parts it.
"""

from talkverse_jax.models.wan.axes import IMAGE, TRUNK
from talkverse_jax.sharding.fields import FieldAxes
from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (
    *TRUNK,
    *IMAGE,
    ("*/kv/kernel", (None, "width")),
    ("audio_projector/*/kernel", ("width", None)),
)

# Of the parts of `MultiTalkConditions`, the logical axes behind the one of stacked layers.
CONDITION_AXES: FieldAxes = {
    "keys": ("batch", None, "heads", None),
    "values": ("batch", None, "heads", None),
    "known": ("batch", None, None, None, None),
    "cos": ("tokens", None),
    "sin": ("tokens", None),
    "tokens": ("batch", None, None, None),
    "seen": ("batch", None),
    "positions": ("batch", None),
    "places": ("batch", None, None),
    "turned": ("batch",),
}
