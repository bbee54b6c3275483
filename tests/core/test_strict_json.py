import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.strict_json import loads


def test_json_is_read():
    assert loads('{"a": [1, 2.5, null, "\\u00e9\u2028"]}', "here") == {"a": [1, 2.5, None, "é\u2028"]}


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a": 1, "a": 2}', "here line 3: an object has the key 'a' twice; give it once"),
        ('{"a": NaN}', "here line 3: NaN is no number of JSON; give a number, or leave it out"),
        ('{"a": -Infinity}', "here line 3: -Infinity is no number of JSON"),
        ("{“a”: 1}", 'here line 3, column 2: not JSON (Expecting property name enclosed in double quotes); write'),
        ('{"a": "C:\\Users"}', "here line 3, column 10: not JSON (Invalid \\escape); a \\ in quotes begins an escape"),
        ('{"a": 1,}', "here line 3, column 9: not JSON"),
        ("[" * 100_000, "here line 3: nested too deeply; give plain values"),
        ("1" * 5000, "here line 3: Exceeds the limit"),
        ("", "here line 3, column 1: not JSON (Expecting value); mend it"),
    ],
)  # fmt: skip
def test_what_is_refused_is_one_line(text, message):
    with pytest.raises(UserError) as error:
        loads(text, "here", 3)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_of_a_whole_file_the_line_is_told():
    with pytest.raises(UserError, match=r"^here line 2, column 3: not JSON"):
        loads('[1,\n2,,3]', "here")  # fmt: skip
    with pytest.raises(UserError, match=r"^here: an object has the key 'a' twice"):
        loads('[\n{"a": 1, "a": 2}]', "here")
