"""Which videos of a data set can be trained on, and what is known of each without decoding it."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import new_folder, publish, replacing
from talkverse_jax.data import identity
from talkverse_jax.data import masks as roi
from talkverse_jax.data.batches import WindowShape
from talkverse_jax.data.identity import Identity
from talkverse_jax.data.metadata import Row, longest_scene
from talkverse_jax.data.people import PersonEntry, read_people, sound_files
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
      content, keypoints: hashes of what both files hold (see `identity.content`).
      weight: of its samples in the loss.
      people: who speaks in it; () where it has nothing but its own sound.
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
    content: str = ""
    keypoints: str = ""
    weight: float = 1.0
    people: tuple[PersonEntry, ...] = ()

    @property
    def identity(self) -> Identity:
        """By what its samples are known again; paths have no part in it."""
        spoken = [(person.box, person.content) for person in self.people]
        rest = identity.digest(self.scene, self.shape, self.keypoints, *spoken)
        return Identity(self.content, identity.digest(self.caption), rest)


# Fields of an entry that JSON makes lists of, and what caches hold that lack them.
_LISTS: dict[str, Any] = {"scene": (), "stretch": (1.0, 1.0), "notes": ()}
_FORMAT = 2  # of caches


@dataclass(frozen=True)
class VideoRules:
    """What decides which videos are taken, and as what.

    Attributes:
      bucket: of sizes, a name in `buckets.BUCKETS`.
      roi: whether a video needs face boxes.
      detector: "module:function" that finds them where there is no file; "" for none.
      roi_dir: where the keypoint files are, "" for beside the videos.
    """

    bucket: str
    lengths: Lengths
    roi: bool = False
    detector: str = ""
    roi_dir: str = ""


@dataclass(frozen=True)
class Catalogue:
    """The videos that can be trained on, and the rows that are left out for good.

    Attributes:
      datasets: which of the metadata files names each video.
    """

    entries: tuple[VideoEntry, ...]
    rejected: tuple[Skip, ...]
    datasets: tuple[int, ...]

    @property
    def shapes(self) -> tuple[WindowShape, ...]:
        """Of the videos."""
        return tuple(entry.shape for entry in self.entries)

    @property
    def digest(self) -> str:
        """The same for the same videos at the same places: by it runs of older programs know their data again."""
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
      cache: JSON lines of what was found, so that a later run looks only at rows and files that have changed since.
        What is found now lies beside it until `accept` is called. Delete both to look at everything again.
      progress: wraps the iterable of rows, such as tqdm.

    Raises:
      UserError: there is no such bucket or detector.
    """
    buckets.choose(rules.bucket, 1, 1)
    if rules.roi and rules.detector:
        roi.load_detector(rules.detector)
    known = _read_caches(Path(cache), rows, rules) if cache else {}
    with ThreadPoolExecutor(threads) as pool:
        found = list(progress(pool.map(lambda row: _known_or_new(row, rules, known), rows)))
    if cache:
        _write_cache(Path(cache), rows, rules, found)
    verdicts = [(look.verdict, row.dataset) for look, row in zip(found, rows)]
    taken = [(verdict, dataset) for verdict, dataset in verdicts if isinstance(verdict, VideoEntry)]
    return Catalogue(
        tuple(verdict for verdict, _ in taken),
        tuple(verdict for verdict, _ in verdicts if isinstance(verdict, Skip)),
        tuple(dataset for _, dataset in taken),
    )


def accept(cache: str | Path) -> None:
    """What `make_catalogue` found takes the place of an older cache: a run has begun, or goes on, with it."""
    with suppress(FileNotFoundError):  # nothing is new, or another process was faster
        publish(_pending(Path(cache)), Path(cache))


def mixed(catalogue: Catalogue, repeats: Sequence[int], weights: Sequence[float]) -> Catalogue:
    """The same with every video as often as its data set is repeated, and with the weight of its data set.

    Args:
      repeats, weights: of each metadata file.
    """
    entries, datasets = [], []
    for entry, dataset in zip(catalogue.entries, catalogue.datasets):
        entries += [replace(entry, weight=weights[dataset])] * repeats[dataset]
        datasets += [dataset] * repeats[dataset]
    return Catalogue(tuple(entries), catalogue.rejected, tuple(datasets))


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


class _Look(NamedTuple):
    """What was found of a row when its files had these stamps; an older program wrote down none."""

    stamp: tuple[Any, ...] | None
    verdict: VideoEntry | Skip


def _known_or_new(row: Row, rules: VideoRules, known: dict[str, _Look]) -> _Look:
    look, masks = known.get(_key(row)), ""
    if look and look.stamp is not None and files.is_remote(row.video):
        return look
    if rules.roi and not files.is_remote(row.video):
        masks = roi.find(row, row.base, rules.roi_dir)
    stamp = (*identity.stamp(row.video), masks, *identity.stamp(masks))
    for sound in sound_files(row.sounds, row.base):
        stamp += identity.stamp(sound)
    if look and look.stamp == stamp:
        return look
    if look and look.stamp is None:
        return _Look(stamp, _with_contents(look.verdict))
    return _Look(stamp, _verdict(row, rules))


