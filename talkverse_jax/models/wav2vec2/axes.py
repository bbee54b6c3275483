from talkverse_jax.sharding.layout import ParameterAxes

AXES: ParameterAxes = ()
