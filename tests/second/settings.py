"""What a person may set of the second family. Imports no JAX."""

import dataclasses
from collections.abc import Sequence

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option
from talkverse_jax.diffusion.names import SolverName
from talkverse_jax.media import buckets
from talkverse_jax.pipeline.request import RequestTable, SpeakerFiles

BUCKET = "second-32"
buckets.register(BUCKET, {1.0: (32, 32), 0.67: (32, 48)})


def of_person(picture: str, sound: str, caption: str) -> dict[str, object]:
    """The options of a video in which the person of a picture says a sound."""
    return {"portrait": picture, "sounds": [sound, sound], "scene": caption}


def of_request(image: str, people: Sequence[SpeakerFiles]) -> dict[str, object]:
    """The options of a video that is asked for by a request; one person's sound is both."""
    sounds = [person.sound for person in people]
    return {"portrait": image, "sounds": sounds * 2 if len(sounds) == 1 else sounds}


REQUEST = RequestTable(
    of_request,
    own_names={
        "prompt": "scene",
        "sample_solver": "solver",
        "num_inference_steps": "steps",
        "guidance_scale": "text_scale",
    },
)


@dataclasses.dataclass(frozen=True)
class Files:
    """What a video is made of."""

    portrait: str = option("picture", group="input", metavar="FILE", decides=True)
    sounds: tuple[str, ...] = option("two voices", group="input", metavar="FILE", decides=True)

    def __post_init__(self):
        if len(self.sounds) != 2:
            raise UserError(f"{len(self.sounds)} given; give two", field="sounds")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a video is made."""

    scene: str = option("what is seen", group="input", metavar="TEXT", default="", decides=True)
    clip_frames: int = option("frames a clip, 1 more than a multiple of 4", group="video", default=13, decides=True)
    overlap: int = option(
        "frames that a clip has of the one before, likewise", group="video", default=5, decides=True, least=1
    )
    solver: SolverName = option("solver", group="sampling", default="euler", decides=True)
    steps: int = option("denoising steps", group="sampling", default=2, decides=True, least=1)
    text_scale: float = option("guidance by the scene", group="sampling", default=3.0, decides=True)
    sound_scale: float = option("guidance by the sounds", group="sampling", default=2.0, decides=True)
    skip: bool = option("leave the blocks out of every second step", group="sampling", default=False, decides=True)
    base_seed: int = option("-1 draws one", group="sampling", default=-1, alias="seed")

    def __post_init__(self):
        check_bounds(self)
        if self.clip_frames <= self.overlap:
            raise UserError(f"{self.clip_frames}: give {self.overlap + 1} or more", field="clip_frames")


@dataclasses.dataclass(frozen=True)
class WindowSettings:
    """What a sample is made of."""

    overlap: int = option("first frames of a window, which are known", group="input", default=5)


@dataclasses.dataclass(frozen=True)
class TrainingSettings(WindowSettings):
    """How the model is trained."""

    dropout: float = option("how often words, and sounds, are left out", group="loss", default=0.1)

    @property
    def raised_rate(self) -> float:
        return 1.0


@dataclasses.dataclass(frozen=True)
class Sources:
    """The published files."""

    base_dir: str | None = option("the folder of nobody/second", group="from", metavar="DIR", default=None)
    adapter: str | None = option("the file second.safetensors (net)", group="from", metavar="FILE", default=None)
