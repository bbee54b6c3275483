"""Samples prepared once for training: a folder of ArrayRecord shards.

    meta.json                    what the samples were made with (`Recipe`)
    null_text.msgpack            hidden states of the empty caption
    shard-00012.array_record     samples, a record each: arrays by name, as flax.serialization writes them
    shard-00012.json             the shard's size and its records; written last, so the shard is complete
    index.jsonl                  the records of all shards, a line each, once all are there

Shards are read in place, at any record: the folder must be on a disk, or mounted as one.

Shapes: F latent frames, M of the motion context, h w latent grid, C latent channels, A audio width.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from flax import serialization
from jaxtyping import Float, UInt8

from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.files import is_remote
from talkverse_jax.data.batches import SampleId, Shape
from talkverse_jax.data.skipped import BadSample

META, INDEX, NULL_TEXT = "meta.json", "index.jsonl", "null_text.msgpack"
_FORMAT = 1
_CELL = 16  # pixels a side of a cell of the latent grid
_ARRAYS = ("target", "motion", "reference", "audio", "text", "face", "body")
_OPTIONS = "group_size:1,uncompressed"  # bfloat16 of a network hardly shrinks
_AGAIN = "run talkverse_jax.training.prepare again"


class PreparedSample(NamedTuple):
    """A sample as a training step takes it, but for the empty caption's text; a batch has the samples first, `name`
    as a tuple and `id` as uint32 [B, 2].

    Attributes: as of `training.batch.TrainingBatch` and `data.raw.RawSample`.
    """

    target: Float[np.ndarray, "F h w C"]
    motion: Float[np.ndarray, "M h w C"]
    reference: Float[np.ndarray, "1 h w C"]
    audio: Float[np.ndarray, "4F layers A"]
    text: Float[np.ndarray, "text_len D"]
    face: UInt8[np.ndarray, "F h w"]
    body: UInt8[np.ndarray, "F h w"]
    id: SampleId
    name: str
    weight: float


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What prepared samples were made with.

    Attributes:
      vae, audio, text: hashes of the encoders' weights.
      size_bucket, num_frames, motion_frames, audio_alignment, seed, windows, shard_size: as the flags.
      dtype: of the latents and hidden states.
      roi: masks of face and body were made.
      channels, audio_layers, audio_dim, motion_latents, text_len: C, layers, A, M, text_len.
      samples: hash of the videos and what is known of them.
    """

    vae: str
    audio: str
    text: str
    size_bucket: str
    num_frames: int
    motion_frames: int
    audio_alignment: str
    dtype: str
    roi: bool
    channels: int
    audio_layers: int
    audio_dim: int
    motion_latents: int
    text_len: int
    seed: int
    windows: int
    shard_size: int
    samples: str
    format: int = _FORMAT

    def require(self, folder: str | Path, **wanted: Any) -> None:
        """Make sure that attributes have these values.

        Raises:
          UserError: one has another; the message names the first.
        """
        for name, value in wanted.items():
            have = getattr(self, name)
            if have == value:
                continue
            if name in ("vae", "audio", "text"):
                raise UserError(f"{folder}: made with other weights of {name}; give those, or prepare anew")
            if name == "samples":
                raise UserError(f"{folder}: made from other videos; give those, or another --output")
            if name == "roi":
                made, hint = ("with", "give") if have else ("without", "leave out")
                raise UserError(
                    f"{folder}: made {made} masks of face and body; {hint} --enable_roi_loss, or prepare anew"
                )
            flag = name if name == "format" else f"--{name}"
            raise UserError(f"{folder}: made with {flag} {have}, not {value}; give {have}, or prepare anew")


class Record(NamedTuple):
    """Where a sample lies and what it is: a line of the index.

    Attributes:
      file, position: the shard and the record within it.
      height, width, kind: the sample's `Shape`.
      name: the video's.
      sample, window: the video's number in the metadata, and which of its windows.
    """

    file: str
    position: int
    height: int
    width: int
    kind: str
    name: str
    sample: int
    window: int


def begin(folder: Path, recipe: Recipe) -> None:
    """Make an empty folder that of a recipe, or make sure that it is.

    Raises:
      UserError: it holds samples of another recipe, or is in a bucket.
    """
    check_local(folder)
    if (folder / META).exists():
        read_recipe(folder).require(folder, **dataclasses.asdict(recipe))
    else:
        _write_json(folder / META, to_dict(recipe))


