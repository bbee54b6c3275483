"""Samples prepared once for training: a folder of ArrayRecord shards.

    meta.json                    what the samples were made with (a family's `Recipe`)
    null_text.msgpack            an array that all samples share: such as hidden states of the empty caption
    shard-00012.array_record     samples, a record each: arrays by name, as flax.serialization writes them
    shard-00012.json             the shard's size and its records; written last, so the shard is complete
    samples.jsonl                the videos by number, also those that are gone (see `ledger`)
    index.jsonl                  the records of all shards, a line each, once all are there
    checksums                    of meta.json, null_text.msgpack and index.jsonl

Records have ArrayRecord's own hashes, which are compared as they are read; a shard's .json has its CRC-32 in itself.

Shards are read in place, at any record: the folder must be on a disk, or mounted as one.

Which arrays a sample has, a family's `SampleFormat` says.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from flax import serialization
from jaxtyping import Shaped

from talkverse_jax.core import checksums
from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.files import is_remote
from talkverse_jax.core.paths import publish
from talkverse_jax.data import identity, prepared
from talkverse_jax.data.batches import Kind, SampleId, WindowShape
from talkverse_jax.data.identity import Identity
from talkverse_jax.data.ledger import Ledger, Listed
from talkverse_jax.data.prepared import FORMAT, PreparedBatch, PreparedSample, SampleFormat, StoredArray
from talkverse_jax.media.bad_sample import BadSample

META, INDEX, SAMPLES = "meta.json", "index.jsonl", "samples.jsonl"
_CHECKSUMS = "checksums"
_OPTIONS = "group_size:1,uncompressed"  # bfloat16 of a network hardly shrinks
_AGAIN = "run talkverse-jax prepare again"


class IndexLine(NamedTuple):
    """Where a sample lies and what it is.

    Attributes:
      file, position: the shard and the record within it.
      height, width, kind: the sample's `WindowShape`.
      name: the video's.
      sample, window: the video's number in the folder (see `ledger`), and which of its windows.
      key: by what the video is known again (see `identity`); "" where an older program has written the index.
    """

    file: str
    position: int
    height: int
    width: int
    kind: Kind
    name: str
    sample: int
    window: int
    key: str = ""

    def plain(self) -> dict[str, Any]:
        """As a file has it."""
        return {name: value for name, value in self._asdict().items() if name != "key" or value}


def begin(folder: Path, form: SampleFormat, recipe: Any) -> None:
    """Make an empty folder that of a recipe, or make sure that it is.

    Raises:
      UserError: it holds samples of another recipe, or is in a bucket.
    """
    check_local(folder)
    if (folder / META).exists():
        form.require(read_recipe(folder, form), folder, **to_dict(recipe))
    else:
        _write_json(folder / META, to_dict(recipe))


def write_constants(folder: Path, constants: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    """Keep the arrays that all samples share."""
    for name, array in constants.items():
        _write(_constant(folder, name), serialization.msgpack_serialize({name: np.asarray(array)}))


def write_samples(folder: Path, known: Ledger) -> None:
    """Keep the numbers of the videos."""
    _write(folder / SAMPLES, known.text().encode())


def check_local(folder: str | Path) -> None:
    """Make sure that a folder of shards is on a disk.

    Raises:
      UserError: it is in a bucket.
    """
    if is_remote(folder):
        raise UserError(f"{folder}: shards are read in place; mount the bucket (gcsfuse) and give that folder")


def read_recipe(folder: Path, form: SampleFormat) -> Any:
    """What the samples of a folder were made with.

    Raises:
      UserError: it is no folder of prepared samples of the family, or of another version of this program.
    """
    values = _read_json(folder / META, f"{folder}: no prepared samples; make them with talkverse-jax prepare")
    if (found := values.get("format")) != FORMAT:
        raise UserError(f"{folder / META}: of format {found}, this program reads {FORMAT}; prepare anew")
    return from_dict(form.recipe_type, values, str(folder / META))


def is_complete(folder: Path, shard: int) -> bool:
    """Whether a shard is there, whole."""
    try:
        size = checksums.unstamped(json.loads((folder / f"{_stem(shard)}.json").read_text()))["bytes"]
        return (folder / f"{_stem(shard)}.array_record").stat().st_size == size
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
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

    def add(self, sample: PreparedSample, arrays: Mapping[str, StoredArray], shape: WindowShape) -> None:
        """Append a sample; its `id` holds window and sample number.

        Args:
          arrays: those of its shape (see `SampleFormat`).
        """
        packed = pack(sample, arrays, shape)
        self._checked(lambda: self._writer.write(packed))
        window, number = map(int, sample.id)
        place = (self._file.name, len(self._records))
        self._records.append(IndexLine(*place, *shape, sample.name, number, window))

    def finish(self) -> None:
        """Put the shard in its place."""
        self._checked(self._writer.close)
        with naming(self._file):
            publish(self._partial, self._file)
        values = {"bytes": self._file.stat().st_size, "records": [record.plain() for record in self._records]}
        _write_json(self._file.with_suffix(".json"), checksums.stamped(values))

    def _checked(self, function):
        try:
            return function()
        except RuntimeError as error:  # the one kind that ArrayRecord raises
            self._partial.unlink(missing_ok=True)
            first = str(error).splitlines()[0]
            raise UserError(f"{self._partial}: cannot be written ({first}); make room, then {_AGAIN}") from None


def write_index(folder: Path, shards: Iterable[int], keys: Mapping[int, str] | None = None) -> bool:
    """List the records of all shards, by sample and window; False where a shard is still missing.

    Several processes may come here at once: they write the same.

    Args:
      keys: of the samples that are listed, by number; None: all are, without keys.
    """
    records = []
    for shard in shards:
        if not is_complete(folder, shard):
            return False
        records += [IndexLine(**r) for r in _read_json(folder / f"{_stem(shard)}.json", _AGAIN)["records"]]
    if keys is not None:
        records = [record._replace(key=keys[record.sample]) for record in records if record.sample in keys]
    records.sort(key=lambda record: (record.sample, record.window))
    lines = "".join(json.dumps(record.plain()) + "\n" for record in records)
    (folder / _CHECKSUMS).unlink(missing_ok=True)  # may be of another index
    _write(folder / INDEX, lines.encode())
    _write(folder / _CHECKSUMS, checksums.lines(folder, _shared(folder)).encode())
    return True


def drop_index(folder: Path) -> None:
    """Of what was there before: no training starts until another is written."""
    for name in (_CHECKSUMS, INDEX):
        (folder / name).unlink(missing_ok=True)


def _shared(folder: Path) -> list[Path]:
    return [folder / META, folder / INDEX, *folder.glob("*.msgpack")]


class ShardSource:
    """Random access to prepared samples of a family.

    A sample's number is its line in the index. Whatever the epoch, its content is the same; its `id` is that of
    the epoch, so noise and dropouts differ.

    Attributes:
      recipe: what the samples were made with.
      constants: the arrays that all samples share.
      records, shapes: by sample number.

    Args:
      configs: of the family's components.

    Raises:
      UserError: the folder has no index (not all shards are there), lacks a shard, or one of its small files is
        damaged.
    """

    def __init__(self, folder: str | Path, form: SampleFormat, configs: Any):
        check_local(folder)
        self.folder, self._form, self._configs = Path(folder), form, configs
        folder = self.folder
        self.recipe = read_recipe(folder, form)
        self.records = _read_index(folder)
        self.shapes = [WindowShape(record.height, record.width, record.kind) for record in self.records]
        self.constants = {name: _read_constant(folder, name) for name in form.constants}
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

    @property
    def digest(self) -> str:
        """The same for the same samples in the same order; runs that were begun by older programs hold it too."""
        fields = ", ".join(f"{name}={value!r}" for name, value in dataclasses.asdict(self.recipe).items())
        lines = ", ".join(
            f"Record({', '.join(f'{name}={value!r}' for name, value in record._replace(key='').plain().items())})"
            for record in self.records
        )
        return hashlib.sha256(f"(Recipe({fields}), [{lines}])".encode()).hexdigest()

    @property
    def listed(self) -> list[Listed]:
        """The samples, by number. Of those that an older program listed only their numbers in the folder are known."""
        made = identity.digest({**dataclasses.asdict(self.recipe), "samples": "", "windows": 0, "shard_size": 0})
        found = []
        for record, shape in zip(self.records, self.shapes):
            decisive = (made, record.sample, record.window)
            before = Identity(identity.digest(self.recipe.samples, record.sample), "", identity.digest(*decisive))
            known = before
            if record.key:
                video, caption, rest = record.key.split("/")
                known = Identity(video, caption, identity.digest(rest, *decisive))
            found.append(Listed(known, record.name, shape, before))
        return found

    def name(self, sample: int) -> str:
        """Of a sample, for messages."""
        record = self.records[sample]
        return f"{record.name} ({record.file} record {record.position})"

    def load(self, id: SampleId, shape: WindowShape) -> PreparedSample:
        """The sample.

        Raises:
          BadSample: its record is damaged.
        """
        record = self.records[id.sample]
        try:
            values: Any = serialization.msgpack_restore(self._source[self._starts[record.file] + record.position])
            arrays = {name: known.unpack(values.get(name)) for name, known in self._arrays(shape).items()}
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadSample("damaged record", first) from None
        return PreparedSample(arrays, id, record.name, 1.0)

    def blank(self, id: SampleId, shape: WindowShape) -> PreparedSample:
        """What stands for a sample that cannot be read: zeros, of weight 0."""
        arrays = {name: np.zeros(known.shape, known.dtype) for name, known in self._arrays(shape).items()}
        return PreparedSample(arrays, id, self.records[id.sample].name, 0.0)

    @staticmethod
    def stack(samples: Sequence[PreparedSample]) -> PreparedBatch:
        """A batch."""
        return prepared.stack(samples)

    def _arrays(self, shape: WindowShape) -> dict[str, StoredArray]:
        return self._form.arrays(self._configs, self.recipe, shape)


def pack(sample: PreparedSample, arrays: Mapping[str, StoredArray], shape: WindowShape) -> bytes:
    """A record: the arrays, but for the zeros that are not stored."""
    packed = {name: known.pack(np.asarray(sample.arrays[name]), shape) for name, known in arrays.items()}
    return serialization.msgpack_serialize({name: array for name, array in packed.items() if array is not None})


def _check(folder: Path, *names: str) -> None:
    """Make sure that some of the files that all samples share are as they were written, where there are checksums.

    Raises:
      OSError, ValueError: one is not.
    """
    if (folder / _CHECKSUMS).exists():
        checksums.check(folder / _CHECKSUMS, lambda name: name in names)


def _read_index(folder: Path) -> list[IndexLine]:
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"{folder}: not all shards are there; {_AGAIN} with the same flags: it goes on")
    try:
        _check(folder, META, INDEX)
    except (OSError, ValueError) as error:
        raise UserError(f"{error}; delete it and {_AGAIN}") from None
    try:
        records = [IndexLine(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError):
        raise UserError(f"{path}: damaged; delete it and {_AGAIN}") from None
    if not records:
        raise UserError(f"{folder}: holds no sample; see skipped.jsonl for what is wrong with each")
    return records


def _read_constant(folder: Path, name: str) -> Shaped[np.ndarray, "..."]:
    path = _constant(folder, name)
    try:
        _check(folder, path.name)
        return serialization.msgpack_restore(path.read_bytes())[name]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: missing or damaged; prepare anew") from None


def _constant(folder: Path, name: str) -> Path:
    return folder / f"{name}.msgpack"


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
            publish(partial, path)
        finally:
            partial.unlink(missing_ok=True)
