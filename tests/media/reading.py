"""A process of its own that reads files, so that a crash, a hang or a hunger for memory of a decoder can be seen.

For each line of its input, "how<tab>path", it writes one: what came of it, and the most memory it ever had, in bytes.
"""

import resource
import sys
import traceback
from collections.abc import Callable

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.audio import open_sound
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.image import read_image
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.media.video_reader import open_video


def sound(path: str) -> None:
    """As of a sound to be spoken."""
    file = open_sound(path)
    assert sum(map(len, file.native())) == file.length
    assert all(np.isfinite(block).all() for block in file.mono(16000))


def picture(path: str) -> None:
    """As of a person's picture."""
    assert read_image(path).dtype == np.uint8


def dubbed(path: str) -> None:
    """As of a video to be dubbed with its own sound."""
    video = SourceVideo(path)
    video.read(0, min(video.frames, 50), (64, 64))
    if video.has_sound:
        sound(path)


def training(path: str) -> None:
    """As of a window to be learnt."""
    with open_video(path) as video:
        start = video.probe().start
        video.pictures(start + np.arange(5) / 25, (64, 64))
        assert np.isfinite(video.sound(start, 5 * 640)).all()


READERS: dict[str, Callable[[str], None]] = {f.__name__: f for f in (sound, picture, dubbed, training)}


def outcome(how: str, path: str) -> str:
    """ "read", "refused" (in one line) or the traceback, in one line."""
    try:
        READERS[how](path)
    except (UserError, BadSample) as error:
        return "refused" if "\n" not in str(error) else f"an error of several lines: {error!r}"
    except BaseException:
        return repr(traceback.format_exc())
    return "read"


def main() -> None:
    for line in sys.stdin:
        result = outcome(*line.rstrip("\n").split("\t", 1))
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(most, result, flush=True)


if __name__ == "__main__":
    main()
