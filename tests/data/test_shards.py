"""Shards of prepared samples: written, indexed, read at random, damaged, read by workers."""

import dataclasses
import hashlib
import json
import os
import pickle
import resource
import signal

import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data import shards
from talkverse_jax.data.batches import BatchOrder, SampleId, WindowShape
from talkverse_jax.data.loader import batches
from talkverse_jax.data.prepared import PreparedSample, SampleFormat, StoredArray
from talkverse_jax.data.shards import ShardSource, ShardWriter, pack
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.media.bad_sample import BadSample
from tests.disk import flipped, note_order, untold


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Of a family that exists here alone; its arrays are like TalkVerse's."""

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
    format: int = 1


def arrays(cell: int, recipe: Recipe, shape: WindowShape) -> dict[str, StoredArray]:
    latents = lambda count: (count, shape.height // cell, shape.width // cell, 4)  # noqa: E731
    return {
        "target": StoredArray(latents(2), BFLOAT16),
        "motion": StoredArray(latents(19), BFLOAT16, "with motion"),
        "reference": StoredArray(latents(1), BFLOAT16),
        "audio": StoredArray((8, 3, 5), BFLOAT16),
        "text": StoredArray((16, 6), BFLOAT16, "filled rows"),
        "face": StoredArray(latents(2)[:3], np.uint8),
        "body": StoredArray(latents(2)[:3], np.uint8),
    }


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FORMAT = SampleFormat(("vae", "audio", "text"), ("null_text",), Recipe, arrays)
CELL = 16  # its configs
MOTION, SHORT = WindowShape(32, 48, "motion"), WindowShape(32, 32, "short")
RECIPE = Recipe(
    vae="a",
    audio="b",
    text="c",
    size_bucket="tiny-128",
    num_frames=8,
    motion_frames=73,
    audio_alignment="exact",
    dtype="bfloat16",
    roi=True,
    channels=4,
    audio_layers=3,
    audio_dim=5,
    motion_latents=19,
    text_len=16,
    seed=0,
    windows=2,
    shard_size=2,
    samples="d",
)
# Shard -> (shape, [(window, sample)]): four videos, two windows each, sample 3 of another shape.
CONTENT = [
    (MOTION, [(0, 0), (1, 0)]),
    (MOTION, [(0, 1), (1, 1)]),
    (MOTION, [(1, 2)]),  # its window 0 could not be read
    (SHORT, [(0, 3), (1, 3)]),
]


def prepared(shape: WindowShape, window: int, number: int) -> PreparedSample:
    rng = np.random.default_rng([window, number])
    h, w = shape.height // 16, shape.width // 16
    array = lambda *size: rng.standard_normal(size).astype(ml_dtypes.bfloat16)  # noqa: E731
    motion, text = array(19, h, w, 4), array(16, 6)
    if shape.kind == "short":
        motion[:] = 0
    text[5 + number :] = 0
    mask = lambda: rng.integers(0, 2, (2, h, w), np.uint8)  # noqa: E731
    return PreparedSample(
        arrays=dict(
            target=array(2, h, w, 4),
            motion=motion,
            reference=array(1, h, w, 4),
            audio=array(8, 3, 5),
            text=text,
            face=mask(),
            body=mask(),
        ),
        id=SampleId(window, number),
        name=f"clip{number}",
        weight=1.0,
    )


def write(folder, content=CONTENT) -> None:
    shards.begin(folder, FORMAT, RECIPE)
    shards.write_constants(folder, {"null_text": prepared(SHORT, 9, 0).arrays["text"]})
    for number, (shape, ids) in enumerate(content):
        writer = ShardWriter(folder, number)
        for window, sample in ids:
            writer.add(prepared(shape, window, sample), arrays(CELL, RECIPE, shape), shape)
        writer.finish()


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    assert shards.write_index(tmp_path, range(len(CONTENT)))
    return tmp_path


def equal(ours: PreparedSample, reference: PreparedSample) -> None:
    assert list(ours.arrays) == list(reference.arrays)
    for name in ours.arrays:
        a, b = ours.arrays[name], reference.arrays[name]
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_all_samples_come_back(folder):
    source = ShardSource(folder, FORMAT, CELL)
    order = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (3, 0), (3, 1)]
    assert [(r.sample, r.window) for r in source.records] == order
    assert source.shapes == [MOTION] * 5 + [SHORT] * 2
    assert source.recipe == RECIPE
    for place in (6, 0, 3, 4, 1, 5, 2):
        sample, window = order[place]
        loaded = source.load(SampleId(7, place), source.shapes[place])
        equal(loaded, prepared(source.shapes[place], window, sample))
        assert (loaded.id, loaded.name, loaded.weight) == ((7, place), f"clip{sample}", 1.0)
        assert f"clip{sample} (shard-0000" in source.name(place)
    np.testing.assert_array_equal(source.constants["null_text"], prepared(SHORT, 9, 0).arrays["text"])


