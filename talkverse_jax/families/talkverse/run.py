"""Blocks and audio injections in runs of one pattern, which is compiled once however often it is repeated.

Compiled for a TPU on two cores, one linear layer takes XLA a second or more (2026-11-21): 30 blocks one by one
would take ten minutes. On a CPU they are kept apart: there a scan turns all bfloat16 weights to float32 first.
Each place of the pattern has a stack of its own. (One stack for all, and a scan within a scan, would copy every
weight once more a step: the outer loop cuts out what the inner one reads.)

Shapes: B batch, L tokens, D width.
"""

from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from talkverse_jax.core.stack import Stack, fold
from talkverse_jax.families.talkverse.audio import AudioInjection, AudioInjector, AudioTokens
from talkverse_jax.families.talkverse.axes import AXES
from talkverse_jax.families.talkverse.config import RunShape, TalkVerseConfig
from talkverse_jax.models.wan.attention import KeyValues
from talkverse_jax.models.wan.block import Block
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.names import Remat
from talkverse_jax.ops.remat import rematerialised

Stream = Float[Array, "B L D"]

# What a run needs of a clip: the text of each block, the sound of each injection, by place in the pattern and
# along a first axis where that is repeated.
RunConditions = tuple[KeyValues | AudioInjection, ...]


class Run(nnx.Module):
    """`shape.times` repeats of some blocks and audio injections."""

    def __init__(self, config: TalkVerseConfig, shape: RunShape, attention: Attention, *, rngs, **dtypes):
        kinds = {
            "B": ("blocks", lambda rngs: Block(config.trunk, attention, rngs=rngs, **dtypes)),
            "I": ("audio_injectors", lambda rngs: AudioInjector(config, attention, rngs=rngs, **dtypes)),
        }
        self.shape = shape
        self.layout = attention.layout
        self.stages = nnx.List()
        for position, stage in enumerate(shape.stages):
            name, make = kinds[stage]
            self.stages.append(Stack([f"{name}/{i}" for i in shape.numbers(position)], make, rngs))

    def prepare(self, context: Float[Array, "B T D"], sound: AudioTokens, remat: Remat) -> RunConditions:
        """What the clip's text and sound are to each block and injection."""

        def of_stage(stage: Block | AudioInjector) -> KeyValues | AudioInjection:
            stage = self.layout.gathered(stage, AXES)
            return stage.cross_attn.key_values(context) if isinstance(stage, Block) else stage.prepare(sound)

        return tuple(stack.map(rematerialised(of_stage, remat)) for stack in self.stages)

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
          run_block, inject: gather the layer that they are given.
          tap: called after the stages of a run that is not repeated; those of others cannot be seen.
        """
        split = [nnx.split(stack.layers) for stack in self.stages]
        tap = tap if self.shape.times == 1 else lambda name, x: None

        def repeat(x: Stream, item: tuple[list[nnx.State], RunConditions]) -> Stream:
            block = self.shape.block
            for stage, (graphdef, _), state, of_stage in zip(self.shape.stages, split, *item):
                layer = nnx.merge(graphdef, state)
                x = (run_block if stage == "B" else inject)(layer, x, of_stage)
                tap(f"block_{block}_before_audio" if stage == "B" else f"block_{block}", x)
            if self.shape.stages == "B":
                tap(f"block_{block}", x)
            return x

        items: Any = [state for _, state in split], conditions
        return fold(repeat, x, items, self.shape.times)
