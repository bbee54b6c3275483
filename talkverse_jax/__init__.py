"""Talking video of any length in JAX: a picture, a sound and a prompt become a video.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

import importlib
import typing

__version__ = "0.1.0"

if typing.TYPE_CHECKING:
    from talkverse_jax.core.errors import UserError as UserError
    from talkverse_jax.pipeline.clip import Clip as Clip
    from talkverse_jax.pipeline.events import Cancelled as Cancelled
    from talkverse_jax.pipeline.events import Events as Events
    from talkverse_jax.pipeline.job import Job as Job
    from talkverse_jax.run.load import load_pipeline as load_pipeline
    from talkverse_jax.run.worker import make_clips as make_clips
    from talkverse_jax.run.worker import make_video as make_video

_PUBLIC = {
    "Cancelled": "pipeline.events",
    "Clip": "pipeline.clip",
    "Events": "pipeline.events",
    "Job": "pipeline.job",
    "UserError": "core.errors",
    "load_pipeline": "run.load",
    "make_clips": "run.worker",
    "make_video": "run.worker",
}
__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]  # loaded on use, see below


def __getattr__(name: str) -> typing.Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
