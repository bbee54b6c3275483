"""What a server lets in, as the options of a machine say it."""

import math
from typing import Any

from talkverse_jax.serve.options import ServeOptions


def machine_walls(options: ServeOptions) -> dict[str, Any]:
    """Options of `Machine`: for those who read clients' files."""
    return {
        "file_kinds": "web",
        "max_pixels": options.max_image_pixels,
        "max_seconds": math.ceil(options.max_sound_seconds),
    }
