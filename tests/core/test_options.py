"""Options: one definition, several groups, values from a file or a call."""

import dataclasses
import json
from typing import Literal

import pytest

from talkverse_jax.cli.flags import help_of
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import (
    build,
    check_bounds,
    defaults,
    describe,
    expand,
    option,
    schema,
)


@dataclasses.dataclass(frozen=True)
class Files:
    image: str = option("a picture", group="input", metavar="FILE", decides=True)
    videos: tuple[str, ...] = option("videos", group="input", metavar="FILE", default=())


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = option("steps", group="sampling", default=50, decides=True, least=1)
    rate: float | None = option("a rate", group="sampling", metavar="X", default=None, least=0, most=1)
    fast: bool = option("be quick", group="sampling", default=False)
    mode: Literal["x", "y"] = option("the mode", group="sampling", default="x", decides=True)

    def __post_init__(self):
        check_bounds(self)


GROUPS = {"files": Files, "settings": Settings}


def test_flat_values_become_nested_dataclasses():
    made = build(GROUPS, {"image": "a.png", "videos": ["b", "c"], "steps": 3, "rate": 1}, "here")
    assert made == {"files": Files("a.png", ("b", "c")), "settings": Settings(3, 1.0)}


def test_one_text_stands_for_a_list_of_one():
    assert build(GROUPS, {"image": "a.png", "videos": "b"}, "here")["files"].videos == ("b",)


@pytest.mark.parametrize(
    "values, message, field",
    [
        ({}, "here: missing 'image'; add a value for each", None),
        ({"image": "a", "stps": 1}, "here: unknown key 'stps'; did you mean 'steps'?", None),
        ({"image": "a", "zzz": 1}, "the keys are image, videos, steps, rate, fast, mode", None),
        ({"image": "a", "steps": "x"}, "here: steps: expected int, found 'x'", "steps"),
        ({"image": "a", "mode": "z"}, "here: mode: 'z' is none of 'x', 'y'", "mode"),
        ({"image": "a", "videos": 3}, "here: videos: expected a list, found 3", "videos"),
        ({"image": "a", "steps": 0}, "here: steps: 0: give 1 or more", "steps"),
        ({"image": "a", "rate": 1.5}, "here: rate: 1.5: give a number from 0 to 1", "rate"),
        ({"image": "a", "rate": float("nan")}, "here: rate: nan: give a number", "rate"),
        ({"image": "caf\udce9.png"}, "image: 'caf\\udce9.png': has bytes that are not UTF-8", "image"),
        ({"image": "a\0"}, "here: image: 'a\\x00': has a character 0; leave it out", "image"),
        ({"image": "C:\new.png"}, "here: image: 'C:\\new.png': has a line break or a tab; in TOML and JSON", "image"),
        ({"image": "a", "videos": ["b", "\ud800"]}, "half a character; rename it", "videos"),
        ({"image": "a", "mode": "\ud800"}, "half a character; write it in UTF-8", "mode"),
        ({"image": "a", "z" * 9999: 1}, "here: unknown key '" + "z" * 199 + "...; the keys are", None),
    ],
)
def test_what_cannot_be_used_is_named(values, message, field):
    with pytest.raises(UserError) as error:
        build(GROUPS, values, "here")
    assert message in str(error.value) and error.value.field == field


def test_a_call_is_told_the_flag():
    with pytest.raises(UserError, match="^--steps 0: give 1 or more$"):
        Settings(steps=0)


def test_what_decides_has_a_default():
    assert defaults(Files("a.png"), Settings(3)) == {"steps": 50, "mode": "x"}


def test_two_groups_cannot_have_one_option():
    with pytest.raises(ValueError, match="Files.image: another group has this option too"):
        describe({"a": Files, "b": Files})


def test_the_schema():
    made = schema(GROUPS)
    assert made["required"] == ["image"] and not made["additionalProperties"]
    properties = made["properties"]
    assert properties["image"] == {"type": "string", "description": "a picture"}
    assert properties["videos"] == {
        "type": "array", "items": {"type": "string"}, "description": "videos", "default": []
    }  # fmt: skip
    assert properties["rate"]["anyOf"] == [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]
    assert properties["mode"] == {"enum": ["x", "y"], "description": "the mode", "default": "x"}
    assert json.loads(json.dumps(made)) == made


@dataclasses.dataclass(frozen=True)
class Bounded:
    count: int | None = option("a count", group="g", default=None, least=1)
    share: float = option("a share", group="g", default=0.5, least=0.001, most=1)
    length: float | None = option("a length (default: all)", group="g", default=None, above=0)
    most: float = option("at most", group="g", default=0, most=4)
    any: float = option("any number", group="g", default=0.0)
    yes: bool = option("a switch", group="g", default=True)

    def __post_init__(self):
        check_bounds(self)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"count": 0}, "count: 0: give 1 or more"),
        ({"share": 0.0}, "share: 0.0: give a number from 0.001 to 1"),
        ({"share": 1.1}, "share: 1.1: give a number from 0.001 to 1"),
        ({"length": 0}, "length: 0.0: give a number above 0"),
        ({"most": 5}, "most: 5.0: give a number at most 4"),
    ],
)
def test_numbers_keep_their_bounds(values, message):
    with pytest.raises(UserError, match=f"^here: {message}$"):
        build({"all": Bounded}, values, "here")
    with pytest.raises(UserError, match="--any inf: give a number$"):
        Bounded(any=float("inf"))
    assert build({"all": Bounded}, {"count": 1, "share": 1, "length": 0.1, "most": -9}, "here")["all"].length == 0.1


def test_bounds_are_told():
    told = {each.name: each for each in describe({"all": Bounded})}
    assert [each.bounds for each in told.values()] == ["1 or more", "0.001 to 1", "above 0", "at most 4", "", ""]
    assert help_of(told["length"]) == "a length (above 0; default: all)"
    assert help_of(told["share"]) == "a share (0.001 to 1; default: 0.5)"
    found = schema({"all": Bounded})["properties"]
    assert found["count"]["anyOf"][0] == {"type": "integer", "minimum": 1}
    assert (found["share"]["minimum"], found["share"]["maximum"]) == (0.001, 1)
    assert found["length"]["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0}


def test_an_option_gives_others_from_its_file():
    @dataclasses.dataclass(frozen=True)
    class Named:
        recipe: str | None = option(
            "a file", group="input", metavar="FILE", default=None, expands=lambda path: {"steps": 7, "image": path}
        )

    groups = GROUPS | {"named": Named}
    made = build(groups, {"recipe": "r", "steps": 3}, "here")
    assert made == {"files": Files("r"), "settings": Settings(3), "named": Named("r")}
    assert expand(groups, {"recipe": "r"}) == {"recipe": "r", "steps": 7, "image": "r"}
    assert expand(groups, {"steps": 3}) == {"steps": 3}
