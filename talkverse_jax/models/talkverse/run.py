"""Blocks and audio injections in runs of one shape, each compiled once however often it is repeated.

Compiled for a TPU on two cores, one linear layer takes XLA a second or more (2026-11-21): 30 blocks one by one
would take ten minutes. On a CPU they are kept apart: there a scan turns all bfloat16 weights to float32 first.

Shapes: B batch, L tokens, D width.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.core.stack import Stack, fold
from talkverse_jax.models.talkverse.audio import AudioInjection, AudioInjector, AudioTokens
from talkverse_jax.models.talkverse.axes import AXES
from talkverse_jax.models.talkverse.config import RunShape, TalkVerseConfig
from talkverse_jax.models.wan.attention import KeyValues
from talkverse_jax.models.wan.block import Block
from talkverse_jax.ops.attention import Attention

Stream = Float[Array, "B L D"]


class RunConditions(NamedTuple):
    """What a run's blocks and injections need of a clip, along a first axis where there are several."""

    text: KeyValues
    audio: AudioInjection | None


class Run(nnx.Module):
    """`shape.times` repeats of some blocks and an audio injection."""

    def __init__(self, config: TalkVerseConfig, shape: RunShape, attention: Attention, *, rngs, **dtypes):
        self.shape = shape
        self.layout = attention.layout
        blocks = range(shape.block, shape.block + shape.times * shape.length)
        self.blocks = Stack(
            [f"blocks/{i}" for i in blocks],
            lambda rngs: Block(config.trunk, attention, rngs=rngs, **dtypes),
            rngs,
        )
        injectors = range(shape.injection, shape.injection + shape.times)
        self.injectors = nnx.data(
            Stack(
                [f"audio_injectors/{i}" for i in injectors],
                lambda rngs: AudioInjector(config, attention, rngs=rngs, **dtypes),
                rngs,
            )
            if shape.injected
            else None
        )

    def prepare(self, context: Float[Array, "B T D"], sound: AudioTokens) -> RunConditions:
        """What the clip's text and sound are to each block and injection."""
        text = self.blocks.map(lambda block: self._whole(block).cross_attn.key_values(context))
        if self.injectors is None:
            return RunConditions(text, None)
        return RunConditions(text, self.injectors.map(lambda injector: self._whole(injector).prepare(sound)))

    def __call__(
        self,
        x: Stream,
        conditions: RunConditions,
        run_block: Callable[[Block, Stream, KeyValues], Stream],
        inject: Callable[[AudioInjector, Stream, AudioInjection], Stream],
        tap: Callable[[str, Stream], None],
    ) -> Stream:
        """The stream after the run.

        Args:
          tap: called after a block that is a run of its own; the blocks of a longer run cannot be seen.
        """
        length, times = self.shape.length, self.shape.times
        block_def, blocks = nnx.split(self.blocks.layers)
        injector_def, injectors = nnx.split(self.injectors.layers) if self.injectors else (None, None)

        def one_block(x: Stream, item: Any) -> Stream:
            block, text = item
            return run_block(self._whole(nnx.merge(block_def, block)), x, text)

        def one_run(x: Stream, item: Any) -> Stream:
            blocks, text, injector, audio = item
            x = fold(one_block, x, (blocks, text), length)
            if length * times == 1:
                tap(f"block_{self.shape.block}_before_audio", x)
            if injector is None:
                return x
            return inject(self._whole(nnx.merge(injector_def, injector)), x, audio)

        text = conditions.text
        if length > 1 and times > 1:
            nested = lambda leaf: leaf.reshape(times, length, *leaf.shape[1:])  # noqa: E731
            blocks, text = jax.tree.map(nested, (blocks, text))
        x = fold(one_run, x, (blocks, text, injectors, conditions.audio), times)
        if length * times == 1:
            tap(f"block_{self.shape.block}", x)
        return x

    def _whole(self, layer: nnx.Module) -> nnx.Module:
        return self.layout.gathered(layer, AXES)
