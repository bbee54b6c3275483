"""The transformer in training, and encoded samples of random numbers for it."""

import dataclasses

import jax
import numpy as np

from talkverse_jax.core import tree
from talkverse_jax.families.multitalk.axes import AXES
from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.training import TRAINING, MultiTalkBatch, MultiTalkLoss
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.network import NetworkSettings, abstract, divide
from talkverse_jax.training.optimizer import Rates, make_optimizer
from talkverse_jax.training.state import States, start
from talkverse_jax.training.step import Phase, Trained, TrainingStep
from talkverse_jax.training.strategy import Strategy
from tests.families.multitalk.small import SMALL, masks
from tests.tiny import random_values

FRAMES, GRID, ROWS = 4, 8, 12  # latent frames, rows and columns of latents, rows of sound
TAKEN_OVER = 2  # latent frames: 5 frames
INFINITE = dataclasses.replace(SMALL, recipe="infinitetalk")
PLAIN = MultiTalkLoss(TAKEN_OVER)


def random_batch(samples: int, config: MultiTalkConfig = SMALL, *, speakers: int = 2, seed: int = 0) -> MultiTalkBatch:
    """Sample i is the same in every batch: even ones are first clips, each third one of one person."""

    def one(sample: int) -> MultiTalkBatch:
        rng = np.random.default_rng([seed, sample])
        normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
        bits = lambda: (rng.random((FRAMES - 1, GRID, GRID)) < 0.2).astype(np.uint8)  # noqa: E731
        trunk, alone = config.trunk, sample % 3 == 0 or speakers == 1
        audio = normal(speakers, ROWS, config.audio_layers, config.audio_dim)
        audio[1:] *= not alone
        return MultiTalkBatch(
            latents=normal(FRAMES, GRID, GRID, trunk.out_channels),
            known=normal(FRAMES, GRID, GRID, trunk.out_channels),
            image=normal(5, config.image_dim),
            audio=audio,
            first=np.array([sample % 2 == 0], np.uint8),
            alone=np.array([alone], np.uint8),
            places=np.asarray(masks(speakers, GRID, GRID)).astype(np.uint8),
            text=normal(trunk.text_len, trunk.text_dim),
            face=bits(),
            body=bits(),
            null_text=np.ones((trunk.text_len, trunk.text_dim), np.float32),
            weight=np.float32(1),
            ids=np.array([seed, sample], np.uint32),
        )

    parts = [one(i) for i in range(samples)]
    stacked = MultiTalkBatch(*(np.stack(values) for values in zip(*parts)))
    return stacked._replace(null_text=parts[0].null_text)


def begin(
    strategy: str = "lora",
    layout: Layout = Layout(),
    *,
    config: MultiTalkConfig = SMALL,
    loss: MultiTalkLoss = PLAIN,
    rate: float = 1e-3,
    **settings,
) -> tuple[TrainingStep, States]:
    """The programs and the first state; the parameters' numbers depend on their paths alone."""
    chosen = Strategy.of(strategy, TRAINING.trainable, config)
    settings = dict(rank=4, alpha=8.0, dtype="float32", remat="none") | settings
    module = abstract(COMPONENTS["dit"], config, NetworkSettings(chosen, **settings), layout)
    place = layout.parameter_sharding(AXES) if layout.mesh else lambda *_: None
    values = {path: jax.device_put(x, place(path, x.shape)) for path, x in random_values(module).items()}
    network, params = divide(tree.with_parameters(module, values), chosen, layout)
    rule = make_optimizer(network.groups, Rates(base=rate, warmup=0), "adamw")
    states = {"dit": start(params, rule, False)}
    return TrainingStep({"dit": Trained(network, rule, 0.0)}, [Phase("dit", loss)], states, seed=0), states


def put(layout: Layout, batch: MultiTalkBatch) -> MultiTalkBatch:
    """The batch on the devices of a layout, its samples split."""
    parts = {n: layout.put(x, "batch") for n, x in batch._asdict().items() if n != "null_text"}
    return MultiTalkBatch(**parts, null_text=layout.put(batch.null_text))
