"""Tiny decoders as components of a family, and where they are published."""

from collections.abc import Callable, Mapping

from talkverse_jax.core.errors import UserError
from talkverse_jax.models.tiny_decoder import axes, keys
from talkverse_jax.models.tiny_decoder.config import TinyDecoderConfig
from talkverse_jax.models.tiny_decoder.model import TinyDecoder
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.published import Origin, Repository
from talkverse_jax.weights.published_files import TorchFile

NAME = "tiny_decoder"  # of the component, and of the flag that names its file


def tiny_decoder(size: Callable[[], TinyDecoderConfig]) -> Component:
    """The one for a VAE's latents; other sizes have as many levels and blocks, by which its files count."""
    return Component(
        name=NAME,
        config_type=TinyDecoderConfig,
        model_type=TinyDecoder,
        rules=keys.rules(size()),
        axes=axes.AXES,
        ignored=keys.IGNORED,
        real_size=size,
        dtype="float32",
        split=None,
        optional=True,
        adapt=_shorter,
    )


def tiny_decoder_origin(file: str) -> Origin:
    """Its file, which lies in no folder of Wan's."""
    return Origin(Repository(NAME, "madebyollin/taehv"), TorchFile(file), file_flag=NAME)


def _shorter(tensors: Mapping[str, Tensor], config: TinyDecoderConfig) -> Mapping[str, Tensor]:
    """The same, where the file can make more frames than the model does: of them it makes the last."""
    found = dict(tensors)
    for level, sizes in enumerate(config.levels):
        name, rows = keys.growth(config, level), sizes.time * sizes.dim
        if name in found and found[name].shape[0] > rows and found[name].shape[0] % rows == 0:
            found[name] = found[name][-rows:]
    return found


def check_tiny_decoder(config: TinyDecoderConfig | None, z_dim: int, strides: tuple[int, int]) -> None:
    """Make sure that a tiny decoder, where there is one, is for the latents of a VAE.

    Args:
      z_dim: the VAE's latent channels.
      strides: pixel frames a latent frame of it, and pixel rows a latent row.

    Raises:
      UserError: it is not.
    """
    if config is None:
        return
    own, wanted = (config.z_dim, config.time_stride, config.space_stride), (z_dim, *strides)
    if own != wanted:
        told = ["{} latent channels, {} frames and {} pixels a latent".format(*sizes) for sizes in (own, wanted)]
        raise UserError(f"the tiny decoder is for {told[0]}, the VAE has {told[1]}; give one for this VAE")
