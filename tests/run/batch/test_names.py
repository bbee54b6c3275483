"""Which ids are names of files."""

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.run.batch.names import check_id, folded


@pytest.mark.parametrize("given", ["ann", "Zoë 你好", "a.b+c", "x.partial", 7, 1.5, "-", "#1", "naïve 🙂"])
def test_names(given):
    assert check_id(given) == str(given)


@pytest.mark.parametrize(
    "given, message",
    [
        (True, "id True: no name for files; give a text or a number"),
        ([1], r"id \[1\]: no name"),
        ({}, "id {}: no name"),
        (float("nan"), "id nan: no name for files; give a text or a number that is finite"),
        (float("inf"), "id inf: no name"),
        ("", "id '': no name"),
        (".hidden", "leave out / and a dot in front"),
        ("a/b", "leave out /"),
        ("a\\b", "leave out /"),
        ("a\0", r"U\+0000 \(a control character\)"),
        ("a\nb", r"U\+000A"),
        (
            "cat\u202egnp",
            r"it has U\+202E \(RIGHT-TO-LEFT OVERRIDE\), which nobody",
        ),
        *((f"a{chr(code)}b", f"U\\+{code:04X}") for code in (0x200B, 0x200E, 0x200F, 0x202A, 0x2066, 0x2069, 0x2028)),
        ("a\ud83d", r"U\+D83D"),
        (" a", "spaces around it"),
        ("a ", "spaces around it"),
        ("a.", "the dot at its end"),
        ("é" * 101, "shorten it to 200 bytes"),
    ],
)
def test_no_names(given, message):
    with pytest.raises(UserError, match=message):
        check_id(given)


def test_what_a_disk_that_knows_no_case_takes_for_one():
    assert folded("Zoë") == folded("ZOE\u0308") != folded("Zoe")
