"""Shards of prepared samples: written, indexed, read at random, damaged, read by workers."""

import dataclasses
import json
import pickle
import resource
import signal

import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data import shards
from talkverse_jax.data.batches import BatchPlan, SampleId, Shape
from talkverse_jax.data.loader import batches
from talkverse_jax.data.shards import PreparedSample, Recipe, ShardSource, ShardWriter
from talkverse_jax.data.skipped import BadSample, Skipped

MOTION, SHORT = Shape(32, 48, "motion"), Shape(32, 32, "short")
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


def prepared(shape: Shape, window: int, number: int) -> PreparedSample:
    rng = np.random.default_rng([window, number])
    h, w = shape.height // 16, shape.width // 16
    array = lambda *size: rng.standard_normal(size).astype(ml_dtypes.bfloat16)  # noqa: E731
    motion, text = array(19, h, w, 4), array(16, 6)
    if shape.kind == "short":
        motion[:] = 0
    text[5 + number :] = 0
    mask = lambda: rng.integers(0, 2, (2, h, w), np.uint8)  # noqa: E731
    return PreparedSample(
        target=array(2, h, w, 4),
        motion=motion,
        reference=array(1, h, w, 4),
        audio=array(8, 3, 5),
        text=text,
        face=mask(),
        body=mask(),
        id=SampleId(window, number),
        name=f"clip{number}",
        weight=1.0,
    )


def write(folder, content=CONTENT) -> None:
    shards.begin(folder, RECIPE)
    shards.write_null_text(folder, prepared(SHORT, 9, 0).text)
    for number, (shape, ids) in enumerate(content):
        writer = ShardWriter(folder, number)
        for window, sample in ids:
            writer.add(prepared(shape, window, sample), shape)
        writer.finish()


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    assert shards.write_index(tmp_path, len(CONTENT))
    return tmp_path


def equal(ours: PreparedSample, reference: PreparedSample) -> None:
    for name in shards._ARRAYS:
        a, b = getattr(ours, name), getattr(reference, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_all_samples_come_back(folder):
    source = ShardSource(folder)
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
    np.testing.assert_array_equal(source.null_text, prepared(SHORT, 9, 0).text)


def test_nothing_is_stored_of_zeros(folder):
    full = prepared(SHORT, 0, 3)
    packed = len(shards._pack(full, SHORT))
    kept = sum(getattr(full, name).nbytes for name in ("target", "reference", "audio", "face", "body"))
    assert kept + full.text[:8].nbytes <= packed < kept + full.text[:8].nbytes + 400


def test_a_blank_stacks_with_samples(folder):
    source = ShardSource(folder)
    for place in (0, 6):
        shape = source.shapes[place]
        loaded, blank = source.load(SampleId(0, place), shape), source.blank(SampleId(5, place), shape)
        batch = source.stack([loaded, blank])
        for name in shards._ARRAYS:
            array = getattr(batch, name)
            assert array.dtype == getattr(loaded, name).dtype and not array[1].any()
            np.testing.assert_array_equal(array[0], getattr(loaded, name))
        np.testing.assert_array_equal(batch.id, np.array([[0, place], [5, place]], np.uint32))
        np.testing.assert_array_equal(batch.weight, np.array([1, 0], np.float32))
        assert batch.name == (loaded.name, loaded.name)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_reads_them(folder, workers):
    source = ShardSource(folder)
    plan, skipped = BatchPlan(source.shapes, 2, seed=0), Skipped(None)
    stream = batches(source, plan, skipped, workers=workers, threads=2)
    for number in range(4):
        loaded = next(stream)
        assert loaded.batch == plan[number]
        for row, id in enumerate(loaded.batch.samples):
            expected = source.load(id, loaded.batch.shape)
            np.testing.assert_array_equal(loaded.samples.target[row], expected.target)
        np.testing.assert_array_equal(loaded.samples.weight, [1, 1])
    stream.close()
    assert skipped.seen == 8 and not skipped.counts


def test_a_damaged_record_is_a_bad_sample(folder):
    source = ShardSource(folder)
    path = folder / "shard-00001.array_record"
    content, target = path.read_bytes(), prepared(MOTION, 1, 1).target.tobytes()
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
    source = ShardSource(folder)
    with pytest.raises(BadSample, match="damaged record"):
        source.load(SampleId(0, 4), MOTION)
    assert not shards.is_complete(folder, 2) and shards.is_complete(folder, 1)


def test_a_missing_shard_is_one_line(folder):
    (folder / "shard-00002.array_record").unlink()
    with pytest.raises(UserError, match=r"shard-00002.array_record: no such file \(1 missing\)"):
        ShardSource(folder)


def test_without_all_shards_there_is_no_index(tmp_path):
    write(tmp_path, CONTENT[:2])
    assert not shards.write_index(tmp_path, 3)
    with pytest.raises(UserError, match="not all shards are there"):
        ShardSource(tmp_path)


def test_a_shard_half_written_does_not_count(tmp_path):
    shards.begin(tmp_path, RECIPE)
    writer = ShardWriter(tmp_path, 0)
    writer.add(prepared(SHORT, 0, 0), SHORT)
    assert not shards.is_complete(tmp_path, 0)
    writer.finish()
    assert shards.is_complete(tmp_path, 0)
    (tmp_path / "shard-00000.json").write_text("{")
    assert not shards.is_complete(tmp_path, 0)


def test_the_order_does_not_depend_on_the_shards(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write(other, CONTENT[::-1])
    shards.write_index(other, len(CONTENT))
    ours, theirs = ShardSource(folder), ShardSource(other)
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
            shards.begin(folder, other)
    shards.begin(folder, RECIPE)
    ShardSource(folder).recipe.require(folder, num_frames=8, vae="a")


def test_damaged_or_foreign_files_are_one_line(folder, tmp_path_factory):
    with pytest.raises(UserError, match="no prepared samples; make them"):
        ShardSource(tmp_path_factory.mktemp("empty"))
    with pytest.raises(UserError, match="mount the bucket"):
        ShardSource("gs://bucket/shards")
    meta = folder / "meta.json"
    values = json.loads(meta.read_text())
    for content, message in {
        json.dumps(values | {"format": 9}): "of format 9, this program reads 1",
        "{": "damaged",
        json.dumps(values | {"windows": "two"}): "windows: expected int",
    }.items():
        meta.write_text(content)
        with pytest.raises(UserError, match=message):
            ShardSource(folder)
    meta.write_text(json.dumps(values))
    for name, message in {"null_text.msgpack": "missing or damaged", "index.jsonl": "damaged; delete it"}.items():
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(b'{"file"')
        with pytest.raises(UserError, match=message):
            ShardSource(folder)
        (folder / name).write_bytes(kept)
    (folder / "index.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no sample"):
        ShardSource(folder)


def test_a_full_disk_is_one_line(tmp_path):
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        writer = ShardWriter(tmp_path, 0)
        writer.add(prepared(SHORT, 0, 0), SHORT)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(UserError, match="cannot be written .*File too large.*make room"):
            writer.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
