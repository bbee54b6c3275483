"""The logical axes of TalkVerse's parameters (see sharding/rules.py), by pattern of their path."""

from talkverse_jax.models.wan.axes import TRUNK
from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (
    *TRUNK,
    ("*modulation/kernel", ("width", "hidden")),
    ("*modulation/bias", ("hidden",)),
    ("audio_encoder/*/kernel", ("width", "hidden")),
    ("frame_packer/*/kernel", ("width",)),
)
