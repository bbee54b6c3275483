"""Headers that somebody wrote who meant harm, or a program that meant well: one line each."""

import json
import struct

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import safetensors_io as st
from talkverse_jax.weights.safetensors_header import HeaderError, parse_header, read_metadata


def _header(**tensors) -> str:
    return json.dumps(tensors)


def _tensor(shape, offsets, dtype="F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


BAD = {
    "a negative size": (_header(a=_tensor([-1], [0, 4])), "a has the shape [-1]"),
    "a negative offset": (_header(a=_tensor([1], [-4, 0])), "a has the data_offsets [-4, 0]"),
    "offsets turned round": (_header(a=_tensor([1], [4, 0])), "a has the data_offsets [4, 0]"),
    "a huge size": (_header(a=_tensor([2**63], [0, 4])), "a has the shape [9223372036854775808]"),
    "a huge product": (
        _header(a=_tensor([2**40, 2**40], [0, 4])),
        "a has the shape [1099511627776, 1099511627776]",
    ),
    "a huge product with a 0": (
        _header(a=_tensor([0, 2**40, 2**40], [0, 0])),
        "a has the shape [0, 1099511627776, 1099511627776]",
    ),
    "a huge offset": (_header(a=_tensor([1], [0, 2**70])), f"a has the data_offsets [0, {2**70}]"),
    "a float": (_header(a=_tensor([1.0], [0, 4])), "a has the shape [1.0]"),
    "a float offset": (_header(a=_tensor([1], [0, 4.0])), "a has the data_offsets [0, 4.0]"),
    "a boolean": (_header(a=_tensor([True], [0, 4])), "a has the shape [True]"),
    "a number of 5,000 digits": ('{"a": ' + "9" * 5000 + "}", "it is not JSON (Exceeds the limit"),
    "a hundred dimensions": (_header(a=_tensor([1] * 100, [0, 4])), "a has the shape [1, 1, 1,"),
    "deep nesting": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "it is nested too deeply"),
    "deep nesting of tables": ('{"a":' * 100_000 + "0" + "}" * 100_000, "it is nested too deeply"),
    "a name twice": (
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
        '"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        "it has a twice",
    ),
    "a key twice": (
        '{"a": {"dtype": "F32", "dtype": "F16", "shape": [1], "data_offsets": [0, 4]}}',
        "it has dtype twice",
    ),
    "an overlap": (_header(a=_tensor([2], [0, 8]), b=_tensor([1], [4, 8])), "b overlaps the tensor before it"),
    "the same data twice": (_header(a=_tensor([1], [0, 4]), b=_tensor([1], [0, 4])), "b overlaps the tensor before it"),
    "a hole": (_header(a=_tensor([1], [0, 4]), b=_tensor([1], [8, 12])), "b leaves a hole before it"),
    "a hole at the start": (_header(a=_tensor([1], [4, 8])), "a leaves a hole before it"),
    "too few bytes": (_header(a=_tensor([4], [0, 12])), "a has 12 bytes, its shape [4] needs 16"),
    "three offsets": (_header(a=_tensor([1], [0, 4, 8])), "a has the data_offsets [0, 4, 8]"),
    "no offsets": (_header(a={"dtype": "F32", "shape": [1]}), "a lacks its dtype, shape or data_offsets"),
    "no table": (_header(a=1), "a lacks its dtype, shape or data_offsets"),
    "a list": ("[]", "it is not a table of tensors"),
    "an unknown dtype": (_header(a=_tensor([1], [0, 4], "F31")), "a is of dtype F31, which is unknown"),
    "a dtype that is a list": (_header(a=_tensor([1], [0, 4], ["F32"])), "a is of dtype ['F32'], which is unknown"),
    "a name with a line break": (_header(**{"a\nb": _tensor([1], [0, 4])}), r"the name 'a\nb' is no tensor's"),
    "half of a character": (_header(**{"\ud800": _tensor([1], [0, 4])}), r"the name '\ud800' is no tensor's"),
    "a name of 1,000 letters": (_header(**{"a" * 1000: _tensor([1], [0, 4])}), "the name 'aaa"),
}


@pytest.mark.parametrize("header, message", BAD.values(), ids=BAD)
def test_a_bad_header_is_refused_in_one_line(tmp_path, header, message):
    with pytest.raises(HeaderError) as refused:
        parse_header(header)
    assert str(refused.value).startswith(message)
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header.encode())) + header.encode() + bytes(12))
    with pytest.raises(UserError) as told:
        st.read_file(path)
    assert str(told.value).startswith(f"{path}: ") and len(str(told.value).splitlines()) == 1
    assert len(str(told.value)) < 400


def test_a_header_of_a_tebibyte_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**40) + b"{")
        file.truncate(2**41)  # sparse
    with pytest.raises(UserError, match=r"x\.safetensors: not a safetensors file"):
        st.read_file(path)


def test_metadata():
    assert read_metadata('{"__metadata__": {"format": "pt"}}') == {"format": "pt"} and read_metadata("{}") == {}
    for bad in ("[]", '{"a": 1}', "null", '"pt"'):
        with pytest.raises(HeaderError, match="its metadata are no table of texts"):
            read_metadata(f'{{"__metadata__": {bad}}}')


def test_good_headers_are_read():
    header = _header(b=_tensor([2, 2], [4, 20]), a=_tensor([], [0, 4]), c=_tensor([0, 3], [20, 20], "BF16"))
    assert [(name, place.shape) for name, place in parse_header(header).items()] == [
        ("a", ()), ("b", (2, 2)), ("c", (0, 3))
    ]  # fmt: skip
