"""Wan's VAEs as components of a family."""

from collections.abc import Callable

from talkverse_jax.models.vae import axes, keys
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import Origin, Repository
from talkverse_jax.weights.published_files import Safetensors, TorchFile

_PREFIXES = ("vae.", "first_stage_model.")  # in ComfyUI's files of several models


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
        prefixes=_PREFIXES,
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
        prefixes=_PREFIXES,
    )


def vae_origin(repository: Repository, file: str, file_flag: str | None = None) -> Origin:
    """Its file beside a model of Wan's, and in diffusers' repositories."""
    diffusers = Safetensors("diffusion_pytorch_model", inside="vae")
    return Origin(repository, TorchFile(file), file_flag=file_flag, diffusers=diffusers)
