"""Whatever bytes a file of weights has, reading it gives tensors or a line for the person: no traceback, no case over
10 s, no case that takes a gigabyte."""

import json
import resource
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.gguf_reader import read_gguf
from talkverse_jax.weights.json_table import read_table
from talkverse_jax.weights.mapped import read_one
from talkverse_jax.weights.safetensors_io import make_header, read_file
from talkverse_jax.weights.torch_reader import read_torch
from tests.convert.kinds import q8_0, save_gguf

TORCH = Path(__file__).parent / "files" / "nested.pth"
GIGABYTE = 1024**3
CASES = [25, pytest.param(10_000, marks=pytest.mark.slow)]

_NUMBERS = st.one_of(
    st.integers(0, 16), st.integers(), st.just(2**60), st.just(-1), st.booleans(), st.floats(), st.none(), st.text()
)
_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(["F32", "BF16", "I8", "F8_E8M0", "U64"]), _NUMBERS),
        "shape": st.one_of(st.lists(_NUMBERS, max_size=4), st.lists(st.just(1), max_size=100), _NUMBERS),
        "data_offsets": st.one_of(st.lists(st.integers(0, 64), min_size=2, max_size=2), st.lists(_NUMBERS), _NUMBERS),
    },
)
_VALUES = st.recursive(_NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
_HEADERS = st.one_of(
    st.dictionaries(st.text(max_size=8), _ENTRY | _VALUES, max_size=4).map(json.dumps).map(str.encode),
    st.integers(1, 200_000).map(lambda depth: b'{"a":' + b"[" * depth),
    st.integers(1, 100_000).map(lambda depth: b'{"a":' * depth),
    st.binary(max_size=64).map(lambda tail: b"{" + tail),
)
# A pickle's operations, those that make lists of tensors more often than others.
_OPERATIONS = st.one_of(
    st.sampled_from(
        [b"}", b"]", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"u", b"s", b"a", b"e", b"R", b"b", b"Q", b"0", b"2"]
        + [b"N", b"\x88", b"K\x00", b"J\xff\xff\xff\x7f", b"X\x05\x00\x00\x00model", b"h\x00", b"q\x00"]
        + [b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x0f"]
        + [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n"]
        + [b"cos\nsystem\n", b"X\x07\x00\x00\x00storage", b"X\x01\x00\x00\x000", b"\x94", b"\x93"]
    ),
    st.binary(max_size=4),
)


@contextmanager
def _within_a_gigabyte() -> Iterator[None]:
    """Memory that the block takes beyond a gigabyte is refused it, which is a MemoryError."""
    status = Path("/proc/self/status").read_text()
    held = 1024 * int(next(line for line in status.splitlines() if line.startswith("VmData")).split()[1])
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + GIGABYTE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _try_all(cases: int, path: Path, files: st.SearchStrategy[bytes], read: Callable) -> None:
    """Read what is drawn."""

    @settings(
        max_examples=cases,
        deadline=10_000,  # ms
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(files)
    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            with _within_a_gigabyte():
                read(path)
        except UserError as error:
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 600
            str(error).encode()

    one()


def _damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes cut, or some of them changed."""
    place = st.integers(0, len(data) - 1)
    changes = st.lists(st.tuples(place, st.integers(0, 255)), max_size=4)
    return st.tuples(changes, st.one_of(st.just(len(data)), place)).map(lambda drawn: _changed(data, *drawn))


def _changed(data: bytes, changes: list[tuple[int, int]], length: int) -> bytes:
    changed = bytearray(data)
    for place, value in changes:
        changed[place] = value
    return bytes(changed[:length])


@pytest.mark.parametrize("cases", CASES)
def test_headers_of_safetensors(tmp_path, cases):
    data = st.integers(0, 64)

    def read(path: Path) -> None:
        file = read_file(path)
        assert sum(value.nbytes for value in file.tensors.values()) <= path.stat().st_size

    files = st.tuples(_HEADERS, data).map(lambda drawn: struct.pack("<Q", len(drawn[0])) + drawn[0] + bytes(drawn[1]))
    _try_all(cases, tmp_path / "a.safetensors", files, read)


@pytest.mark.parametrize("cases", CASES)
def test_damaged_safetensors(tmp_path, cases):
    values = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.int8), "c.weight": np.zeros((), np.float16)}
    header = make_header({name: (value.dtype, value.shape) for name, value in values.items()}, {"format": "pt"})
    data = struct.pack("<Q", len(header)) + header.encode() + b"".join(value.tobytes() for value in values.values())
    _try_all(cases, tmp_path / "a.safetensors", _damaged(data), read_one)


@pytest.mark.parametrize("cases", CASES)
def test_lists_of_tensors_in_pth(tmp_path, cases):
    """Pickles of random operations, and the bytes of a good one changed."""
    with zipfile.ZipFile(TORCH) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    good = members["nested/data.pkl"]
    drawn = st.lists(_OPERATIONS, max_size=40).map(lambda operations: b"\x80\x02" + b"".join(operations) + b".")

    def file(pickled: bytes) -> bytes:
        with zipfile.ZipFile(tmp_path / "made.pth", "w") as archive:
            for name, content in (members | {"nested/data.pkl": pickled}).items():
                archive.writestr(name, content)
        return (tmp_path / "made.pth").read_bytes()

    _try_all(cases, tmp_path / "a.pth", st.one_of(drawn, _damaged(good)).map(file), read_torch)


@pytest.mark.parametrize("cases", CASES)
def test_damaged_pth(tmp_path, cases):
    _try_all(cases, tmp_path / "a.pth", _damaged(TORCH.read_bytes()), read_torch)


@pytest.mark.parametrize("cases", CASES)
def test_damaged_gguf(tmp_path, cases):
    stored, _ = q8_0(np.ones((2, 64)))
    tensors = {"a": (stored, "Q8_0"), "b": (np.ones((6, 8), np.float32), "F32")}
    path = save_gguf(tmp_path / "good.gguf", tensors, {"b": (2, 3, 8)})

    def read(path: Path) -> None:
        tensors, _ = read_gguf(path)
        for value in tensors.values():
            np.asarray(value)

    _try_all(cases, tmp_path / "a.gguf", _damaged(path.read_bytes()), read)


@pytest.mark.parametrize("cases", CASES)
def test_tables_of_json(tmp_path, cases):
    files = st.one_of(_HEADERS, _VALUES.map(json.dumps).map(str.encode), st.binary(max_size=64))
    _try_all(cases, tmp_path / "a.json", files, read_table)


def _pth(folder: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(TORCH) as source, zipfile.ZipFile(folder / "x.pth", "w") as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith("data.pkl") else source.read(name))
    return folder / "x.pth"


_STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x18tQ"
_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + _STORAGE + b"K\x00"


@pytest.mark.parametrize(
    "pickled, message",
    [
        # d = {}; d["model"] = d
        (b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.", "holds no tensors by name; get the file from its publisher"),
        # a tensor of shape (2**60,) and strides (0,)
        (
            b"\x80\x02}X\x01\x00\x00\x00a" + _TENSOR + b"\x8a\x08" + struct.pack("<q", 2**60) + b"\x85K\x00\x85tRs.",
            r"a tensor of [1152921504606846976] repeats 24 numbers",
        ),
        # a tuple of 2**40 tuples as a name
        (b"\x80\x02}" + b")" + b"q\x00h\x00\x86" * 40 + b"K\x00s.", "a table with a tuple for a name"),
        # memory for the 2**31st thing to remember
        (b"\x80\x02}r\xff\xff\xff\x7f.", "holds no tensors by name"),
        (b"\x80\x02" + b"}" * 5_000_000 + b".", "its list of tensors is 5,000,003 bytes long, more than is read"),
    ],
    ids=["itself", "stride 0", "tuples", "memory", "long"],
)
def test_pth_that_mean_harm(tmp_path, pickled, message):
    with pytest.raises(UserError) as error, _within_a_gigabyte():
        read_torch(_pth(tmp_path, pickled))
    assert message in str(error.value) and "\n" not in str(error.value)
