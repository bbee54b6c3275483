"""Checkpoints written by blocks of rows: what Orbax reads from them, and how many bytes that takes."""

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts

from talkverse_jax.weights import blocks, orbax_io
from talkverse_jax.weights.lora import Pair

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _bytes_read() -> int:
    metrics = ts.experimental_collect_matching_metrics("/tensorstore/kvstore/file/bytes_read")
    return sum(value["value"] for metric in metrics for value in metric["values"])


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A transposed view of 1536 x 2048 as bfloat16, 6 MB, and its checkpoint."""
    array, path = _normal(2048, 1536).T, tmp_path_factory.mktemp("orbax") / "checkpoint"
    orbax_io.write(path, {"layer/kernel": blocks.cast(array, BFLOAT16)})
    return array.astype(BFLOAT16), path


def test_orbax_alone_restores_every_array(tmp_path):
    values = {
        "blocks/0/kernel": _normal(40, 30).T,
        "blocks/1/kernel": _normal(30, 40).astype(BFLOAT16),
        "conv": _normal(3, 3, 5, 7).transpose(2, 3, 1, 0),
        "scalar": np.array(2.5, np.float32),
        "x.y.weight": np.arange(5),
        "empty": np.zeros((0, 3), np.float32),
    }
    written = []
    orbax_io.write(tmp_path / "c", {name: blocks.cast(value) for name, value in values.items()}, written.append)
    assert sum(written) == sum(value.nbytes for value in values.values())
    tree = ocp.PyTreeCheckpointer().restore(tmp_path / "c")
    restored = {"/".join(key.key for key in path): leaf for path, leaf in jax.tree.flatten_with_path(tree)[0]}
    assert restored.keys() == values.keys()
    for name, value in values.items():
        assert restored[name].dtype == value.dtype
        np.testing.assert_array_equal(restored[name], value, err_msg=name)
    assert {n: (s.shape, s.dtype) for n, s in orbax_io.shapes(tmp_path / "c").items()} == {
        n: (v.shape, v.dtype) for n, v in values.items()
    }


def test_blocks_of_any_size_give_the_same_array(tmp_path, monkeypatch):
    monkeypatch.setattr(orbax_io, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(orbax_io, "_BLOCK_BYTES", 3000)
    monkeypatch.setattr(orbax_io, "_IN_FLIGHT_BYTES", 5000)
    monkeypatch.setattr(orbax_io, "_GROUP_BYTES", 10_000)
    values = {"a": _normal(101, 37), "b": _normal(37, 101).T, "c": _normal(2, 3, 50)}
    orbax_io.write(tmp_path / "c", {name: blocks.cast(value) for name, value in values.items()})
    leaves = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in values.items()}
    for name, value in orbax_io.read(tmp_path / "c", leaves).items():
        np.testing.assert_array_equal(value, values[name])


def test_reading_casts_and_shards(kernel):
    array, path = kernel
    mesh = jax.make_mesh((jax.device_count(),), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    leaf = jax.ShapeDtypeStruct(array.shape, np.float32, sharding=sharding)
    restored = orbax_io.read(path, {"layer/kernel": leaf})["layer/kernel"]
    assert restored.dtype == np.float32 and restored.sharding == sharding
    np.testing.assert_array_equal(restored, array.astype(np.float32))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("parts", [2, 8])
def test_a_shard_is_read_without_its_neighbours(kernel, axis, parts):
    """Bytes read from the disk for one shard, by rows and by columns."""
    array, path = kernel
    store = {"driver": "ocdbt", "base": f"file://{path}/", "path": "layer.kernel/"}
    stored = ts.open({"driver": "zarr3", "kvstore": store}, open=True).result()
    length = array.shape[axis] // parts
    shard = (slice(None),) * axis + (slice(length, 2 * length),)
    before = _bytes_read()
    np.testing.assert_array_equal(stored[shard].read().result(), array[shard])
    assert _bytes_read() - before < 1.05 * array.nbytes / parts


def test_full_size_chunks():
    """Every kernel of the real models is cut into eight along both axes, in chunks of at most 4 MB."""
    for shape in [(3072, 3072), (3072, 14336), (14336, 3072), (256384, 4096), (4096, 10240), (10240, 4096)]:
        for itemsize in (2, 4):
            chunk = orbax_io.chunk_shape(shape, itemsize)
            assert np.prod(chunk) * itemsize <= 4 * 1024**2
            assert all(length % (8 * part) == 0 for length, part in zip(shape, chunk))


def test_the_sum_is_rounded_once():
    kernel, left, right = _normal(70, 50).astype(BFLOAT16), _normal(70, 4), _normal(4, 50).astype(BFLOAT16)
    whole = blocks.add(kernel, [Pair(left.T, right.T, 0.5)], BFLOAT16).rows(slice(0, 70))
    exact = kernel.astype(np.float64) + 0.5 * left.astype(np.float64) @ right.astype(np.float64)
    np.testing.assert_array_equal(whole, exact.astype(np.float32).astype(BFLOAT16))
    part = blocks.add(kernel, [Pair(left.T, right.T, 0.5)], BFLOAT16).rows(slice(33, 51))
    np.testing.assert_array_equal(part, whole[33:51])
