"""Encoded training samples of random numbers, small enough for a CPU."""

import numpy as np

from talkverse_jax.core.config import load_toml
from talkverse_jax.diffusion.loss import Dropouts
from talkverse_jax.models.talkverse.config import TalkVerseConfig
from talkverse_jax.pipelines.components import ModelConfigs
from talkverse_jax.training.batch import TrainingBatch
from tests.conftest import CONFIGS

FRAMES, GRID = 2, 8
NO_DROPOUT = Dropouts(0, 0, 0, 0)


def tiny_config() -> TalkVerseConfig:
    return load_toml(ModelConfigs, CONFIGS / "model_tiny.toml").dit


def random_batch(config: TalkVerseConfig, samples: int, seed: int = 0) -> TrainingBatch:
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


def some(batch: TrainingBatch, part: slice) -> TrainingBatch:
    """Some of a batch's samples."""
    return TrainingBatch(*(x if name == "null_text" else x[part] for name, x in batch._asdict().items()))
