"""A transformer of two blocks in training, and encoded samples of random numbers for it."""

import dataclasses

import jax
import numpy as np

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse.axes import AXES
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.config import TalkVerseConfig
from talkverse_jax.families.talkverse.training import TRAINING, Dropouts, FlowMatching, TrainingBatch
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training.network import Network, NetworkSettings, abstract, divide
from talkverse_jax.training.optimizer import Rates, make_optimizer
from talkverse_jax.training.state import States, TrainState, start
from talkverse_jax.training.step import Metrics, Phase, Samples, Sums, Trained, TrainingStep
from talkverse_jax.training.strategy import Strategy
from tests.tiny import TINY, random_values

FRAMES, GRID = 2, 8
NO_DROPOUT = Dropouts(0, 0, 0, 0)
PLAIN = FlowMatching(NO_DROPOUT)
RATES = Rates(base=1e-3, warmup=0)
SMALL = dataclasses.replace(
    TINY, trunk=dataclasses.replace(TINY.trunk, num_layers=2), audio_inject_layers=(0,), audio_layers=3
)


class OneNetwork:
    """The steps of the transformer alone, by its own state."""

    def __init__(self, step: TrainingStep):
        self.step = step

    @property
    def network(self) -> Network:
        return self.step.networks["dit"].network

    def add_gradients(self, params: tree.Flat, batch: TrainingBatch, sums: Sums | None = None) -> tuple[Sums, Samples]:
        states: States = {"dit": TrainState(params, (), jax.numpy.int32(0), None)}
        return self.step.add_gradients(0, states, batch, sums)

    def update(self, state: TrainState, sums: Sums, limit: float = np.inf) -> tuple[TrainState, Metrics]:
        states, metrics = self.step.update(0, {"dit": state}, sums, limit)
        return states["dit"], metrics


def begin(
    strategy: str = "lora",
    layout: Layout = Layout(),
    *,
    config: TalkVerseConfig = SMALL,
    loss: FlowMatching = PLAIN,
    seed: int = 0,
    ema: float = 0.0,
    rates: Rates = RATES,
    optimizer: str = "adamw",
    **settings,
) -> tuple[OneNetwork, TrainState]:
    """The programs and the first state; the parameters' numbers depend on their paths alone."""
    chosen = Strategy.of(strategy, TRAINING.trainable, config)
    settings = dict(rank=4, alpha=8.0, dtype="float32", remat="none") | settings
    module = abstract(COMPONENTS["dit"], config, NetworkSettings(chosen, **settings), layout)
    place = layout.parameter_sharding(AXES) if layout.mesh else lambda *_: None
    values = {path: jax.device_put(x, place(path, x.shape)) for path, x in random_values(module).items()}
    if settings["dtype"] != "float32":
        values = {p: x if chosen.trains(p) else x.astype(settings["dtype"]) for p, x in values.items()}
    network, params = divide(tree.with_parameters(module, values), chosen, layout)
    rule = make_optimizer(network.groups, rates, optimizer)
    state = start(params, rule, ema > 0)
    trained = {"dit": Trained(network, rule, ema)}
    return OneNetwork(TrainingStep(trained, [Phase("dit", loss)], {"dit": state}, seed=seed)), state


def random_batch(samples: int, seed: int = 0, config: TalkVerseConfig = SMALL) -> TrainingBatch:
    """Samples of two latent frames of 8x8; sample i is the same in every batch."""

    def one(sample: int) -> TrainingBatch:
        rng = np.random.default_rng([seed, sample])
        normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
        trunk = config.trunk
        grid = (FRAMES, GRID, GRID)
        return TrainingBatch(
            target=normal(*grid, trunk.in_channels),
            motion=normal(config.motion_latent_frames, GRID, GRID, trunk.in_channels),
            reference=normal(1, GRID, GRID, trunk.in_channels),
            audio=normal(4 * FRAMES, config.audio_layers, config.audio_dim),
            text=normal(trunk.text_len, trunk.text_dim),
            null_text=np.ones((trunk.text_len, trunk.text_dim), np.float32),
            face=(rng.random(grid) < 0.05).astype(np.uint8),
            body=(rng.random(grid) < 0.5).astype(np.uint8),
            weight=np.float32(1),
            ids=np.array([seed, sample], np.uint32),
        )

    parts = [one(i) for i in range(samples)]
    stacked = TrainingBatch(*(np.stack(values) for values in zip(*parts)))
    return stacked._replace(null_text=parts[0].null_text)


def only(batch: TrainingBatch, sample: int) -> TrainingBatch:
    """One of a batch's samples, in its slot; the other slots are empty."""
    keep = (np.arange(len(batch.weight)) == sample).astype(np.uint8)
    return TrainingBatch(
        *(x if name == "null_text" else (x.T * keep).T.astype(x.dtype) for name, x in batch._asdict().items())
    )
