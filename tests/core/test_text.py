"""Texts that people wrote, in every encoding and with every end of a line."""

import io

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.text import is_text, lines, lines_of, read_text

SAVE = "save it as plain text in UTF-8 (in Excel: CSV UTF-8)"
NO_LINE_ENDS = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei"


@pytest.mark.parametrize(
    "data",
    [
        "Émile\n你好 😀".encode(),
        "\ufeffÉmile\n你好 😀".encode(),
        "Émile\r\n你好 😀".encode("utf-16"),  # with a mark
        b"\xfe\xff" + "Émile\r你好 😀".encode("utf-16-be"),
    ],
    ids=["utf-8", "utf-8-bom", "utf-16-le", "utf-16-be"],
)
def test_encodings_that_are_read(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert read_text(tmp_path / "a.txt", "a prompt") == "Émile\n你好 😀"
    assert [line.strip() for line in lines_of(io.BytesIO(data), "a.txt")] == ["Émile", "你好 😀"]


@pytest.mark.parametrize(
    "data, message",
    [
        ("ok\r\ncafé".encode("cp1252"), "a.txt line 2: byte 0xe9 is not UTF-8"),
        ("ok\r你好".encode("gbk"), "a.txt line 2: byte 0xc4 is not UTF-8"),
        ("日本".encode("shift-jis"), "a.txt line 1: byte 0x93 is not UTF-8"),
        (b"cut \xe4\xbd", "a.txt line 1: byte 0xe4 is not UTF-8"),
        (b"\xed\xa0\x80", "a.txt line 1: byte 0xed is not UTF-8"),  # half a pair
        (b"a\r\n" * 400_000 + b"\xff", "a.txt line 400001: byte 0xff is not UTF-8"),
        (b"\xff\xfea\0\n\0b", "a.txt line 2: byte 0x62 is not UTF-16"),
        ("a\nb".encode("utf-16-le"), "a.txt line 1: byte 0x00, which no text has (UTF-16 without a mark?)"),
        (b"a\nb\0", "a.txt line 2: byte 0x00, which no text has (UTF-16 without a mark?)"),
        ("a".encode("utf-32"), "a.txt: is in UTF-32"),
        (b"PK\x03\x04...", "a.txt: is a zip archive, as documents of Word and Excel are"),
        (b"{\\rtf1\\ansi A woman}", "a.txt: is rich text (RTF)"),
    ],
)  # fmt: skip
def test_what_is_no_utf_8_is_refused_with_its_byte_and_line(tmp_path, data, message):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    for read in (lambda: read_text(path, "a prompt"), lambda: list(lines_of(io.BytesIO(data), str(path)))):
        with pytest.raises(UserError) as error:
            read()
        assert str(error.value) == f"{tmp_path}/{message}; {SAVE}"


def test_only_cr_and_lf_end_a_line(tmp_path):
    (tmp_path / "a.txt").write_text(f"{NO_LINE_ENDS}\r\nj\rk\nl", encoding="utf-8", newline="")
    text = read_text(tmp_path / "a.txt", "a list")
    assert lines(text) == [NO_LINE_ENDS, "j", "k", "l"]
    data = (tmp_path / "a.txt").read_bytes()
    assert list(lines_of(io.BytesIO(data), "a")) == [f"{NO_LINE_ENDS}\r\n", "j\r", "k\n", "l"]


def test_no_line_is_cut_where_a_piece_of_the_file_ends():
    data = b"x" * (2**20 - 1) + b"\r\n" + "é".encode() * 2**19 + b"\r" + b"y" * 2**20 + b"\r\r\n"
    assert [len(line) for line in lines_of(io.BytesIO(data), "a")] == [2**20 + 1, 2**19 + 1, 2**20 + 1, 2]


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "film.txt").write_bytes(b"a" * 3_000_000)
    with pytest.raises(UserError, match="film.txt: larger than 1,048,576 bytes; give a text file"):
        read_text(tmp_path / "film.txt", "a prompt", 2**20)

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            return b"a" * size

    with pytest.raises(UserError, match="a line 1: longer than 4,194,304 characters; give a text file"):
        list(lines_of(Endless(), "a"))


def test_half_characters_are_no_text():
    assert is_text("é 😀 \u2028") and not is_text("\ud83d") and not is_text("caf\udce9")
