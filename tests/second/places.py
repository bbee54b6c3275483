"""What the tests of the second family share: published files, converted weights, two sounds, videos."""

import dataclasses
from pathlib import Path

import numpy as np
import soundfile

from talkverse_jax.cli import main
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.pipeline import registry
from tests.videos import write_dataset

FACE = Path(__file__).parents[2] / "assets" / "face.png"


@dataclasses.dataclass(frozen=True)
class Place:
    """Attributes:
    published: flags that name the files.
    weights: converted, ready to be exported again.
    sounds: two voices of 1.16 s and 1.0 s: 29 frames, which three clips of 13 cover.
    data: metadata of two videos of 32 frames.
    """

    published: dict[str, Path]
    weights: Path
    sounds: list[str]
    data: Path


def make(folder: Path) -> Place:
    family = registry.find("second")
    published = write_random_checkpoint(family, folder / "published", family.real_size(), seed=0)
    run("convert", family="second", **published, output=folder / "weights", dtype="keep", lora_merge="false")
    sounds = []
    for name, seconds, pitch in (("a", 1.16, 220.0), ("b", 1.0, 330.0)):
        times = np.arange(round(seconds * 16_000)) / 16_000
        sounds.append(str(folder / f"{name}.wav"))
        soundfile.write(sounds[-1], 0.4 * np.sin(2 * np.pi * pitch * times), 16_000)
    data = write_dataset(folder / "data", videos=2, seconds=1.28, size=(64, 64), masks=False)
    return Place(published, folder / "weights", sounds, data)


def run(command: str, *positional, **flags) -> None:
    """`talkverse-jax COMMAND`, in this process."""
    words = [str(word) for word in positional]
    for name, value in flags.items():
        words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    main.run([command, *words])
