"""A family in a package of its own, which registers itself where it is imported."""

from talkverse_jax.pipeline import registry

registry.register("second", __name__)
