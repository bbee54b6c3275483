"""Options in several groups, from flags and a TOML file."""

import dataclasses
import importlib
from typing import Literal

import numpy as np
import pytest

from talkverse_jax.cli.command import run_command
from talkverse_jax.cli.flags import parse, peek, read
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option


@dataclasses.dataclass(frozen=True)
class Files:
    image: str = option("a picture", group="input", metavar="FILE")
    videos: tuple[str, ...] = option("videos", group="input", metavar="FILE", default=())


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = option("100% of the steps", group="sampling", default=50, least=1)
    rate: float | None = option("a rate", group="sampling", metavar="X", default=None)
    fast: bool = option("be quick", group="sampling", default=False)
    mode: Literal["fine", "rough"] = option("the mode", group="sampling", default="fine")
    parts: tuple[str, ...] = option("which parts", group="sampling", metavar="LIST", default=("a", "b"))

    def __post_init__(self):
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class Sheet:
    video: str = option("a video", group="files", metavar="VIDEO", positional=True)
    others: tuple[str, ...] = option("others", group="files", metavar="OTHER", positional=True, default=())
    fast: bool = option("be quick", group="files", default=False)


GROUPS = {"files": Files, "settings": Settings}


def run(*argv: object):
    made = parse(GROUPS, "run", "Runs.", [*map(str, argv)])
    return made["files"], made["settings"]


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('steps = 10\nmode = "rough"\nvideos = ["a", "b"]\nrate = 2\n')
    made = run("--config", path, "--image", "i", "--steps", "3", "--fast")
    assert made == (Files("i", ("a", "b")), Settings(3, 2.0, True, "rough"))
    files, settings = run("--image", "i", "--fast", "False", "--videos", "c", "d", "--parts", "b, a", "--rate=-1.5")
    assert files.videos == ("c", "d") and not settings.fast
    assert settings.parts == ("b", "a") and settings.rate == -1.5


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "run: --image missing; see run --help"),
        (["--image", "i", "--step", "3"], "run: --step: unknown flag, did you mean --steps?; see run --help"),
        (["--image", "i", "more"], "run: more: no flag stands before it; see run --help"),
        (["--image"], "--image needs a value; see run --help"),
        (["--image", ""], "--image is empty; give a path"),
        (["--image", "i", "--steps", "x"], "--steps x: give a whole number"),
        (["--image", "i", "--steps", "0"], "--steps 0: give 1 or more"),
        (["--image", "i", "--rate", "x"], "--rate x: give a number"),
        (["--image", "i", "--rate", "nan"], "--rate nan: give a number"),
        (["--image", "i", "--fast", "maybe"], "--fast maybe: give true or false"),
        (["--image", "i", "--mode", "fin"], "--mode fin: give fine"),
        (["--image", "i", "--mode", "z"], "--mode z: give fine, rough"),
        (["--config", "no_preset"], "no_preset: no such file or preset"),
        (
            ["--image", "caf\udce9"],
            "--image 'caf\\udce9': has bytes that are not UTF-8, or half a character; rename it",
        ),
        (["--image", "i", "--parts", "caf\udce9"], "--parts 'caf\\udce9': has bytes that are not UTF-8"),
    ],
)
def test_a_wrong_flag_is_named(argv, message):
    with pytest.raises(UserError) as error:
        run(*argv)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "line, message",
    [
        ("steps = 0", "run.toml: steps: 0: give 1 or more"),
        ("steps = 1.5", "run.toml: steps: expected int, found 1.5"),
        ("stepps = 1", "run.toml: unknown key 'stepps'; did you mean 'steps'?"),
        ("rate = nan", "run.toml: rate: nan: give a number"),
    ],
)
def test_a_wrong_value_in_the_file_is_named(tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(line)
    with pytest.raises(UserError) as error:
        run("--config", "run.toml", "--image", "i")
    assert str(error.value) == message
    if line.startswith("steps"):  # a flag in its place is fine
        assert run("--config", "run.toml", "--image", "i", "--steps", 2)[1].steps == 2


def test_help_tells_all(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = capsys.readouterr().out
    assert text.startswith("usage: run --image FILE [--flag VALUE ...]\n\nRuns.\n")
    for words in (
        "--image FILE", "a picture (required)", "100% of the steps (1 or more; default: 50)", "--fast [true|false]",
        "(default: false)", "{fine,rough}", "which parts (default: a,b)", "--config FILE",
    ):  # fmt: skip
        assert words in text
    assert text.index("input:") < text.index("sampling:")


def test_words_without_a_flag():
    assert parse({"sheet": Sheet}, "sheet", "", ["a", "b", "c"])["sheet"] == Sheet("a", ("b", "c"))
    assert parse({"sheet": Sheet}, "sheet", "", ["a"])["sheet"] == Sheet("a")
    for argv in (["--fast", "a", "b"], ["--fast", "true", "a", "b"], ["a", "b", "--fast"]):
        assert parse({"sheet": Sheet}, "sheet", "", argv)["sheet"] == Sheet("a", ("b",), True)
    assert parse({"sheet": Sheet}, "sheet", "", ["--fast", "false", "a"])["sheet"] == Sheet("a")
    with pytest.raises(UserError, match="sheet: VIDEO missing"):
        parse({"sheet": Sheet}, "sheet", "", [])


def test_groups_can_be_built_apart():
    given = read(GROUPS, "run", "", ["--steps", "3"])
    assert given.build({"settings": Settings})["settings"].steps == 3
    assert given.having({"image": "i", "steps": 9}).build(GROUPS) == {"files": Files("i"), "settings": Settings(3)}


def test_a_look_at_some_flags(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('weights = "w"\nsteps = "bad"\n')
    assert peek(("family", "weights"), ["--config", str(path), "--family", "f", "--help", "--x"]) == {
        "weights": "w", "family": "f"
    }  # fmt: skip
    assert peek(("family", "weights"), ["--config", str(path), "--weights=v", "--family"]) == {"weights": "v"}


@pytest.mark.parametrize(
    "command, argv, flags",
    [
        (
            "sample",
            ["--offload_model", "true"],
            ["t5_cpu true", "mesh (more devices)", "size_bucket (smaller sizes)", "infer_frames (fewer)"]
            + ["vae_dtype bfloat16", "resident_blocks 0"],
        ),
        (
            "sample",
            ["--batch", "a.jsonl", "--batch_size", "4", "--t5_cpu", "true", "--vae_dtype", "bfloat16"],
            ["offload_model true", "batch_size 1", "mesh (more devices)", "size_bucket (smaller sizes)"]
            + ["infer_frames (fewer)", "resident_blocks 0"],
        ),
        (
            "train",
            ["--remat", "none", "--batch_size", "8", "--t5_cpu", "true", "--unfreeze_strategy", "lora"],
            ["remat full", "batch_size 1, with more --gradient_accumulation_steps", "mesh (more devices)"]
            + ["size_bucket (smaller sizes)", "num_frames (fewer)"],
        ),
    ],
)
def test_a_lack_of_memory_names_the_flags_of_the_command_that_lower_it(capsys, command, argv, flags):
    def main():
        read(importlib.import_module(f"talkverse_jax.cli.{command}").groups("talkverse"), "x", "", argv)
        np.zeros(2**50, np.uint8)

    with pytest.raises(SystemExit):
        run_command(main)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("the cheapest first: " + "; ".join(f"--{flag}" for flag in flags))
