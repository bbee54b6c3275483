"""The logical axes of MultiTalk's parameters (see sharding/rules.py), by pattern of their path.

Keys and values of the sound are one kernel: a part of it would be keys alone. It is small, so only `width` parts it.
"""

from talkverse_jax.models.wan.axes import IMAGE, TRUNK
from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (
    *TRUNK,
    *IMAGE,
    ("*/kv/kernel", (None, "width")),
    ("audio_projector/*/kernel", ("width", None)),
)
