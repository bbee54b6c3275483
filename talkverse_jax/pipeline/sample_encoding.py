"""What the encoders of all families' training samples share: captions and pictures, on this process's devices alone.

Shapes: B samples, T frames of H W pixels, F latent frames, h w latent grid, C latent channels.
"""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from talkverse_jax.media.fit import to_unit
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.encoders import TextEncoder
from talkverse_jax.pipeline.residency import host_device
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.pictures import PICTURES, split_for

_CAPTIONS = 64  # kept encoded: 4 MB each at most


class CaptionEncoder:
    """Captions to hidden states, one by one, each once while it is remembered.

    Args:
      text_len: rows of the result, D wide.
      dtype: of the result.
      on_cpu: the text encoder lies there.
    """

    def __init__(self, text: TextEncoder, text_len: int, dtype, *, on_cpu: bool = False):
        self.text, self.text_len, self.dtype, self._on_cpu = text, text_len, dtype, on_cpu
        self._known: OrderedDict[str, Float[np.ndarray, "tokens D"]] = OrderedDict()

    def __call__(self, captions: Sequence[str]) -> Float[np.ndarray, "B text_len D"]:
        """Zero behind each caption's end; what is longer is cut."""
        states = np.zeros((len(captions), self.text_len, self.text.model.config.dim), self.dtype)
        for row, caption in zip(states, captions):
            if caption not in self._known:
                with on_cpu(self._on_cpu), jax.default_matmul_precision(precision(self.dtype)):
                    encoded = self.text.encode([caption], self.text_len)
                kept = np.asarray(encoded.states)[0, : encoded.lengths[0]]
                self._known[caption] = kept.astype(self.dtype)
            self._known.move_to_end(caption)
            if len(self._known) > _CAPTIONS:
                self._known.popitem(last=False)
            kept = self._known[caption]
            row[: len(kept)] = kept
        return states


def encode_latents(
    vae: WanVAE, video: UInt8[np.ndarray, "B T H W 3"], shown: Int[np.ndarray, " B"] | None = None
) -> Float[Array, "B F h w C"]:
    """The latents of videos, by as many devices as divide the pictures.

    Args:
      shown: how many frames of each are; the others are grey. All of them by default.
    """
    stride = vae.config.space_stride
    split = split_for(vae.layout, len(video), video.shape[2] // stride, video.shape[3] // stride)
    return _encode_pictures(vae, split.put(video, *PICTURES), None if shown is None else split.put(shown))


@jax.jit
def _encode_pictures(
    vae: WanVAE, video: UInt8[Array, "B T H W 3"], shown: Int[Array, " B"] | None
) -> Float[Array, "B F h w C"]:
    unit = to_unit(video)
    if shown is not None:
        seen = jnp.arange(video.shape[1]) < shown[:, None]
        unit = jnp.where(seen[:, :, None, None, None], unit, 0)
    return vae.encode(unit)


def precision(dtype) -> str:
    """Of float32 products, on accelerators, where results are kept in `dtype`."""
    return "highest" if jnp.dtype(dtype) == jnp.float32 else "high"


def local_mesh() -> Mesh | None:
    """Over the accelerators of this process; of CPU devices the first is taken."""
    devices = jax.local_devices()
    if len(devices) == 1 or devices[0].platform == "cpu":
        return None
    return make_mesh(MeshConfig(data=-1), devices, heads=1)


def on_cpu(wanted: bool):
    """Where arrays are made that name no device: on the CPU, or as usual."""
    return jax.default_device(host_device()) if wanted else nullcontext()