def test_nothing_is_stored_of_zeros(folder):
    full = prepared(SHORT, 0, 3)
    packed = len(shards.pack(full, arrays(CELL, RECIPE, SHORT), SHORT))
    kept = sum(full.arrays[name].nbytes for name in ("target", "reference", "audio", "face", "body"))
    text = full.arrays["text"][:8].nbytes
    assert kept + text <= packed < kept + text + 400


def test_a_blank_stacks_with_samples(folder):
    source = ShardSource(folder, FORMAT, CELL)
    for place in (0, 6):
        shape = source.shapes[place]
        loaded, blank = source.load(SampleId(0, place), shape), source.blank(SampleId(5, place), shape)
        batch = source.stack([loaded, blank])
        for name, array in batch.arrays.items():
            assert array.dtype == loaded.arrays[name].dtype and not array[1].any()
            np.testing.assert_array_equal(array[0], loaded.arrays[name])
        np.testing.assert_array_equal(batch.ids, np.array([[0, place], [5, place]], np.uint32))
        np.testing.assert_array_equal(batch.weights, np.array([1, 0], np.float32))
        assert batch.names == (loaded.name, loaded.name)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_reads_them(folder, workers):
    source = ShardSource(folder, FORMAT, CELL)
    plan, skipped = BatchOrder(source.shapes, 2, seed=0), Skipped(None)
    stream = batches(source, plan, skipped, workers=workers, threads=2)
    for number in range(4):
        loaded = next(stream)
        assert loaded.batch == plan[number]
        for row, id in enumerate(loaded.batch.samples):
            expected = source.load(id, loaded.batch.shape)
            np.testing.assert_array_equal(loaded.samples.arrays["target"][row], expected.arrays["target"])
        np.testing.assert_array_equal(loaded.samples.weights, [1, 1])
    stream.close()
    assert skipped.seen == 8 and not skipped.counts


def test_a_damaged_record_is_a_bad_sample(folder):
    source = ShardSource(folder, FORMAT, CELL)
    path = folder / "shard-00001.array_record"
    content, target = path.read_bytes(), prepared(MOTION, 1, 1).arrays["target"].tobytes()
    assert target in content
    path.write_bytes(content.replace(target, bytes(len(target))))
    equal(source.load(SampleId(0, 2), MOTION), prepared(MOTION, 0, 1))
    with pytest.raises(BadSample) as error:
        source.load(SampleId(0, 3), MOTION)
    assert error.value.reason == "damaged record" and "hash mismatch" in error.value.detail
    equal(pickle.loads(pickle.dumps(source)).load(SampleId(0, 0), MOTION), prepared(MOTION, 0, 0))


