"""Training samples straight from video files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from talkverse_jax.data import masks as roi
from talkverse_jax.data import windows
from talkverse_jax.data.batches import SampleId, WindowShape
from talkverse_jax.data.catalogue import Catalogue, VideoEntry, VideoRules
from talkverse_jax.data.ledger import Listed
from talkverse_jax.data.people import Speaker, speaker
from talkverse_jax.data.windows import Lengths, Window
from talkverse_jax.media.fit import framing
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.video_reader import SAMPLES_A_FRAME, open_video


class RawSample(NamedTuple):
    """A window of a video. T frames of H x W pixels, of which F latent frames are to be learnt; h w latent grid.

    A batch has the same fields with the samples first: `caption`, `name` and `people` as tuples, `id` as uint32 [B, 2],
    `weight` as float32 [B].

    Attributes:
      video: at 25 fps, motion frames first where there are any.
      reference: another frame of the video.
      waveform: (T - 1) x 640 samples at 16 kHz, from the first frame's time on.
      caption: what is seen and heard.
      face, body: 1 in the boxes where the loss counts more, of the frames to be learnt, on the latent grid.
      id: of which everything random about the sample is a function.
      name: the video's.
      weight: in the loss: its data set's, or 0 for a sample that cannot be read (all else is zeros then).
      people: who speaks, where the row has a sound for each; else the waveform is somebody's.
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
    people: tuple[Speaker, ...]


@dataclass(frozen=True)
class RawSource:
    """Random access to the samples of a catalogue. It can be sent to another process.

    Attributes:
      entries: the videos, by sample number.
      roi: whether samples have masks; they are zeros otherwise.
      detector: "module:function" that finds the faces of videos without a keypoint file; their bodies have no
        box.
    """

    entries: Sequence[VideoEntry] | Mapping[int, VideoEntry]
    seed: int
    lengths: Lengths
    roi: bool = False
    detector: str = ""

    @classmethod
    def of(cls, catalogue: Catalogue, rules: VideoRules, seed: int) -> "RawSource":
        """The samples of a catalogue that was made by these rules."""
        return cls(catalogue.entries, seed, rules.lengths, rules.roi, rules.detector)

    @property
    def listed(self) -> list[Listed]:
        """The samples, by number: one a video."""
        entries = self.entries.values() if isinstance(self.entries, Mapping) else self.entries
        return [Listed(entry.identity, entry.name, entry.shape) for entry in entries]

    def numbered(self, places: Mapping[int, int]) -> "RawSource":
        """The same samples under other numbers.

        Args:
          places: which number each had.
        """
        return replace(self, entries={number: self.entries[place] for number, place in places.items()})

    def name(self, sample: int) -> str:
        """Of a sample's video, for messages."""
        return self.entries[sample].video

    def window(self, id: SampleId) -> Window:
        """What the sample shows: a function of the seed and its id."""
        entry = self.entries[id.sample]
        length = self.lengths.window(entry.shape.kind)
        return windows.choose(id.rng(self.seed), entry.scene, length, entry.frames)

    def load(self, id: SampleId, shape: WindowShape) -> RawSample:
        """Read a sample.

        Raises:
          BadSample: it cannot be read.
        """
        entry, window, size = self.entries[id.sample], self.window(id), (shape.height, shape.width)
        first = entry.start + window.start / FPS
        with open_video(entry.video) as video:
            pictures = video.pictures(first + np.arange(window.length) / FPS, size)
            [reference] = video.pictures([entry.start + window.reference / FPS], size)
            waveform = video.sound(first, (window.length - 1) * SAMPLES_A_FRAME)
        face, body = self._masks(entry, window, shape, pictures)
        framed, cell = framing((entry.height, entry.width), size, "crop"), self.lengths.strides.space
        people = tuple(
            speaker(person, window.start / FPS, len(waveform), framed, entry.stretch, cell) for person in entry.people
        )
        return RawSample(pictures, reference, waveform, entry.caption, face, body, id, entry.name, entry.weight, people)

    def _masks(
        self, entry: VideoEntry, window: Window, shape: WindowShape, pictures: UInt8[np.ndarray, "T H W 3"]
    ) -> tuple[UInt8[np.ndarray, "F h w"], UInt8[np.ndarray, "F h w"]]:
        size = (shape.height, shape.width)
        lengths = self.lengths
        chosen = lengths.motion(shape.kind) + roi.target_frames(lengths.num_frames, lengths.latent_frames)
        frames = window.start + chosen
        nowhere = [np.full((len(chosen), 4), np.nan)]
        if not self.roi:
            boxes = nowhere, nowhere
        elif entry.masks:
            stretch = np.tile(entry.stretch[::-1], 2)
            boxes = [
                [
                    roi.scaled(stretch * roi.at_frames(each, frames, entry.frames), entry.height, entry.width, size)
                    for each in np.moveaxis(found, 1, 0)
                ]
                for found in roi.read_boxes(entry.masks)
            ]
        else:
            found = np.asarray(roi.load_detector(self.detector)(pictures[chosen]), np.float64)
            boxes = [roi.scaled(found, *size, size)], nowhere
        cell = lengths.strides.space
        face, body = (np.max([roi.latent_masks(each, size, cell) for each in found], axis=0) for found in boxes)
        return face, body

    def blank(self, id: SampleId, shape: WindowShape) -> RawSample:
        """What stands for a sample that cannot be read."""
        length, cell = self.lengths.window(shape.kind), self.lengths.strides.space
        picture = (shape.height, shape.width, 3)
        grid = np.zeros((self.lengths.latent_frames, shape.height // cell, shape.width // cell), np.uint8)
        return RawSample(
            video=np.zeros((length, *picture), np.uint8),
            reference=np.zeros(picture, np.uint8),
            waveform=np.zeros((length - 1) * SAMPLES_A_FRAME, np.float32),
            caption="",
            face=grid,
            body=grid,
            id=id,
            name=self.entries[id.sample].name,
            weight=0.0,
            people=(),
        )

    @staticmethod
    def stack(samples: Sequence[RawSample]) -> RawSample:
        """A batch: the same fields with the samples first."""
        fields: Any = RawSample._make(zip(*samples))
        pixels = {name: np.stack(getattr(fields, name)) for name in ("video", "reference", "waveform", "face", "body")}
        return fields._replace(**pixels, id=np.array(fields.id, np.uint32), weight=np.array(fields.weight, np.float32))
