"""Videos of the toy world: what `talkverse-jax toy-world` makes.

Drawn heads that talk, in the format of training data: `videos/train_00000.mp4`, ... with a keypoint file (npz)
and the first frame (PNG) beside each, and `train.csv`. Of several people in one picture (`make_group.py`) there are
other files, too. Video number n of a set is a function of the seed, the set
and n, whatever the number of videos or processes; the sets share no person and no sentence.
"""

import csv
import dataclasses
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from talkverse_jax.core.errors import naming
from talkverse_jax.core.paths import new_folder, replacing, write_json
from talkverse_jax.media.buckets import BUCKETS
from talkverse_jax.toy.files import write_film
from talkverse_jax.toy.film import Film, film
from talkverse_jax.toy.make_group import Group
from talkverse_jax.toy.make_options import MakeOptions, Set
from talkverse_jax.toy.person import Person, caption, draw_person
from talkverse_jax.toy.speech import FPS, Speech, speak

_SETS: tuple[Set, ...] = ("train", "held_out")
SQUARE = 128, 128
_BUCKET = "tiny-128"
_COLUMNS = ("video_path", "caption", "fps", "scenes")
_OF_PEOPLE = ("sounds", "boxes")
_OF_GROUPS = 4  # the last part of a group's seed; a person alone has 0 to 3 there
_LONG, _SHORT = (9.0, 12.0), (5.0, 6.0)  # seconds
_SQUARE_SHARE = 0.7  # of the videos; the others take the other shapes in equal parts


@dataclasses.dataclass(frozen=True, eq=False)
class ToyClip:
    """A video before it is a file."""

    person: Person
    speech: Speech
    film: Film


def make_clip(
    seed: int,
    set: Set,
    number: int,
    seconds: float = 0.0,
    size: tuple[int, int] | None = None,
    short_share: float = 0.2,
) -> ToyClip:
    """Video `number` of a set.

    Args:
      seconds: its length; by lot where 0, short in `short_share` of cases.
      size: (H, W); by lot among the shapes of "tiny-128" where None.
    """
    shape, looks, words, moves = _streams(seed, set, number)
    drawn, drawn_size = _length(shape, short_share), _size(shape)
    person, speech = draw_person(looks), speak(words, seconds or drawn)
    return ToyClip(person, speech, film(person, speech, moves, size or drawn_size))


def _streams(seed: int, set: Set, number: int) -> list[np.random.Generator]:
    """Of shape, looks, words and moves: a length that is given changes neither the person nor the first words."""
    return [np.random.default_rng([seed, _SETS.index(set), number, part]) for part in range(4)]


def _length(rng: np.random.Generator, short_share: float) -> float:
    low, high = _SHORT if rng.uniform() < short_share else _LONG
    return round(rng.uniform(low, high) * FPS) / FPS


def _size(rng: np.random.Generator) -> tuple[int, int]:
    others = [size for size in BUCKETS[_BUCKET].values() if size != SQUARE]
    return SQUARE if rng.uniform() < _SQUARE_SHARE else others[int(rng.integers(len(others)))]


def write_clip(clip: ToyClip, path: Path) -> None:
    """Write the files of a video."""
    write_film(clip.film, clip.speech.sound, path)


def draw_group(options: MakeOptions, number: int) -> Group:
    """Who is in video `number` of a set of several people, and when each of them speaks."""
    key = options.seed, _SETS.index(options.set), number, _OF_GROUPS
    seconds = options.seconds or _length(np.random.default_rng(key), options.short_share)
    return Group.drawn(key, options.people, seconds)


def _make_one(options: MakeOptions, number: int) -> dict[str, object]:
    """Make a video, unless this run did before it was interrupted; returns its row."""
    name = f"videos/{options.set}_{number:05d}.mp4"
    path, size = Path(options.output) / name, SQUARE if options.square else None
    made = path.exists() and path.stat().st_mtime_ns >= _unfinished(options).stat().st_mtime_ns
    if options.several:
        group = draw_group(options, number)
        if not made:
            group.write(path)
        return group.row(name)
    if made:
        person = draw_person(_streams(options.seed, options.set, number)[1])
    else:
        clip = make_clip(options.seed, options.set, number, options.seconds, size, options.short_share)
        write_clip(clip, path)
        person = clip.person
    return {"video_path": name, "caption": caption(person), "fps": FPS, "scenes": ""}


def _rows(options: MakeOptions) -> Iterator[dict[str, object]]:
    workers = min(options.workers or os.cpu_count() or 1, options.videos)
    one, numbers = partial(_make_one, options), range(options.videos)
    if workers == 1:
        yield from map(one, numbers)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(one, numbers)


def make(options: MakeOptions) -> Path:
    """Make the data set; returns the path of its metadata, which is written last. A run with the same options goes
    on where one was interrupted.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = new_folder(options.output)
    with naming(folder):
        (folder / "videos").mkdir(exist_ok=True)
    options = dataclasses.replace(options, output=str(folder))
    _begin(options)
    bar = tqdm(_rows(options), "videos", options.videos, unit="video", dynamic_ncols=True)
    rows = list(bar)
    path = folder / f"{options.set}.csv"
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, _COLUMNS + (_OF_PEOPLE if options.several else ()))
        writer.writeheader()
        writer.writerows(rows)
    _unfinished(options).unlink()
    return path


def _unfinished(options: MakeOptions) -> Path:
    """Says what an unfinished run is making; the videos that it has made are younger."""
    return Path(options.output) / f"{options.set}.unfinished.json"


def _begin(options: MakeOptions) -> None:
    """Note what is being made, unless a run that makes the same was interrupted."""
    note, asked = _unfinished(options), dataclasses.asdict(options)
    what = {
        name: list(asked[name]) if name == "people" else asked[name]
        for name in ("set", "seed", "seconds", "square", "short_share", "people")
    }
    if not (note.exists() and json.loads(note.read_text(encoding="utf-8")) == what):
        write_json(note, what)