@pytest.mark.parametrize("content", [b"", b"x" * 100_000])
def test_a_damaged_shard_is_bad_samples(folder, content):
    (folder / "shard-00002.array_record").write_bytes(content)
    source = ShardSource(folder, FORMAT, CELL)
    with pytest.raises(BadSample, match="damaged record"):
        source.load(SampleId(0, 4), MOTION)
    assert not shards.is_complete(folder, 2) and shards.is_complete(folder, 1)


def _samples(folder) -> list[dict[str, bytes]]:
    source = ShardSource(folder, FORMAT, CELL)
    loaded = [source.load(SampleId(0, place), shape) for place, shape in enumerate(source.shapes)]
    return [{name: array.tobytes() for name, array in sample.arrays.items()} for sample in loaded]


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_a_bit_that_is_another_one_is_told(folder, count):
    """Of a shard file this fails where a record lies; what ArrayRecord fills up with nobody reads."""
    samples = _samples(folder)

    def told(path) -> bool:
        if path.name.startswith("shard-") and path.suffix == ".json":
            return not shards.is_complete(folder, int(path.stem[6:]))
        try:
            assert _samples(folder) == samples
        except UserError as error:
            return str(folder) in str(error) and "\n" not in str(error)
        except BadSample as error:
            return error.reason == "damaged record"
        return False

    small = [path for path in sorted(folder.iterdir()) if path.suffix != ".array_record"]
    assert len(small) == 8 and untold(small, count, told) == []
    for path in folder.glob("*.array_record"):
        untold([path], count, told)  # `told` compares what is loaded


def test_every_bit_of_a_record_is_compared(folder):
    path = folder / "shard-00001.array_record"
    packed = pack(prepared(MOTION, 0, 1), arrays(CELL, RECIPE, MOTION), MOTION)
    place, source = path.read_bytes().index(packed), ShardSource(folder, FORMAT, CELL)
    for bit in np.random.default_rng(0).integers(8 * place, 8 * (place + len(packed)), 100).tolist():
        with flipped(path, bit), pytest.raises(BadSample, match="damaged record"):
            source.load(SampleId(0, 2), MOTION)
    source.load(SampleId(0, 2), MOTION)


def test_a_shard_is_on_the_disk_before_its_list_is_and_the_list_before_it_has_its_name(tmp_path, monkeypatch):
    shards.begin(tmp_path, FORMAT, RECIPE)
    writer = ShardWriter(tmp_path, 0)
    writer.add(prepared(SHORT, 0, 0), arrays(CELL, RECIPE, SHORT), SHORT)
    order = note_order(monkeypatch)
    writer.finish()
    partial, shard, listing = (f"{tmp_path}/shard-00000.{end}" for end in ("partial", "array_record", "json"))
    own = f"{listing}.{os.getpid()}.partial"
    folder = ("sync", str(tmp_path))
    assert order == [("sync", partial), ("name", shard), folder, ("sync", own), ("name", listing), folder]


def test_a_missing_shard_is_one_line(folder):
    (folder / "shard-00002.array_record").unlink()
    with pytest.raises(UserError, match=r"shard-00002.array_record: no such file \(1 missing\)"):
        ShardSource(folder, FORMAT, CELL)


def test_without_all_shards_there_is_no_index(tmp_path):
    write(tmp_path, CONTENT[:2])
    assert not shards.write_index(tmp_path, range(3))
    with pytest.raises(UserError, match="not all shards are there"):
        ShardSource(tmp_path, FORMAT, CELL)


def test_a_shard_half_written_does_not_count(tmp_path):
    shards.begin(tmp_path, FORMAT, RECIPE)
    writer = ShardWriter(tmp_path, 0)
    writer.add(prepared(SHORT, 0, 0), arrays(CELL, RECIPE, SHORT), SHORT)
    assert not shards.is_complete(tmp_path, 0)
    writer.finish()
    assert shards.is_complete(tmp_path, 0)
    (tmp_path / "shard-00000.json").write_text("{")
    assert not shards.is_complete(tmp_path, 0)


