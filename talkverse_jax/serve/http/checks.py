"""The process that looks at clients' files: it decodes them, and tells what would be made of them.

It reads a question a line and writes an answer a line, in JSON. Paths start from the question's folder, so that no
message names one. Only this process of the server imports JAX, for the families; it computes nothing with it.
"""

import base64
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from talkverse_jax.core.errors import UserError, out_of_memory
from talkverse_jax.core.options import build
from talkverse_jax.core.own_process import pipes
from talkverse_jax.helpers.prompt import read_picture
from talkverse_jax.media.audio import open_sound
from talkverse_jax.media.child import confine
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.image import is_video, read_image
from talkverse_jax.media.kinds import KINDS
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.media.walls import AboveLimit, TooLong, Unusable, Walls
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights

_MEMORY = 4 << 30  # bytes, beside those of the program
_NICENESS = 5
_SHAPE = 32  # digits of a digest

Answer = dict[str, Any]


def main() -> None:
    """Be such a process; ends with its input. The first argument names the family."""
    asked, said = pipes()
    os.nice(_NICENESS)
    family = sys.argv[1]
    for module in sys.argv[2:]:  # of families that are no part of the package
        importlib.import_module(module)
    registry.find(family)
    confine(_MEMORY)
    _say(said, {})
    for line in asked:
        _say(said, answer(json.loads(line)))


def _say(said: Any, value: Answer) -> None:
    said.write(json.dumps(value).encode() + b"\n")
    said.flush()


def answer(question: dict[str, Any]) -> Answer:
    """What comes of a question, or `{"fault": ...}`.

    Args:
      question: `do` is a name of `_ANSWERS`; the others are its arguments.
    """
    arguments = dict(question)
    os.chdir(arguments.pop("folder"))
    try:
        return _ANSWERS[arguments.pop("do")](**arguments)
    except TooLong as error:
        return _fault("too_long", error)
    except AboveLimit as error:
        return _fault("too_large", error)
    except Unusable as error:
        return _fault("unusable_media", error)
    except UserError as error:
        return _fault("refused", error)
    except Exception as error:  # of many kinds, in libraries that read damaged files
        what = "takes too much memory" if out_of_memory(error) else f"cannot be read ({type(error).__name__})"
        return _fault("refused", UserError(f"{what}; save the file again, in another format"))


def _fault(code: str, error: UserError) -> Answer:
    return {"fault": {"code": code, "field": error.field, "message": error.reason}}


def _walls(limits: dict[str, Any]) -> Walls:
    return Walls(KINDS["web"], limits["pixels"], limits["seconds"])


def _picture(name: str, limits: dict[str, Any]) -> Answer:
    height, width = read_image(name, walls=_walls(limits)).shape[:2]
    return {"width": width, "height": height}


def _film(name: str, limits: dict[str, Any]) -> Answer:
    if not is_video(name, _walls(limits)):
        return {"fault": {"code": "unsupported_media", "field": None, "message": f"{name}: has no pictures that move"}}
    video = SourceVideo(name, walls=_walls(limits))
    found = {"width": video.width, "height": video.height, "has_sound": video.has_sound}
    return found | {"seconds": video.frames / FPS, "start": video.start}


def _sound(name: str, limits: dict[str, Any], since: float | None = None) -> Answer:
    """Args:
    since: the second of a film's clock at which it begins.
    """
    sound = open_sound(name, since, _walls(limits))
    return {"seconds": sound.duration, "rate": sound.rate}


def _shown(name: str, limits: dict[str, Any]) -> Answer:
    """The picture that an enhancer sees."""
    pixels = read_picture(name, _walls(limits))
    return {"shape": pixels.shape, "pixels": base64.b64encode(pixels.tobytes()).decode()}


def _plan(
    family: str, weights: dict[str, Any], machine: dict[str, Any], files: dict[str, Any], settings: dict[str, Any]
) -> Answer:
    """What video would be made."""
    module = registry.settings_of(family)
    made = build({"files": module.Files, "settings": module.Settings}, files | settings, "request")
    loaded = build({"weights": Weights, "machine": Machine}, weights | machine, "server")
    job = Job.make(family, loaded["weights"], loaded["machine"], made["files"], made["settings"], "video.mp4")
    inputs = registry.find(family).read(job)
    timeline = registry.find(family).timeline(job, inputs)
    height, width = inputs.size
    found = {"width": width, "height": height, "frames": timeline.shown, "clips": timeline.clips}
    shape = hashlib.sha256(repr(inputs.shape).encode()).hexdigest()[:_SHAPE]
    return found | {"seconds": timeline.shown / FPS, "shape": shape, "notices": list(inputs.notices)}


_ANSWERS: dict[str, Callable[..., Answer]] = {
    "picture": _picture,
    "film": _film,
    "sound": _sound,
    "shown": _shown,
    "plan": _plan,
}