def _with_contents(verdict: VideoEntry | Skip) -> VideoEntry | Skip:
    """With what older programs did not note."""
    if isinstance(verdict, Skip):
        return verdict
    try:
        return _identified(verdict)
    except BadSample as fault:
        return Skip(verdict.video, fault.reason, fault.detail)


def _verdict(row: Row, rules: VideoRules) -> VideoEntry | Skip:
    try:
        return _identified(_look(row, rules))
    except Exception as error:  # whatever one video holds, the others are looked at
        fault = BadSample.of(error)
        return Skip(row.video_path or row.where, fault.reason, fault.detail, trace=fault.trace)


def _identified(entry: VideoEntry) -> VideoEntry:
    try:
        keypoints = identity.content(entry.masks) if entry.masks else ""
        return replace(entry, content=identity.content(entry.video), keypoints=keypoints)
    except UserError as error:
        raise BadSample("cannot be read", str(error)) from None


def _look(row: Row, rules: VideoRules) -> VideoEntry:
    if not row.video_path:
        raise BadSample("no video_path", row.where)
    masks = roi.find(row, row.base, rules.roi_dir) if rules.roi else ""
    with open_video(row.video) as video:
        probe, sound_notes = video.probe(), video.sound_notes()
    scene = longest_scene(row.scenes, row.fps, probe.frames)
    kind = rules.lengths.kind(scene[1] - scene[0] + 1)
    if rules.roi and not masks and not rules.detector:
        raise BadSample("no mask file", row.roi_path)
    people = read_people(row.sounds, row.boxes, row.base)
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
        people=people,
    )


def _decisive(entry: VideoEntry) -> dict:
    """What older programs knew a sample by; the stretch is in the size."""
    values = asdict(entry)
    for name in ("stretch", "notes", "content", "keypoints", "weight", "people"):
        del values[name]
    return values


def _digest(values: Iterable[object]) -> str:
    total = hashlib.sha256()
    for value in values:
        total.update(json.dumps(value).encode())
    return total.hexdigest()


def _key(row: Row) -> str:
    """By which a row is known again, wherever it stands in its file."""
    values = asdict(row)
    del values["dataset"]
    for name in ("sounds", "boxes"):
        if not values[name]:
            del values[name]  # as caches of older programs know it
    if row.video_path:
        del values["where"]
    return identity.digest(values)


def _rules(rules: VideoRules) -> dict[str, Any]:
    decisive = asdict(rules)
    del decisive["lengths"]["strides"]  # they leave no video out
    return decisive


def _pending(cache: Path) -> Path:
    return cache.with_suffix(f".new{cache.suffix}")


def _write_cache(cache: Path, rows: Sequence[Row], rules: VideoRules, found: Sequence[_Look]) -> None:
    """Beside an older one, unless it says the same."""
    lines: list[dict[str, Any]] = [{"format": _FORMAT, "rules": _rules(rules)}]
    lines += [{"row": _key(row), "stamp": look.stamp} | _plain(look.verdict) for row, look in zip(rows, found)]
    text, pending = "".join(json.dumps(line) + "\n" for line in lines), _pending(cache)
    if _text(cache) == text:
        pending.unlink(missing_ok=True)
    elif _text(pending) != text:
        new_folder(cache.parent)
        with replacing(pending) as partial:
            partial.write_text(text, encoding="utf-8")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None


def _plain(verdict: VideoEntry | Skip) -> dict[str, Any]:
    values = asdict(verdict)
    values.pop("weight", None)  # is none of the video's
    if not values.get("people"):
        values.pop("people", None)
    return values


def _read_caches(cache: Path, rows: Sequence[Row], rules: VideoRules) -> dict[str, _Look]:
    """What is known of rows, by key."""
    return _read_cache(cache, rows, rules) | _read_cache(_pending(cache), rows, rules)


def _read_cache(path: Path, rows: Sequence[Row], rules: VideoRules) -> dict[str, _Look]:
    """What a cache knows; nothing where it is torn, or of other rules."""
    try:
        header, *lines = map(json.loads, (_text(path) or "").splitlines())
        if header == {"format": _FORMAT, "rules": _rules(rules)}:
            return {line.pop("row"): _Look(_stamp(line.pop("stamp")), _parse(line)) for line in lines}
        if header == _header_of_before(rows, rules) and len(lines) == len(rows):
            return {_key(row): _Look(None, _parse(line)) for row, line in zip(rows, lines)}
    except (ValueError, TypeError, KeyError, AttributeError):  # empty or torn
        pass
    return {}


def _header_of_before(rows: Sequence[Row], rules: VideoRules) -> dict[str, Any]:
    """Of a cache of the first format, which knows nothing of a row by itself."""
    plain = [asdict(row) for row in rows]
    [base, *_] = {row.pop("base"): None for row in plain}
    for row in plain:
        del row["dataset"], row["sounds"], row["boxes"]
    return {"rules": _rules(rules) | {"base": base}, "rows": len(rows), "digest": _digest(plain)}


def _stamp(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _parse(values: dict) -> VideoEntry | Skip:
    if "reason" in values:
        return Skip(**values)
    fields = {name: tuple(values.get(name, default)) for name, default in _LISTS.items()}
    people = tuple(PersonEntry(sound, tuple(box), content) for sound, box, content in values.get("people", ()))
    known: dict[str, Any] = values | fields | {"shape": WindowShape(*values["shape"]), "people": people}
    return VideoEntry(**known)
