"""The files that a video is made of, read and checked before any model is loaded."""

import dataclasses
from collections.abc import Hashable

import numpy as np
from jaxtyping import Bool, UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.multitalk import input_json
from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.config import MultiTalkConfig, Recipe
from talkverse_jax.families.multitalk.masks import Cells, read_masks
from talkverse_jax.families.multitalk.scenes import SourceScene, find_scenes
from talkverse_jax.families.multitalk.settings import Files, Settings
from talkverse_jax.families.multitalk.voices import Excerpt, Mix, Voice, read_voices
from talkverse_jax.media.buckets import frame_size
from talkverse_jax.media.fit import Framing, framing
from talkverse_jax.media.image import is_video, read_framed
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.pipeline.job import Job
from talkverse_jax.weights import store

# Settings that videos may have each its own and be denoised together all the same.
_OWN = {"prompt", "negative_prompt", "audio_type", "size_bucket", "mode", "max_frames", "length", "source_frames"}
_OWN |= {"scene_seg", "audio_window", "sample_shift", "size", "num_clip", "seconds"}


@dataclasses.dataclass(frozen=True)
class MultiTalkInputs:
    """A picture, or a video, and a sound for each person in it.

    Attributes:
      picture: of the video's size; the first one of a video.
      video: None where a picture was given.
      masks: where each person is, and the background, on the grid of latents.
      voices: what each person says, all of one length.
      track: the voices together, of the whole video.
      scenes: of the video, each of which is made on its own; none where all is one.
      scene: the one that this is of.
      shape: what must be the same to be denoised together.
      notices: lines to show the user: what was done to the files.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    video: SourceVideo | None
    masks: Bool[np.ndarray, "C h w"]
    voices: tuple[Voice | Excerpt, ...]
    track: Mix
    shape: Hashable
    notices: tuple[str, ...]
    scenes: tuple[SourceScene, ...] = ()
    scene: SourceScene | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the video that is made."""
        height, width = self.picture.shape[:2]
        return height, width

    @property
    def seconds(self) -> float:
        """Of the video, but for what settings cut; to order jobs by."""
        return self.track.duration

    def reference(self, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        """What is to be seen at a frame: of a video the picture there, or the last one behind its end."""
        if self.video is None:
            return self.picture
        number = frame if self.scene is None else self.scene.picture(frame)
        return self.video.read(number, 1, self.size)[0]

    def of_scene(self, scene: SourceScene) -> "MultiTalkInputs":
        """What one of the scenes is made of: its pictures, and its part of what is said."""
        assert self.video is not None
        picture = self.video.read(scene.first, 1, self.size)[0]
        voices = tuple(excerpt(voice, scene) for voice in self.track.voices)
        return dataclasses.replace(self, picture=picture, voices=voices, scene=scene)


def excerpt(voice: Voice, scene: SourceScene) -> Excerpt:
    """What is said in a scene."""
    return Excerpt(voice, scene.begin, scene.end)


def read(job: Job) -> MultiTalkInputs:
    """Read what a job's files name; nothing of the sounds and one picture is kept in memory.

    Raises:
      UserError: a file cannot be used, places do not fit the picture, there are too many people, or the video's size is
        no whole number of tokens.
    """
    files, settings, walls = job.files, job.settings, job.machine.walls
    dit, vae = (store.load_config(job.weights.weights, COMPONENTS[name]) for name in ("dit", "vae"))
    cells = Cells.of(dit, vae)
    _check_people(files.people, settings.speakers, dit)
    notes: list[str] = []
    if is_video(files.image, walls):
        picture, video, framed = _source(job, dit.recipe)
        notes.extend(video.notes)
    else:
        video = None
        picture, framed = read_framed(
            files.image, lambda height, width: _framing(settings, height, width), notes.append, walls
        )
    _check_size(framed.frame, cells)
    if not framed.is_whole:
        notes.append(str(framed))
    told = [f"{files.image}: {'; '.join(notes)}"] if notes else []
    if files.input_json is not None:
        told.extend(input_json.notices(files.input_json))
    told.extend(_assumed(files, settings, video))
    masks = read_masks(files.people, files.bbox, files.mask, framed, cells, told.append, walls)
    own = (files.image, video.start) if video else None
    voices, of_sounds = read_voices(files.audio, settings.audio_type, walls, own)
    track = Mix(voices)
    scenes = find_scenes(video, track.duration) if video and settings.scene_seg else ()
    if scenes:
        told.append(f"{files.image}: {len(scenes)} scenes, each made on its own")
    shared = [f.name for f in dataclasses.fields(settings) if f.name not in _OWN and f.metadata["decides"]]
    alike = (settings.shift, settings.is_720, *(getattr(settings, name) for name in shared))
    shape = (framed.frame, files.people, alike)
    return MultiTalkInputs(picture, video, masks, voices, track, shape, (*told, *of_sounds), scenes)


def _check_people(people: int, most: int | None, config: MultiTalkConfig) -> None:
    """Make sure that no more people are in the picture than a person lets in, or, by default, the weights know."""
    known = len(config.speaker_ranges)
    if people > (most or known):
        known_by = f"but the weights know {known}" if most is None else f"more than --speakers {most}"
        beyond = " for the experiment" if people > known else ""
        raise UserError(
            f"{people} people, {known_by}; give fewer sounds, or --speakers {people}{beyond}", field="audio"
        )


def _check_size(size: tuple[int, int], cells: Cells) -> None:
    if any(side % pixels for side, pixels in zip(size, cells.pixels)):
        (height, width), (rows, columns) = size, cells.pixels
        raise UserError(
            f"{width}x{height}: a token of these weights is {columns}x{rows} pixels; give a --size_bucket or --size of "
            "whole ones",
            field="size_bucket",
        )


def _source(job: Job, recipe: Recipe) -> tuple[UInt8[np.ndarray, "H W 3"], SourceVideo, Framing]:
    """The first picture of a video, the video, and what is made of its pictures."""
    path, settings = job.files.image, job.settings
    if recipe != "infinitetalk":
        raise UserError(
            f"{path}: is a video, and the weights are MultiTalk's; give a picture, or weights that were converted with "
            "--infinitetalk_dir",
            field="image",
        )
    order = "clock" if settings.source_frames == "exact" else "frames"
    video = SourceVideo(path, fit="fill", walls=job.machine.walls, order=order)
    framed = _framing(settings, video.height, video.width)
    return video.read(0, 1, framed.frame)[0], video, framed


def _framing(settings: Settings, height: int, width: int) -> Framing:
    """How pictures of that size become those of the video."""
    return framing((height, width), frame_size(settings, height, width), "fill")


def _assumed(files: Files, settings: Settings, video: SourceVideo | None) -> list[str]:
    """What is taken for granted, or given for nothing."""
    notes = []
    if files.people > 1 and not (files.bbox or files.mask):
        notes.append("no --bbox: the people are taken to be side by side, in the order of their sounds")
    if files.people == 1 and (files.bbox or files.mask):
        notes.append("one person's box or mask decides nothing, so it is not used")
    if settings.scene_seg and video is None:
        notes.append(f"--scene_seg: {files.image} is a picture, which has no scenes")
    return notes
