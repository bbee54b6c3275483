"""Windows of videos, of their pictures alone: what is said meanwhile, or that nothing is, does not matter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data.batches import SampleId, WindowShape
from talkverse_jax.data.catalogue import Catalogue, VideoRules, accept
from talkverse_jax.data.raw import RawSample, RawSource
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.data.windows import Lengths
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.video_reader import open_video
from talkverse_jax.models.vae.config import Strides
from talkverse_jax.training.decoder.options import DecoderOptions
from talkverse_jax.training.videos import look_at


@dataclass(frozen=True)
class PictureSource(RawSource):
    """The samples of a catalogue, blank but for their video and weight."""

    def load(self, id: SampleId, shape: WindowShape) -> RawSample:
        entry, window = self.entries[id.sample], self.window(id)
        times = entry.start + (window.start + np.arange(window.length)) / FPS
        with open_video(entry.video) as video:
            pictures = video.pictures(times, (shape.height, shape.width))
        return self.blank(id, shape)._replace(video=pictures, weight=entry.weight)


def open_windows(
    options: DecoderOptions, files: Sequence[str], name: str, strides: Strides, skipped: Skipped, reporter: Reporter
) -> tuple[Catalogue, PictureSource]:
    """What the videos of some metadata give.

    Args:
      name: of the file in the run's folder that keeps what was seen of them.

    Raises:
      UserError: the metadata cannot be used, too many videos cannot, or none is left.
    """
    rules = VideoRules(options.size_bucket, Lengths(options.num_frames, 1, True, strides=strides))
    cache = Path(options.output_path) / f"{name}.jsonl"
    found, _ = look_at(files, options.dataset_base_path, rules, options.seed, cache, skipped, reporter)
    accept(cache)
    return found, PictureSource(found.entries, options.seed, rules.lengths)


def cropped(video: UInt8[np.ndarray, "T H W 3"], size: int, rng: np.random.Generator) -> UInt8[np.ndarray, "T _ _ 3"]:
    """A part of the pictures, at most `size` rows and columns, the middle more often than the sides: faces are there.
    Half of them are mirrored."""
    height, width = video.shape[1:3]
    y, x = (int(rng.integers(0, max(0, n - size) + 1, 2).sum()) // 2 for n in (height, width))
    part = video[:, y : y + size, x : x + size]
    return part[:, :, ::-1] if rng.integers(2) else part
