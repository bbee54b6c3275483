"""Logical axes of the tiny decoder's parameters: kernels are split by output channel while at rest."""

from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (("*/kernel", ("width",)), ("*/grow", ("width",)))
