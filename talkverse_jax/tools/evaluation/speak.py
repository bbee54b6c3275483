"""Videos to measure, made from weights: the people of a set, each with a first picture, a sound and a caption."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from talkverse_jax.core import compile_cache
from talkverse_jax.core.config import from_dict, read_toml
from talkverse_jax.core.paths import existing_file, new_folder
from talkverse_jax.data.metadata import Row, read_metadata
from talkverse_jax.pipelines.sample import sample
from talkverse_jax.pipelines.sample_options import SampleOptions


@dataclasses.dataclass(frozen=True)
class Made:
    """A video of a set, made by the model.

    Attributes:
      video: the file.
      picture: what it was made from.
    """

    video: Path
    picture: Path


def speak(weights: str, metadata: str, config: str | None, folder: str | Path) -> Iterator[Made]:
    """Make the videos of a set one by one: its pictures say its sounds, with its captions as prompts.

    Args:
      metadata: a CSV as of training data; beside each video lies its first picture, NAME.png.
      config: a `sample.py` config whose settings are used; picture, sound and prompt are those of the set.
      folder: for the videos.

    Raises:
      UserError: a file is missing or cannot be used.
    """
    settings = read_toml(config) if config else {}
    target = new_folder(folder)
    compile_cache.enable()
    for row in read_metadata([metadata], str(Path(metadata).parent)):
        picture = existing_file(Path(row.video).with_suffix(".png"), "the picture of a person of the set")
        video = sample(_options(settings, weights, row, picture, target / f"{row.name}.mp4", config or "defaults"))
        yield Made(video, picture)


def clip_frames(config: str | None) -> int:
    """Frames of a clip of the videos that `speak` makes by this config."""
    settings = read_toml(config) if config else {}
    fields = {field.name: field.default for field in dataclasses.fields(SampleOptions)}
    return settings.get("infer_frames", fields["infer_frames"])


def _options(
    settings: dict[str, Any], weights: str, row: Row, picture: Path, output: Path, where: str
) -> SampleOptions:
    own = {"image": str(picture), "audio": row.video, "prompt": row.caption, "output": str(output)}
    return from_dict(SampleOptions, settings | own | {"weights": weights}, where)
