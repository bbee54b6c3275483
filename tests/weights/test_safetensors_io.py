import json
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import safetensors_io as st

STEM = "diffusion_pytorch_model"


def _tensors(*names: str) -> dict[str, np.ndarray]:
    return {name: np.arange(6, dtype=np.float32).reshape(2, 3) + i for i, name in enumerate(names)}


def _shards(folder, index: bool) -> dict[str, np.ndarray]:
    """Three shards of one tensor each."""
    tensors = _tensors("a", "b", "c")
    files = {name: f"{STEM}-{i:05d}-of-00003.safetensors" for i, name in enumerate(tensors, 1)}
    for name, file in files.items():
        save_file({name: tensors[name]}, folder / file)
    if index:
        st.index_file(folder, STEM).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return tensors


def test_every_dtype_as_the_safetensors_library_writes_it(tmp_path):
    tensors = {
        "bf16": np.linspace(-3, 3, 7).astype(ml_dtypes.bfloat16),
        "f16": np.linspace(-3, 3, 7).astype(np.float16),
        "f32": np.linspace(-3, 3, 6, dtype=np.float32).reshape(1, 2, 3),
        "i64": np.array(5, np.int64),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float32),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = st.read_file(tmp_path / "x.safetensors").tensors
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_written_file_is_read_by_the_safetensors_library(tmp_path):
    tensors = {"a": np.arange(5, dtype=np.float32), "b": np.ones((2, 3), ml_dtypes.bfloat16)}
    header = st.make_header({n: (t.dtype, t.shape) for n, t in tensors.items()}, {"format": "pt"})
    st.write_file(tmp_path / "x.safetensors", header, iter(tensors.values()))
    for name, value in load_file(tmp_path / "x.safetensors").items():
        np.testing.assert_array_equal(tensors[name], value)


def test_the_same_header_gives_the_same_file(tmp_path):
    save_file(_tensors("b", "a"), tmp_path / "x.safetensors", metadata={"format": "pt"})
    file = st.read_file(tmp_path / "x.safetensors")
    names = st.parse_header(file.header)
    st.write_file(tmp_path / "y.safetensors", file.header, (file.tensors[name] for name in names))
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()


@pytest.mark.parametrize("index", [True, False])
def test_shards(tmp_path, index):
    tensors = _shards(tmp_path, index)
    found = st.merge(st.read_shards(tmp_path, STEM))
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in tensors.items()
    }


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard_is_named(tmp_path, index):
    _shards(tmp_path, index)
    (tmp_path / f"{STEM}-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserError, match=f"{STEM}-00002-of-00003.safetensors: missing"):
        st.read_shards(tmp_path, STEM)


def test_a_shard_without_the_tensor_the_index_promises(tmp_path):
    _shards(tmp_path, index=True)
    save_file(_tensors("other"), tmp_path / f"{STEM}-00002-of-00003.safetensors")
    with pytest.raises(UserError, match="00002-of-00003.safetensors: lacks b, which .*index.json promises"):
        st.read_shards(tmp_path, STEM)


def test_a_tensor_in_two_shards(tmp_path):
    _shards(tmp_path, index=False)
    save_file(_tensors("a"), tmp_path / f"{STEM}-00002-of-00003.safetensors")
    with pytest.raises(UserError, match="a is in another shard too"):
        st.read_shards(tmp_path, STEM)


def test_an_index_that_leads_out_of_the_folder(tmp_path):
    st.index_file(tmp_path, STEM).write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(UserError, match="not an index"):
        st.read_shards(tmp_path, STEM)


def test_single_file_and_none(tmp_path):
    with pytest.raises(UserError, match=rf"no {STEM}\*\.safetensors"):
        st.read_shards(tmp_path, STEM)
    save_file(_tensors("a"), tmp_path / f"{STEM}.safetensors")
    assert list(st.merge(st.read_shards(tmp_path, STEM))) == ["a"]
    with pytest.raises(UserError, match="no such folder"):
        st.read_shards(tmp_path / "nowhere", STEM)


@pytest.mark.parametrize("change", [-1, 1, -1000, 8])
def test_a_size_that_is_not_the_headers(tmp_path, change):
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(1000, np.float32)}, path)
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(UserError, match=r"x\.safetensors: [\d,]+ bytes long, [\d,]+ by its header"):
        st.read_file(path)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is empty; download it again"),
        (b"hello", "not a safetensors file"),
        (struct.pack("<Q", 1 << 40) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 4) + b"nope", "not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "not a safetensors file"),
        (struct.pack("<Q", 200) + b'{"a": 1}', "cut short within its header; download it again"),
        (struct.pack("<Q", 3) + b'{"\xff', "its header cannot be read: it is not UTF-8; download it again"),
    ],
)
def test_not_safetensors(tmp_path, data, message):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=rf"x\.safetensors: {message}"):
        st.read_file(tmp_path / "x.safetensors")
