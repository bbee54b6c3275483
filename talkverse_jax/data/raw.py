"""A training sample as it comes from a video file."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from talkverse_jax.data.batches import SampleId


class RawSample(NamedTuple):
    """A window of a video. T frames of H x W pixels, of which F latent frames are to be learnt; h = H/16.

    A batch has the same fields with the samples first: `caption` and `name` as tuples, `id` as uint32 [B, 2].

    Attributes:
      video: at 25 fps, motion frames first where there are any.
      reference: another frame of the video.
      waveform: (T - 1) x 640 samples at 16 kHz, from the first frame's time on.
      caption: what is seen and heard.
      face, body: 1 in the boxes where the loss counts more, of the frames to be learnt, on the latent grid.
      id: of which everything random about the sample is a function.
      name: the video's.
      weight: in the loss: 1, or 0 for a sample that cannot be read (all else is zeros then).
    """

    video: UInt8[np.ndarray, "T H W 3"]
    reference: UInt8[np.ndarray, "H W 3"]
    waveform: Float32[np.ndarray, " n"]
    caption: str
    face: UInt8[np.ndarray, "F h w"]
    body: UInt8[np.ndarray, "F h w"]
    id: SampleId
    name: str
    weight: float
