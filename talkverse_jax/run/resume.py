"""What a stopped run leaves beside its unfinished video, so that a later one can go on at the next clip.

`NAME.partial.npz` holds what the next clip must know of those before (see `long_video.Past`), how many frames of
each are in `NAME.partial.mp4`, the seed, and what the video was made from.
"""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import replacing
from talkverse_jax.families.talkverse.clips import Past
from talkverse_jax.media.video_writer import unfinished_files
from talkverse_jax.run.sample_options import SampleOptions
from talkverse_jax.sharding.distributed import from_main, is_main, process_count
from talkverse_jax.weights import store


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A video that a run left unfinished.

    Attributes:
      past: of the next clip; of several processes, all have it.
      written: frames of each clip in the partial file.
      seed: of the video.
    """

    past: Past
    written: tuple[int, ...]
    seed: int


def state_file(output: Path) -> Path:
    """Beside the partial video."""
    return output.with_name(f"{output.stem}.partial.npz")


def save(output: Path, source: dict[str, Any], past: Past, written: Sequence[int]) -> None:
    """Note that the clips before `past.clip` are on the disk; atomic.

    Args:
      source: see `made_from`.
    """
    meta = {"made_from": source, "clip": past.clip, "written": written}
    with replacing(state_file(output)) as partial, open(partial, "wb") as file:
        np.savez(file, motion=past.motion, frames=past.frames, meta=json.dumps(meta))


def load(output: Path, source: dict[str, Any], any_seed: bool) -> Unfinished | None:
    """What is there to go on from; None where nothing is. Process 0's file counts; all processes must ask.

    Args:
      source: what the video shall be made from; in process 0.
      any_seed: its seed does not count.

    Raises:
      UserError: what is there is of another video, or damaged.
    """
    return everywhere(_read(output, source, any_seed) if is_main() else None)


def everywhere(mine: Unfinished | None) -> Unfinished | None:
    """What process 0 has, in every process."""
    if process_count() == 1:
        return mine
    told = mine and [mine.past.clip, mine.written, mine.seed, mine.past.motion.shape, mine.past.frames.shape]
    told = json.loads(from_main("unfinished", json.dumps(told)))
    if told is None:
        return None
    clip, written, seed, *shapes = told
    arrays = (mine.past.motion, mine.past.frames) if mine else [np.zeros(shape, np.float32) for shape in shapes]
    arrays = map(np.asarray, multihost_utils.broadcast_one_to_all(tuple(arrays)))
    return Unfinished(Past(clip, *arrays), tuple(written), seed)


def is_finished(output: Path, record: Path, source: dict[str, Any], any_seed: bool) -> bool:
    """Whether the video is there already, made from the same; process 0 looks, all processes must ask.

    Arguments as of `load`.
    """
    mine = False
    if is_main() and output.exists() and record.exists():
        told = json.loads(record.read_text(encoding="utf-8")).get("made_from")
        mine = told is not None and not _differing(told, source, any_seed)
    return json.loads(from_main("finished", json.dumps(mine)))


def _differing(before: dict[str, Any], now: dict[str, Any], any_seed: bool) -> list[str]:
    """What is not the same, in order of name."""
    names = (before.keys() | now.keys()) - ({"base_seed"} if any_seed else set())
    return sorted(name for name in names if before.get(name) != now.get(name))


def _read(output: Path, source: dict[str, Any], any_seed: bool) -> Unfinished | None:
    path = state_file(output)
    if not (path.exists() and unfinished_files(output)):
        return None
    try:
        with np.load(path) as file:
            found = {name: file[name] for name in ("motion", "frames")}
            meta = json.loads(str(file["meta"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path}: damaged; leave out --resume to begin again") from None
    before = meta["made_from"]
    if other := _differing(before, source, any_seed):
        name, was, now = other[0], before.get(other[0]), source.get(other[0])
        told = f" was {was!r}, not {now!r}" if name in SampleOptions.__dataclass_fields__ else " is another"
        raise UserError(f"{path}: of another video: --{name}{told}; give the same, or leave out --resume")
    return Unfinished(Past(meta["clip"], **found), tuple(meta["written"]), before["base_seed"])


def made_from(options: SampleOptions) -> dict[str, Any]:
    """All that decides the video: settings, and what the files hold, which are read to the end."""
    files = {
        f"{name}'s file": digest(getattr(options, name))
        for name in ("image", "audio", "lora_ckpt")
        if getattr(options, name) is not None
    }
    return options.video_settings() | files | {"weights' files": store.read_manifest(options.weights)}


def digest(path: str) -> str:
    """SHA-256 of a file."""
    with open(Path(path).expanduser(), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