def test_the_order_does_not_depend_on_the_shards(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write(other, CONTENT[::-1])
    shards.write_index(other, range(len(CONTENT)))
    ours, theirs = ShardSource(folder, FORMAT, CELL), ShardSource(other, FORMAT, CELL)
    assert ours.shapes == theirs.shapes
    for place, shape in enumerate(ours.shapes):
        equal(ours.load(SampleId(0, place), shape), theirs.load(SampleId(0, place), shape))


def test_another_recipe_is_refused(folder):
    for name, message in {
        "num_frames": "made with --num_frames 8, not 0",
        "vae": "made with other weights of vae",
        "roi": "made with masks of face and body; give --enable_roi_loss",
        "samples": "made from other videos",
    }.items():
        other = dataclasses.replace(RECIPE, **{name: type(getattr(RECIPE, name))()})
        with pytest.raises(UserError, match=message):
            shards.begin(folder, FORMAT, other)
    shards.begin(folder, FORMAT, RECIPE)
    FORMAT.require(ShardSource(folder, FORMAT, CELL).recipe, folder, num_frames=8, vae="a")


def test_damaged_or_foreign_files_are_one_line(folder, tmp_path_factory):
    with pytest.raises(UserError, match="no prepared samples; make them"):
        ShardSource(tmp_path_factory.mktemp("empty"), FORMAT, CELL)
    with pytest.raises(UserError, match="mount the bucket"):
        ShardSource("gs://bucket/shards", FORMAT, CELL)
    (folder / "checksums").unlink()  # as older versions wrote it
    meta = folder / "meta.json"
    values = json.loads(meta.read_text())
    for content, message in {
        json.dumps(values | {"format": 9}): "of format 9, this program reads 1",
        "{": "damaged",
        json.dumps(values | {"windows": "two"}): "windows: expected int",
    }.items():
        meta.write_text(content)
        with pytest.raises(UserError, match=message):
            ShardSource(folder, FORMAT, CELL)
    meta.write_text(json.dumps(values))
    for name, message in {"null_text.msgpack": "missing or damaged", "index.jsonl": "damaged; delete it"}.items():
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(b'{"file"')
        with pytest.raises(UserError, match=message):
            ShardSource(folder, FORMAT, CELL)
        (folder / name).write_bytes(kept)
    (folder / "index.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no sample"):
        ShardSource(folder, FORMAT, CELL)


def test_a_full_disk_is_one_line(tmp_path):
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        writer = ShardWriter(tmp_path, 0)
        writer.add(prepared(SHORT, 0, 0), arrays(CELL, RECIPE, SHORT), SHORT)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(UserError, match="cannot be written .*File too large.*make room"):
            writer.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_files_are_those_of_the_first_version(folder):
    """Digests of what the program wrote when it knew one family; runs on such shards are gone on with."""
    (folder / "checksums").unlink()
    for path in folder.glob("shard-*.json"):  # what was added since
        values = json.loads(path.read_text())
        del values["crc32"]
        path.write_text(json.dumps(values, indent=1) + "\n")
        assert shards.is_complete(folder, int(path.stem[6:]))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in folder.iterdir()}
    assert found == {
        "index.jsonl": "ccee63d7c69a1955",
        "meta.json": "e91c382e054883a2",
        "null_text.msgpack": "3233b9002d345189",
        "shard-00000.array_record": "9c137702a8e673c3",
        "shard-00000.json": "54132f45927eb258",
        "shard-00001.array_record": "f902b03e06d5fc6a",
        "shard-00001.json": "df7c23ac480a39ff",
        "shard-00002.array_record": "dfc82891784e9a21",
        "shard-00002.json": "a2447160d2e8676e",
        "shard-00003.array_record": "1dec9384f9113b33",
        "shard-00003.json": "e0cc27af857f7800",
    }
    digest = "1fca40dc4cbe425527dcbbede84443de2e233c3465f00d6152b9b46d1169c12d"
    assert ShardSource(folder, FORMAT, CELL).digest == digest