def write_null_text(folder: Path, states: Float[np.ndarray, "text_len D"]) -> None:
    """Keep the hidden states of the empty caption."""
    _write(folder / NULL_TEXT, serialization.msgpack_serialize({"null_text": np.asarray(states)}))


def check_local(folder: str | Path) -> None:
    """Make sure that a folder of shards is on a disk.

    Raises:
      UserError: it is in a bucket.
    """
    if is_remote(folder):
        raise UserError(f"{folder}: shards are read in place; mount the bucket (gcsfuse) and give that folder")


def read_recipe(folder: Path) -> Recipe:
    """What the samples of a folder were made with.

    Raises:
      UserError: it is no folder of prepared samples, or of another version of this program.
    """
    values = _read_json(folder / META, f"{folder}: no prepared samples; make them with talkverse_jax.training.prepare")
    if (found := values.get("format")) != _FORMAT:
        raise UserError(f"{folder / META}: of format {found}, this program reads {_FORMAT}; prepare anew")
    return from_dict(Recipe, values, str(folder / META))


def is_complete(folder: Path, shard: int) -> bool:
    """Whether a shard is there, whole."""
    try:
        size = json.loads((folder / f"{_stem(shard)}.json").read_text())["bytes"]
        return (folder / f"{_stem(shard)}.array_record").stat().st_size == size
    except (OSError, ValueError, KeyError, TypeError):
        return False


class ShardWriter:
    """Writes one shard; it counts as there once `finish` has returned.

    Raises:
      UserError: it cannot be written; the disk is full, for one.
    """

    def __init__(self, folder: Path, shard: int):
        self._folder, self._stem, self._records = folder, _stem(shard), []
        self._file = folder / f"{self._stem}.array_record"
        self._partial = self._file.with_suffix(".partial")
        self._writer = self._checked(lambda: ArrayRecordWriter(str(self._partial), _OPTIONS))

    def add(self, sample: PreparedSample, shape: Shape) -> None:
        """Append a sample; its `id` holds window and sample number."""
        self._checked(lambda: self._writer.write(_pack(sample, shape)))
        window, number = map(int, sample.id)
        place = (self._file.name, len(self._records))
        self._records.append(Record(*place, *shape, sample.name, number, window))

    def finish(self) -> None:
        """Put the shard in its place."""
        self._checked(self._writer.close)
        os.replace(self._partial, self._file)
        records = [record._asdict() for record in self._records]
        _write_json(self._file.with_suffix(".json"), {"bytes": self._file.stat().st_size, "records": records})

    def _checked(self, function):
        try:
            return function()
        except RuntimeError as error:  # the one kind that ArrayRecord raises
            self._partial.unlink(missing_ok=True)
            first = str(error).splitlines()[0]
            raise UserError(f"{self._partial}: cannot be written ({first}); make room, then {_AGAIN}") from None


def write_index(folder: Path, shards: int) -> bool:
    """List the records of all shards, by sample and window; False where a shard is still missing.

    Several processes may come here at once: they write the same.
    """
    records = []
    for shard in range(shards):
        if not is_complete(folder, shard):
            return False
        records += [Record(**r) for r in _read_json(folder / f"{_stem(shard)}.json", _AGAIN)["records"]]
    records.sort(key=lambda record: (record.sample, record.window))
    lines = "".join(json.dumps(record._asdict()) + "\n" for record in records)
    _write(folder / INDEX, lines.encode())
    return True


