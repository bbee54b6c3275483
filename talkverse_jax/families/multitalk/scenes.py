"""The scenes of a video that is followed: where they are cut, and which part of the sound goes with each.

Where the picture jumps, a clip would have to follow two scenes at once; so each is made on its own, and they are
joined.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.source_video import SourceVideo

LEAST = 0.5  # seconds; a shorter scene is none of its own
_INSIDE = 0.05  # seconds at both ends of a scene whose pictures may be of the next one already, or still of the last

_SIDE = 256  # pixels of the longer side of the pictures that are looked at
_BLOCK = 100  # pictures that are read at once


@dataclasses.dataclass(frozen=True)
class SourceScene:
    """A scene of a video that is followed.

    Attributes:
      first, stop: pictures of the video, the last one not counted, that lie well inside.
      begin, end: of the sound, in seconds, which goes with it.
    """

    first: int
    stop: int
    begin: float
    end: float

    def picture(self, frame: int) -> int:
        """Of the video, for a frame of the scene; the last one behind its end."""
        return min(self.first + frame, self.stop - 1)


def find_scenes(video: SourceVideo, seconds: float) -> tuple[SourceScene, ...]:
    """The scenes of a video for so many seconds of sound.

    Raises:
      UserError: the library that finds them is not installed, or the video is damaged.
    """
    return scenes_of(find_cuts(_pictures(video)), video.frames, seconds)


def scenes_of(cuts: Sequence[int], frames: int, seconds: float) -> tuple[SourceScene, ...]:
    """The scenes between cuts, with all of the sound: that of a scene too short to be one goes to the one before, or,
    where that is the first, to the one behind; and what is behind the video's end goes to the last.

    Args:
      cuts: the first picture of each scene but the first.
      frames: of the video, 25 a second.
      seconds: of the sound; scenes behind its end are left out.
    """
    borders = [0, *sorted({cut for cut in cuts if 0 < cut < frames}), frames]
    long = [(start, stop) for start, stop in zip(borders, borders[1:]) if stop - start > LEAST * FPS]
    long = [(start, stop) for start, stop in long if start < seconds * FPS] or [(0, frames)]
    begins = [0.0, *(start / FPS for start, _ in long[1:])]
    return tuple(
        SourceScene(*_inside(start, stop), begin, end)
        for (start, stop), begin, end in zip(long, begins, [*begins[1:], seconds])
    )


def _inside(start: int, stop: int) -> tuple[int, int]:
    """The pictures that are shown well inside; all, where there are few."""
    edge = int(np.ceil(_INSIDE * FPS))
    return (start + edge, stop - edge) if stop - start > 2 * edge else (start, stop)


def find_cuts(pictures: Iterator[UInt8[np.ndarray, "H W 3"]]) -> list[int]:
    """The numbers of the pictures with which a scene begins, but for the first: where colours jump, or do so by more
    than around it, or come out of black.

    Raises:
      UserError: the library that finds them is not installed.
    """
    try:
        import scenedetect  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("needs PySceneDetect: pip install talkverse_jax[scenes]", field="scene_seg") from None
    detectors = [
        scenedetect.ContentDetector(),
        scenedetect.AdaptiveDetector(),
        scenedetect.ThresholdDetector(),
    ]
    cuts, time = set(), None
    for number, picture in enumerate(pictures):
        time, bgr = scenedetect.FrameTimecode(number, float(FPS)), np.ascontiguousarray(picture[..., ::-1])
        for detector in detectors:
            cuts.update(cut.frame_num for cut in detector.process_frame(time, bgr))
    for detector in detectors if time is not None else ():
        cuts.update(cut.frame_num for cut in detector.post_process(time))
    return sorted(cuts)


def _pictures(video: SourceVideo) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The pictures of a video, small."""
    share = min(1.0, _SIDE / max(video.height, video.width))
    size = (max(1, round(video.height * share)), max(1, round(video.width * share)))
    for first in range(0, video.frames, _BLOCK):
        yield from video.read(first, min(_BLOCK, video.frames - first), size)
