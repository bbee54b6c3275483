"""Videos to measure, made from weights: the people of a set, each with a first picture, a sound and a caption."""

from pathlib import Path

from talkverse_jax.core import presets
from talkverse_jax.core.config import from_dict
from talkverse_jax.core.paths import existing_file, new_folder
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.run.sample_options import SampleOptions
from talkverse_jax.run.worker import sample


def speak(weights: str, metadata: str, config: str | None, folder: str | Path) -> list[SampleOptions]:
    """Make the videos of a set: its pictures say its sounds, with its captions as prompts.

    Args:
      metadata: a CSV as of training data; beside each video lies its first picture, NAME.png.
      config: a `sample.py` config whose settings are used; picture, sound and prompt are those of the set.
      folder: for the videos.

    Returns:
      What each was made with.

    Raises:
      UserError: a file is missing or cannot be used.
    """
    settings, target, made = presets.read(config) if config else {}, new_folder(folder), []
    for row in read_metadata([metadata], str(Path(metadata).parent)):
        picture = existing_file(Path(row.video).with_suffix(".png"), "the picture of a person of the set")
        own = {
            "weights": weights,
            "image": str(picture),
            "audio": row.video,
            "prompt": row.caption,
            "output": str(target / f"{row.name}.mp4"),
        }
        made.append(from_dict(SampleOptions, settings | own, config or "--weights"))
        sample(made[-1])
    return made
