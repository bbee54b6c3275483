import dataclasses
from typing import Literal

import pytest

from talkverse_jax.core.config import from_dict, load_toml, read_toml, to_dict
from talkverse_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...]
    pair: tuple[int, float]


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    name: str
    kind: Literal["a", "b"] = "a"
    rate: float | None = None


VALUES = {"inner": {"sizes": [1, 2, 3], "pair": [1, 2]}, "name": "x", "rate": 3}


def test_values_become_the_dataclass_and_come_back():
    made = from_dict(Outer, VALUES, "here")
    assert made == Outer(Inner((1, 2, 3), (1, 2.0)), "x", "a", 3.0)
    assert isinstance(made.rate, float)
    assert from_dict(Outer, to_dict(made), "here") == made


@pytest.mark.parametrize(
    "change, message",
    [
        ({"nmae": "y"}, "here: unknown key 'nmae'; did you mean 'name'?"),
        ({"zzz": 1}, "here: unknown key 'zzz'; the keys are inner, name, kind, rate"),
        ({"name": 3}, "here: name: expected str, found 3"),
        ({"kind": "c"}, "here: kind: 'c' is none of 'a', 'b'"),
        ({"inner": {"sizes": [1]}}, "here: inner: missing 'pair'"),
        ({"inner": {"sizes": 1, "pair": [1, 2]}}, "here: inner: sizes: expected a list, found 1"),
        ({"inner": {"sizes": [True], "pair": [1, 2]}}, "expected int, found True"),
        ({"inner": {"sizes": [], "pair": [1]}}, "expected 2 values, found 1"),
        ({"inner": 5}, "expected a table of values for Inner, found 5"),
    ],
)
def test_a_wrong_value_is_named(change, message):
    with pytest.raises(UserError) as error:
        from_dict(Outer, VALUES | change, "here")
    assert message in str(error.value)


def test_toml_files(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('name = "x"\n[inner]\nsizes = [1]\npair = [1, 2.5]\n')
    assert load_toml(Outer, path).inner.pair == (1, 2.5)
    path.write_text("name = \n")
    with pytest.raises(UserError, match="not a TOML file"):
        load_toml(Outer, path)
    with pytest.raises(UserError, match="no such file"):
        load_toml(Outer, tmp_path / "none.toml")


@pytest.mark.parametrize(
    "data, message",
    [
        ("name = “x”\n".encode(), 'Invalid value (at line 1, column 8)); write straight quotes (")'),
        (b'a = 1\nname = "C:\\Users\\ann.png"\n', "at line 2, column 13)); a \\ in quotes begins an escape: write /"),
        (b"name = " + b"[" * 100_000, "not a TOML file (nested too deeply); give plain values"),
        (b"x = 1\n" + b"a." * 500_000 + b"b = 1", "not a TOML file (nested too deeply); give plain values"),
        (b"x = {'a' . " + b"'a'." * 10_000 + b"b = 1}", "not a TOML file (nested too deeply); give plain values"),
        (b"[[" + b"a." * 10_000 + b"b]]", "not a TOML file (nested too deeply); give plain values"),
        (b"n = " + b"1" * 5000, "; mend it"),
        (b'name = "x"\nname = "y"\n', "Cannot overwrite a value (at line 2, column 11)); mend it"),
        ("name = 'café'".encode("cp1252"), "line 1: byte 0xe9 is not UTF-8; save it as plain text in UTF-8"),
        (b"#" * 2**21, "larger than 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_a_toml_file_that_cannot_be_read_is_one_line(tmp_path, data, message):
    (tmp_path / "c.toml").write_bytes(data)
    with pytest.raises(UserError) as error:
        read_toml(tmp_path / "c.toml")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_does_not_spoil_toml(tmp_path, encoding):
    (tmp_path / "c.toml").write_text("# ü\r\nname = 'a\u2028b'\r\n", encoding=encoding, newline="")
    assert read_toml(tmp_path / "c.toml") == {"name": "a\u2028b"}


def test_a_long_value_is_not_shown_at_length():
    with pytest.raises(UserError) as error:
        from_dict(Outer, VALUES | {"kind": "x" * 10_000}, "here")
    assert len(str(error.value)) < 300
