"""What of clients' files a server lets in, as the options of a machine say it. A job keeps with which it was admitted:
its files are decoded within these when it is made, and no other limits after a restart refuse what was accepted."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.serve.options import ServeOptions


def machine_walls(options: ServeOptions) -> dict[str, Any]:
    """Options of `Machine`: for those who read clients' files."""
    return {
        "file_kinds": "web",
        "max_pixels": options.max_image_pixels,
        "max_seconds": math.ceil(options.max_sound_seconds),
    }


def within(machine: Machine, settings: Mapping[str, Any]) -> Machine:
    """The machine with the walls of a job's settings, as far as they have some."""
    names = {each.name for each in dataclasses.fields(Machine)}
    return dataclasses.replace(machine, **{name: value for name, value in settings.items() if name in names})
