"""Tables as people and their spreadsheets write them."""

import io

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.text import lines_of
from talkverse_jax.data.table import read_table

KNOWN = ("path", "caption", "fps")


def read(text: str | bytes):
    data = text.encode() if isinstance(text, str) else text
    return read_table(lines_of(io.BytesIO(data), "t.csv"), "t.csv", KNOWN)


@pytest.mark.parametrize(
    "text, separator",
    [
        ("path,caption,fps\na.mp4,hello,25\n", "commas"),
        (" path , caption ,\tfps \r\n a.mp4 , hello ,25 \r\n\r\n", "commas"),
        ("path;caption;fps\ra.mp4;hello;25\r", "semicolons"),
        ("sep=;\npath;caption;fps\na.mp4;hello;25", "semicolons"),
        ("\ufeffpath\tcaption\tfps\na.mp4\thello\t25\n".encode("utf-16-le"), "tabs"),  # Excel: Unicode text
        ('\ufeff"path","caption","fps"\n"a.mp4", "hello",25\n', "commas"),
        ("path,caption,fps,,\na.mp4,hello,25,,\n\n   \n", "commas"),
        ("path,caption,fps\na.mp4,hello,25,, \n", "commas"),  # nothing is in the surplus
    ],
)
def test_one_table_in_many_hands(text, separator):
    table = read(text)
    [(_, row)] = table.rows
    assert [row[name] for name in KNOWN] == ["a.mp4", "hello", "25"]
    assert table.separator == separator


def test_lines_are_counted_as_an_editor_does():
    table = read('path,caption\na,"one\ntwo"\n\nb,"x\u2028y\x85z"\nc,d')
    assert [(line, row["caption"]) for line, row in table.rows] == [(3, "one\ntwo"), (5, "x\u2028y\x85z"), (6, "d")]


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "path,caption\na.mp4,A woman, smiling\n",
            "t.csv line 2: 3 cells in 2 columns; put a caption in straight quotes",
        ),
        (
            "path,caption,x\na,b,c\na.mp4,A woman\nsmiles,1\n",
            "t.csv line 3: 2 cells in 3 columns; put a caption in str",
        ),
        ("path,caption\na\n", "t.csv line 2: 1 cell in 2 columns"),
        ('path,caption\na,b\nc,"A woman\nd,e\n', "t.csv line 3: a quote that does not end, or text behind one"),
        ('path,caption\na,"She says "yes" to him"\n', "t.csv line 2: a quote that does not end, or text behind one"),
        ('path,caption\na,"' + ("x" * 10**6 + "\n") * 17, "t.csv line 2: a quote that does not end"),
        ("path,caption,caption\na,b,c\n", "t.csv: two columns caption; keep one"),
    ],
)
def test_what_would_lose_words_is_refused_by_its_line(text, message):
    with pytest.raises(UserError) as error:
        list(read(text).rows)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_no_table():
    assert read("").columns == ()
    assert read("path|caption\n").columns == ("path|caption",)
