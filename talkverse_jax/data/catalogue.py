"""Which videos of a data set can be trained on, and what is known of each without decoding it."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from talkverse_jax.core.paths import new_folder, replacing
from talkverse_jax.data import masks as roi
from talkverse_jax.data.batches import WindowShape
from talkverse_jax.data.metadata import Row, longest_scene
from talkverse_jax.data.skipped import Skip
from talkverse_jax.data.windows import Lengths
from talkverse_jax.media import buckets
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.video_reader import open_video


@dataclass(frozen=True)
class VideoEntry:
    """A video that can be trained on. Its place in the catalogue is its sample number.

    Attributes:
      video: where the file is.
      name: its id.
      start: seconds of the file's clock at its first picture.
      frames: at 25 fps.
      height, width: of its pictures as they are shown.
      scene: first and last frame that a window may show.
      shape: of its windows.
      masks: its keypoint file, "" where there is none.
      stretch: (down, across), by which pixels of the file, and so its keypoints, are stretched when it is shown.
      notes: what is changed or assumed in reading it, a few words each.
    """

    video: str
    name: str
    caption: str
    start: float
    frames: int
    height: int
    width: int
    scene: tuple[int, int]
    shape: WindowShape
    masks: str
    stretch: tuple[float, float] = (1.0, 1.0)
    notes: tuple[str, ...] = ()


# Fields of an entry that JSON makes lists of, and what caches hold that lack them.
_LISTS: dict[str, Any] = {"scene": (), "stretch": (1.0, 1.0), "notes": ()}


@dataclass(frozen=True)
class VideoRules:
    """What decides which videos are taken, and as what.

    Attributes:
      bucket: of sizes, a name in `buckets.BUCKETS`.
      roi: whether a video needs face boxes.
      detector: "module:function" that finds them where there is no file; "" for none.
      base: the folder that the rows' paths are relative to.
      roi_dir: where the keypoint files are, "" for beside the videos.
    """

    bucket: str
    lengths: Lengths
    roi: bool = False
    detector: str = ""
    base: str = ""
    roi_dir: str = ""


@dataclass(frozen=True)
class Catalogue:
    """The videos, by sample number, and the rows that are left out for good."""

    entries: tuple[VideoEntry, ...]
    rejected: tuple[Skip, ...]

    @property
    def shapes(self) -> tuple[WindowShape, ...]:
        """Of the samples, by number."""
        return tuple(entry.shape for entry in self.entries)

    @property
    def digest(self) -> str:
        """The same for the same samples: processes and runs that share batches must agree on it."""
        return _digest(_decisive(entry) for entry in self.entries)


def make_catalogue(
    rows: Sequence[Row],
    rules: VideoRules,
    cache: str | Path | None = None,
    threads: int = 16,
    progress: Callable[[Iterable], Iterable] = lambda found: found,
) -> Catalogue:
    """Look at every video: its header, its first picture and where its last one is.

    Args:
      cache: JSON lines of what was found, so that a later run looks at nothing and numbers its samples alike even
        if files have changed; made anew for other rows or rules. Delete it to look again.
      progress: wraps the iterable of rows, such as tqdm.

    Raises:
      UserError: there is no such bucket or detector.
    """
    buckets.choose(rules.bucket, 1, 1)
    if rules.roi and rules.detector:
        roi.load_detector(rules.detector)
    decisive = asdict(rules)
    del decisive["lengths"]["strides"]  # they leave no video out
    header = {"rules": decisive, "rows": len(rows), "digest": _digest(asdict(row) for row in rows)}
    found = _read_cache(cache, header) if cache else None
    if found is None:
        with ThreadPoolExecutor(threads) as pool:
            found = list(progress(pool.map(lambda row: _verdict(row, rules), rows)))
        if cache:
            _write_cache(Path(cache), header, found)
    return Catalogue(
        tuple(verdict for verdict in found if isinstance(verdict, VideoEntry)),
        tuple(verdict for verdict in found if isinstance(verdict, Skip)),
    )


def describe(catalogue: Catalogue) -> str:
    """One line: how many samples there are of each kind, and how many rows are left out, why."""
    kinds = Counter(shape.kind for shape in catalogue.shapes)
    reasons = Counter(skip.reason for skip in catalogue.rejected)
    left_out = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    return (
        f"{len(catalogue.entries)} videos in {len(set(catalogue.shapes))} shapes, {kinds['motion']} with motion "
        f"frames; {len(catalogue.rejected)} left out" + (f" ({left_out})" if left_out else "")
    )


def describe_notes(catalogue: Catalogue) -> list[str]:
    """A line for each way in which videos are changed when they are read: how many, and how."""
    notes = Counter(note for entry in catalogue.entries for note in entry.notes)
    return [f"{count} of {len(catalogue.entries)} videos: {note}" for note, count in notes.most_common()]


def _verdict(row: Row, rules: VideoRules) -> VideoEntry | Skip:
    try:
        return _look(row, rules)
    except Exception as error:  # whatever one video holds, the others are looked at
        fault = BadSample.of(error)
        return Skip(row.video_path or row.where, fault.reason, fault.detail, trace=fault.trace)


def _look(row: Row, rules: VideoRules) -> VideoEntry:
    if not row.video_path:
        raise BadSample("no video_path", row.where)
    masks = roi.find(row, rules.base, rules.roi_dir) if rules.roi else ""
    with open_video(row.video) as video:
        probe, sound_notes = video.probe(), video.sound_notes()
    scene = longest_scene(row.scenes, row.fps, probe.frames)
    kind = rules.lengths.kind(scene[1] - scene[0] + 1)
    if rules.roi and not masks and not rules.detector:
        raise BadSample("no mask file", row.roi_path)
    return VideoEntry(
        video=row.video,
        name=row.name,
        caption=row.caption,
        start=probe.start,
        frames=probe.frames,
        height=probe.height,
        width=probe.width,
        scene=scene,
        shape=WindowShape(*buckets.choose(rules.bucket, probe.height, probe.width), kind),
        masks=masks,
        stretch=probe.stretch,
        notes=(*probe.notes, *sound_notes),
    )


def _decisive(entry: VideoEntry) -> dict:
    """What samples follow from; the stretch is in the size."""
    values = asdict(entry)
    del values["stretch"], values["notes"]
    return values


def _digest(values: Iterable[object]) -> str:
    total = hashlib.sha256()
    for value in values:
        total.update(json.dumps(value).encode())
    return total.hexdigest()


def _write_cache(path: Path, header: dict, found: Sequence[VideoEntry | Skip]) -> None:
    new_folder(path.parent)
    lines = (header, *map(asdict, found))
    with replacing(path) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _read_cache(path: str | Path, header: dict) -> list[VideoEntry | Skip] | None:
    """None where there is no whole cache of these rows and rules."""
    if not Path(path).exists():
        return None
    try:
        first, *lines = map(json.loads, Path(path).read_text(encoding="utf-8").splitlines())
    except ValueError:  # empty or torn
        return None
    return [_parse(line) for line in lines] if first == header and len(lines) == first["rows"] else None


def _parse(values: dict) -> VideoEntry | Skip:
    if "reason" in values:
        return Skip(**values)
    fields = {name: tuple(values.get(name, default)) for name, default in _LISTS.items()}
    known: dict[str, Any] = values | fields | {"shape": WindowShape(*values["shape"])}
    return VideoEntry(**known)
