"""Short runs of `train.py` on real videos, small enough for a CPU: two blocks, windows of 8 frames after 73."""

import dataclasses
from pathlib import Path

import numpy as np

from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core import tree
from talkverse_jax.families.talkverse import settings as family_settings
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.training.checkpoint import Checkpoints
from talkverse_jax.training.options import TrainOptions
from tests.conftest import CONFIGS
from tests.published import converted
from tests.videos import write_dataset

TINY = FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")
SMALL = dataclasses.replace(
    TINY,
    dit=dataclasses.replace(
        TINY.dit, trunk=dataclasses.replace(TINY.dit.trunk, num_layers=2), audio_inject_layers=(1,)
    ),
)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the published files, the converted weights (pairs beside them) and the videos are."""

    published: dict[str, str]
    weights: Path
    data: Path

    def options(self, output: Path, **changes) -> TrainOptions:
        """Three steps of two samples each, all of which move the parameters."""
        values = dict(
            weights=str(self.weights),
            output_path=str(output),
            dataset_metadata_path=(str(self.data / "metadata.csv"),),
            dataset_base_path=str(self.data),
            size_bucket="tiny-128",
            num_frames=8,
            num_workers=0,
            dtype="float32",
            remat="none",
            learning_rate=1e-3,
            warmup_steps=0,
            batch_size=2,
            max_steps=3,
            log_interval=1,
            use_tensorboard=False,
        )
        return TrainOptions.build(family_settings, values | changes, "here")

    def convert(self, output: Path, trained: Path | str, *components: str) -> Path:
        """Convert the base model with a trained file."""
        flags = self.published | {"lora_ckpt": str(trained)}
        return converted(output, SMALL, flags, components=components, dtype="float32")


def make(folder: Path) -> Place:
    """All of it, in a few seconds."""
    files = {name: str(path) for name, path in write_random_checkpoint(FAMILY, folder / "published", SMALL, 0).items()}
    converted(folder / "weights", SMALL, files, dtype="float32", lora_merge=False)
    write_dataset(folder / "data", videos=5, seconds=[4.0, 4.6])
    return Place(files, folder / "weights", folder / "data")


def saved(output: Path, step: int) -> tree.Flat:
    """All arrays of a checkpoint, by name."""
    checkpoints = Checkpoints(output / "checkpoints", read_only=True)
    return {name: np.asarray(x) for name, x in checkpoints.read_state(step, checkpoints.arrays(step)).items()}