class ShardSource:
    """Random access to prepared samples.

    A sample's number is its line in the index. Whatever the epoch, its content is the same; its `id` is that of
    the epoch, so noise and dropouts differ.

    Attributes:
      recipe: what the samples were made with.
      null_text: hidden states of the empty caption.
      records: by sample number.
      shapes: by sample number.

    Raises:
      UserError: the folder has no index (not all shards are there), or lacks a shard.
    """

    def __init__(self, folder: str | Path):
        check_local(folder)
        self.folder = folder = Path(folder)
        self.recipe = read_recipe(folder)
        self.records = _read_index(folder)
        self.shapes = [Shape(record.height, record.width, record.kind) for record in self.records]
        self.null_text = _read_null_text(folder)
        lengths: dict[str, int] = {}
        for record in self.records:
            lengths[record.file] = max(lengths.get(record.file, 0), record.position + 1)
        missing = sorted(lengths.keys() - set(os.listdir(folder)))
        if missing:
            raise UserError(f"{folder / missing[0]}: no such file ({len(missing)} missing); {_AGAIN}")
        starts = np.cumsum([0, *lengths.values()])
        self._starts = dict(zip(lengths, starts.tolist()))
        # with the number of records no file is opened before it is read
        self._source = grain.sources.ArrayRecordDataSource(
            [f"{folder / file}[0:{length}]" for file, length in lengths.items()]
        )

    def name(self, sample: int) -> str:
        """Of a sample, for messages."""
        record = self.records[sample]
        return f"{record.name} ({record.file} record {record.position})"

    def load(self, id: SampleId, shape: Shape) -> PreparedSample:
        """The sample.

        Raises:
          BadSample: its record is damaged.
        """
        record = self.records[id.sample]
        try:
            values = serialization.msgpack_restore(self._source[self._starts[record.file] + record.position])
            return _unpack(values, self.recipe, id, record.name)
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadSample("damaged record", first) from None

    def blank(self, id: SampleId, shape: Shape) -> PreparedSample:
        """What stands for a sample that cannot be read: zeros, of weight 0."""
        recipe, dtype = self.recipe, self.null_text.dtype
        frames, grid = recipe.num_frames // 4, (shape.height // _CELL, shape.width // _CELL)
        latents = lambda count: np.zeros((count, *grid, recipe.channels), dtype)  # noqa: E731
        return PreparedSample(
            target=latents(frames),
            motion=latents(recipe.motion_latents),
            reference=latents(1),
            audio=np.zeros((recipe.num_frames, recipe.audio_layers, recipe.audio_dim), dtype),
            text=np.zeros_like(self.null_text),
            face=np.zeros((frames, *grid), np.uint8),
            body=np.zeros((frames, *grid), np.uint8),
            id=id,
            name=self.records[id.sample].name,
            weight=0.0,
        )

    @staticmethod
    def stack(samples: Sequence[PreparedSample]) -> PreparedSample:
        """A batch: the same fields with the samples first."""
        fields = PreparedSample(*zip(*samples))
        arrays = {name: np.stack(getattr(fields, name)) for name in _ARRAYS}
        ids, weights = np.array(fields.id, np.uint32), np.array(fields.weight, np.float32)
        return fields._replace(id=ids, weight=weights, **arrays)


def _pack(sample: PreparedSample, shape: Shape) -> bytes:
    """The arrays, without rows of text that are zero and motion latents that all are."""
    values = {name: np.asarray(getattr(sample, name)) for name in _ARRAYS}
    if shape.kind == "short":
        del values["motion"]
    filled = np.flatnonzero(values["text"].any(axis=-1))
    values["text"] = values["text"][: filled[-1] + 1 if len(filled) else 0]
    return serialization.msgpack_serialize(values)


def _unpack(values: dict[str, np.ndarray], recipe: Recipe, id: SampleId, name: str) -> PreparedSample:
    target, text = values["target"], values["text"]
    if "motion" not in values:
        values["motion"] = np.zeros((recipe.motion_latents, *target.shape[1:]), target.dtype)
    values["text"] = np.concatenate([text, np.zeros((recipe.text_len - len(text), text.shape[1]), text.dtype)])
    return PreparedSample(**values, id=id, name=name, weight=1.0)


def _read_index(folder: Path) -> list[Record]:
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"{folder}: not all shards are there; {_AGAIN} with the same flags: it goes on")
    try:
        records = [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError):
        raise UserError(f"{path}: damaged; delete it and {_AGAIN}") from None
    if not records:
        raise UserError(f"{folder}: holds no sample; see skipped.jsonl for what is wrong with each")
    return records


def _read_null_text(folder: Path) -> Float[np.ndarray, "text_len D"]:
    try:
        return serialization.msgpack_restore((folder / NULL_TEXT).read_bytes())["null_text"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder / NULL_TEXT}: missing or damaged; prepare anew") from None


def _stem(shard: int) -> str:
    return f"shard-{shard:05d}"


def _read_json(path: Path, absent: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(absent) from None
    except ValueError:
        raise UserError(f"{path}: damaged; delete it and {_AGAIN}") from None


def _write_json(path: Path, values: Any) -> None:
    _write(path, (json.dumps(values, indent=1) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    """In one step, also where several processes do it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with naming(path):
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
