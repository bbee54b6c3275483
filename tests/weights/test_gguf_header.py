import struct

import numpy as np
import pytest

from talkverse_jax.weights.gguf_header import StoredTensor, parse
from tests.convert.kinds import save_gguf


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _file(*fields: bytes, tensors: bytes = b"", count: int = 0) -> memoryview:
    return memoryview(b"GGUF" + struct.pack("<IQQ", 3, count, len(fields)) + b"".join(fields) + tensors)


def _array(kind: int, length: int, values: bytes) -> bytes:
    return struct.pack("<IIQ", 9, kind, length) + values


def test_what_the_package_writes(tmp_path):
    path = save_gguf(tmp_path / "x.gguf", {"a": (np.ones((6, 8), np.float32), "F32")}, {"a": (2, 3, 8)})
    header = parse(memoryview(path.read_bytes()))
    [tensor] = header.tensors
    assert (tensor.name, tensor.shape, tensor.kind, tensor.start % 32) == ("a", (6, 8), 0, 0)
    assert header.fields["comfy.gguf.orig_shape.a"] == [2, 3, 8]
    np.testing.assert_array_equal(np.frombuffer(path.read_bytes()[tensor.start :][: 48 * 4], np.float32), 1)


def test_fields_of_all_types():
    numbers = {0: 200, 1: -5, 2: 60000, 3: -300, 4: 2**31, 5: -9, 6: 0.5, 7: True, 10: 2**60, 11: -(2**60), 12: 0.1}
    forms = dict(zip(numbers, "BbHhIif?Qqd"))
    fields = [_string(f"n{kind}") + struct.pack(f"<I{forms[kind]}", kind, value) for kind, value in numbers.items()]
    tokens = _array(8, 2, _string("a") + _string("b"))
    nested = _array(9, 2, struct.pack("<IQBB", 0, 2, 1, 2) + struct.pack("<IQB", 0, 1, 3))
    fields += [
        _string("tokens") + tokens,
        _string("nested") + nested,
        _string("text") + struct.pack("<I", 8) + _string("ü"),
    ]
    long = _string("scores") + _array(6, 100, bytes(400))
    tensor = _string("t") + struct.pack("<I2QIQ", 2, 8, 6, 1, 64)
    made = _file(*fields, long, tensors=tensor, count=1)
    found = parse(made)
    assert {kind: found.fields[f"n{kind}"] for kind in numbers} == numbers
    assert found.fields["tokens"] == ["a", "b"] and found.fields["nested"] == [[1, 2], [3]]
    assert found.fields["text"] == "ü" and found.fields["scores"] is None
    assert found.tensors == (StoredTensor("t", (6, 8), 1, -(-len(made) // 32) * 32 + 64),)


@pytest.mark.parametrize(
    "data",
    [
        memoryview(b""),
        memoryview(b"GGUF\1\0\0\0" + bytes(16)),
        memoryview(b"GGUF\0\0\0\3" + bytes(16)),  # big-endian
        memoryview(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1)),
        memoryview(b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 0)),
        _file(_string("a") + _array(4, 2**63, bytes(100))),  # the package `gguf` fills the memory with this
        _file(_string("a") + _array(8, 2**63, bytes(80))),
        _file(_string("a") + _array(9, 1, struct.pack("<IQ", 9, 1) * 50)),
        _file(_string("a") + struct.pack("<II", 13, 0)),
        _file(_string("a") + struct.pack("<II", 4, 1), _string("a") + struct.pack("<II", 4, 1)),
        _file(_string("general.alignment") + struct.pack("<II", 4, 0)),
        _file(_string("general.alignment") + struct.pack("<II", 4, 24)),
        _file(struct.pack("<Q", 1) + b"\xff" + struct.pack("<II", 4, 1)),
        _file(tensors=_string("t") + struct.pack("<I", 2**32 - 1), count=1),
    ],
)
def test_what_cannot_be(data):
    with pytest.raises(ValueError):
        parse(data)
