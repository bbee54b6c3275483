"""Softmax attention of global arrays: which kernel, and how it is spread over a mesh.

Shapes: B batch, L queries, S keys, F frames, N heads, K head width.
"""

import dataclasses
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from talkverse_jax.core.errors import UserError
from talkverse_jax.ops.attention import cudnn, flash, splash
from talkverse_jax.ops.attention.context_parallel import shared_attention, whole_attention
from talkverse_jax.ops.attention.frames import first_of_all, own_frame_attention
from talkverse_jax.ops.attention.kernel import Kernel, Segments
from talkverse_jax.ops.attention.tiles import TILES
from talkverse_jax.ops.attention.xla import xla_attention
from talkverse_jax.ops.names import KernelName
from talkverse_jax.sharding.layout import Layout

_FUSED = {"tpu": "flash", "gpu": "cudnn"}


@dataclasses.dataclass(frozen=True)
class Attention:
    """Attention with scale 1/sqrt(K) and softmax in float32; the result has the dtype of the queries.

    Attributes:
      layout: how batch, tokens and heads are split.
      kernel: `auto` is flash on a TPU and cuDNN on a GPU; where those cannot run, xla, and says so once. Where flash
        cannot do something (`flash.takes`, segments), splash does.
    """

    layout: Layout = Layout()
    kernel: KernelName = "auto"

    def self_attention(
        self, q: Float[Array, "B L N K"], k: Float[Array, "B L N K"], v: Float[Array, "B L N K"], tokens: int
    ) -> Float[Array, "B L N K"]:
        """Attention among the first `tokens` of a sequence; the rows of those after them are finite.

        Args:
          q, k, v: split by the layout's `batch`, `tokens` and `heads`; L is divisible by its parts of `tokens`.

        Raises:
          UserError: the chosen kernel cannot run, or the heads cannot be shared so.
        """
        kernel = self._kernel(q)
        if not self._spread:
            return whole_attention(kernel, q, k, v, tokens)
        spec = self._spec(q, "tokens")
        ring, ulysses = self._token_axes(q.shape[2])
        share = functools.partial(shared_attention, kernel, tokens=tokens, ring=ring, ulysses=ulysses)
        return self._shard_map(share, (spec, spec, spec), spec)(q, k, v)

    def cross_attention(
        self,
        q: Float[Array, "B L N K"],
        k: Float[Array, "B S N K"],
        v: Float[Array, "B S N K"],
        segments: Segments | None = None,
    ) -> Float[Array, "B L N K"]:
        """Attention to keys that every device of a sequence holds whole.

        Args:
          q: split by the layout's `batch`, `tokens` and `heads`.
          k, v: split by `batch` and `heads`.
          segments: a query sees the keys of its own segment only; every query has at least one.

        Raises:
          UserError: the chosen kernel cannot run.
        """
        kernel = self._kernel(q)
        if not self._spread:
            return kernel(q, k, v, segments)
        spec, whole = self._spec(q, "tokens"), self._spec(k, None)
        specs: Any = (self.layout.spec("tokens"), PartitionSpec())
        of_segments = segments and Segments(*specs)
        return self._shard_map(kernel, (spec, whole, whole, of_segments), spec)(q, k, v, segments)

    def frame_attention(
        self,
        q: Float[Array, "B L N K"],
        k: Float[Array, "B F S N K"],
        v: Float[Array, "B F S N K"],
        seen: Bool[Array, "B S"] | None,
        frame: int,
    ) -> Float[Array, "B L N K"]:
        """Attention of a video's tokens, `frame` of them a frame, to the keys of their own frame alone; in plain XLA,
        as these are few.

        Args:
          q: split by the layout's `batch`, `tokens` and `heads`; what comes after the last frame is padding.
          k, v: split by `batch` and `heads`.
          seen: the keys of a frame that a sample has; all where None.
        """
        if not self._spread:
            return own_frame_attention(q, k, v, seen, 0, frame)
        spec, axes = self._spec(q, "tokens"), self.layout.axes_of("tokens")
        batch, _, heads, _ = spec

        def share(q, k, v, seen):
            return own_frame_attention(q, k, v, seen, self._start(axes, q.shape[1]), frame)

        whole = PartitionSpec(batch, None, None, heads, None)
        return self._shard_map(share, (spec, whole, whole, PartitionSpec(batch, None)), spec)(q, k, v, seen)

    def first_tokens(self, x: Float[Array, "B L N K"], count: int) -> Float[Array, "B count N K"]:
        """The first tokens of a sequence, whole on all devices that share it.

        Args:
          x: split by the layout's `batch`, `tokens` and `heads`.
        """
        axes = self.layout.axes_of("tokens")
        if not self._spread or not axes:
            return x[:, :count]
        spec = self._spec(x, "tokens")
        batch, _, heads, _ = spec

        def share(x):
            return first_of_all(x, self._start(axes, x.shape[1]), count, axes)

        return self._shard_map(share, (spec,), PartitionSpec(batch, None, heads, None))(x)

    def check(self, dtype: jnp.dtype, head_width: int) -> None:
        """Make sure, before anything is computed, that the kernel can run.

        Raises:
          UserError: it cannot.
        """
        self._kernel(jax.ShapeDtypeStruct((1, 1, 1, head_width), dtype))

    @property
    def _spread(self) -> bool:
        return self.layout.mesh is not None and self.layout.mesh.size > 1

    def _kernel(self, q: Float[Array, "B L N K"] | jax.ShapeDtypeStruct) -> Kernel:
        layout, name = self.layout, self.kernel
        if name == "auto":
            name = _FUSED.get(layout.platform, "xla")
        reason = None
        if name in ("flash", "splash"):
            reason = splash.refusal(layout.platform, q.dtype, q.shape[-1], layout.device_kind)
        elif name == "cudnn":
            reason = cudnn.refusal(layout.platform, q.dtype, q.shape[-1])
        if reason and self.kernel == "auto":
            _say_once(f"attention: xla instead of {name}: {reason}")
            name = "xla"
        elif reason:
            raise UserError(f"--attention {name}: {reason}; choose auto or xla")
        if name in ("flash", "splash"):
            kernel = functools.partial(splash.splash_attention, tiles=TILES[layout.device_kind])
            if name == "splash":
                return kernel
            return functools.partial(flash.flash_attention, blocks=flash.BLOCKS[layout.device_kind], otherwise=kernel)
        return cudnn.cudnn_attention if name == "cudnn" else xla_attention

    def _token_axes(self, heads: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The mesh axes that share a sequence by a ring, and those that do by Ulysses.

        Raises:
          UserError: Ulysses does not divide the heads of a device.
        """
        layout, axes = self.layout, self.layout.axes_of("tokens")
        local = heads // layout.parts("heads") if heads % layout.parts("heads") == 0 else heads
        ulysses = tuple(axis for axis in axes if axis == "ulysses")
        if "ring" not in axes and local % layout.parts("tokens") == 0:
            ulysses = axes
        parts = layout.size(ulysses)
        if local % parts:
            raise UserError(f"mesh: ulysses={parts} does not divide the {local} heads of a device; use a ring")
        return axes[: len(axes) - len(ulysses)], ulysses

    @staticmethod
    def _start(axes: tuple[str, ...], length: int) -> Int[Array, ""] | int:
        """Within shard_map: the number of a device's first token."""
        return jax.lax.axis_index(axes) * length if axes else 0

    def _spec(self, x: Float[Array, "B L N K"], tokens: str | None) -> PartitionSpec:
        """Of queries or keys; a batch or heads that their axes do not divide are not split."""
        layout = self.layout
        if tokens and x.shape[1] % layout.parts(tokens):
            raise ValueError(f"{x.shape[1]} tokens cannot be split into {layout.parts(tokens)}")
        batch = "batch" if x.shape[0] % layout.parts("batch") == 0 else None
        heads = "heads" if x.shape[2] % layout.parts("heads") == 0 else None
        return layout.spec(batch, tokens, heads, None)

    def _shard_map(self, function, in_specs, out_specs):
        # kernels do not say over which axes their results vary
        return jax.shard_map(function, mesh=self.layout.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


@functools.cache
def _say_once(line: str) -> None:
    logging.getLogger(__name__).warning(line)
