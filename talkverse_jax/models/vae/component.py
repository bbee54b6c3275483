"""Wan's VAEs as components of a family."""

from collections.abc import Callable

from talkverse_jax.models.vae import axes, keys
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.weights.component import Component


def vae22(name: str = "vae") -> Component:
    """That of Wan2.2-TI2V-5B, as a component of that name."""
    return Component(
        name=name,
        config_type=VAEConfig,
        model_type=WanVAE,
        rules=keys.RULES,
        axes=axes.AXES,
        ignored=(),
        real_size=VAEConfig.wan22,
        dtype="float32",
        split=None,
    )


def vae21(name: str = "vae", size: Callable[[], VAEConfig] = VAEConfig.wan21) -> Component:
    """That of Wan2.1; another size has as many levels and blocks, by which its files count."""
    return Component(
        name=name,
        config_type=VAEConfig,
        model_type=WanVAE,
        rules=keys.counted_rules(size()),
        axes=axes.AXES,
        ignored=(),
        real_size=size,
        dtype="float32",
        split=None,
    )
