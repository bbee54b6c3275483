"""Logical axes of the VAE's parameters: kernels are split by output channel while at rest."""

from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = (("*/kernel", ("width",)),)
