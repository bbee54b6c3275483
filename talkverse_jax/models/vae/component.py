"""Wan's VAEs as components of a family."""

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


def vae21(name: str = "vae") -> Component:
    """That of Wan2.1; of other sizes, those with as many levels and blocks."""
    return Component(
        name=name,
        config_type=VAEConfig,
        model_type=WanVAE,
        rules=keys.WAN21_RULES,
        axes=axes.AXES,
        ignored=(),
        real_size=VAEConfig.wan21,
        dtype="float32",
        split=None,
    )
