"""What a tiny decoder makes small: errors of pixels, of edges and of motion, at three scales.

Shapes: B samples, T frames, H W pixel rows and columns.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped, UInt, UInt8

VAE, TINY = "vae", "tiny_decoder"  # networks
_SCALES = 3  # each half as many rows and columns as the one before
# Weight of a pixel's standard deviation over a window, which is 0 to 1: mouths are small, and matter.
_MOVING = 5.0


class Windows(NamedTuple):
    """A batch.

    Attributes:
      weight: 0 of a window that could not be read.
      ids: epoch and number of the video.
    """

    video: UInt8[Array, "B T H W 3"]
    weight: Float[Array, " B"]
    ids: UInt[Array, "B 2"]


class ShownLoss:
    """The loss of what the network `tiny_decoder` shows of the latents of the network `vae`.

    Args:
      of_vae: it is to show what the VAE shows of them; else what they are of.
    """

    def __init__(self, of_vae: bool):
        self._of_vae = of_vae

    def __call__(
        self, models: Mapping[str, Any], batch: Windows, draw: Key[Array, " B"]
    ) -> tuple[Float[Array, " B"], dict[str, Shaped[Array, " B"]]]:
        del draw  # nothing is random
        video = batch.video.astype(jnp.float32) / 127.5 - 1
        latents = models[VAE].encode(video)
        target = models[VAE].decode(latents) if self._of_vae else video
        latents, target = jax.lax.stop_gradient((latents, target))
        shown, _ = models[TINY].decode_chunk(latents)
        psnr = -10 * jnp.log10(jnp.square(shown - target).mean(axis=(1, 2, 3, 4)) / 4)
        return shown_loss(shown, target), {"psnr": psnr}


def shown_loss(shown: Float[Array, "B T H W 3"], target: Float[Array, "B T H W 3"]) -> Float[Array, " B"]:
    """Mean absolute error, and that of differences with the neighbours below, on the right and in the next frame;
    pixels that move count more. The mean over three scales."""
    weight = 1 + _MOVING * target.std(axis=1, keepdims=True).mean(axis=-1, keepdims=True)
    error, total = shown - target, jnp.zeros(len(target))
    for scale in range(_SCALES):
        if scale:
            error, weight = _halved(error), _halved(weight)
        weighed = weight * error
        total += _size(weighed) + sum(_size(jnp.diff(weighed, axis=axis)) for axis in (1, 2, 3))
    return total / _SCALES


def _size(x: Float[Array, "B _ _ _ 3"]) -> Float[Array, " B"]:
    return jnp.abs(x).mean(axis=(1, 2, 3, 4))


def _halved(x: Float[Array, "B T _ _ C"]) -> Float[Array, "B T _ _ C"]:
    """Means of 2x2 pixels."""
    batch, frames, height, width, channels = x.shape
    return x.reshape(batch, frames, height // 2, 2, width // 2, 2, channels).mean(axis=(3, 5))
