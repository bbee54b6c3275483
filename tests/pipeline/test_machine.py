"""Trained files and their strengths, from flags, a TOML file and Python; what is let in of a job's files."""

import pytest

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build
from talkverse_jax.media.kinds import KINDS
from talkverse_jax.media.walls import Child, Walls
from talkverse_jax.pipeline.machine import Machine, Weights

GROUPS = {"weights": Weights}


def files(weights: Weights) -> list[tuple[str, float]]:
    return [(str(file.path), file.strength) for file in weights.trained_files]


def test_flags_toml_and_python_take_several_files(tmp_path):
    words = ["--weights", "w", "--lora_ckpt", "a.st", "b.st", "--lora_strength", "1.0", "-0.8"]
    assert files(parse(GROUPS, "sample", "", words)["weights"]) == [("a.st", 1.0), ("b.st", -0.8)]
    toml = tmp_path / "run.toml"
    toml.write_text('weights = "w"\nlora_ckpt = ["a.st", "b.st"]\nlora_strength = [1, 0.8]\n')
    assert files(parse(GROUPS, "sample", "", ["--config", str(toml)])["weights"]) == [("a.st", 1.0), ("b.st", 0.8)]
    toml.write_text('weights = "w"\nlora_ckpt = "a.st"\nlora_strength = 0.5\n')  # one, as before
    assert files(parse(GROUPS, "sample", "", ["--config", str(toml)])["weights"]) == [("a.st", 0.5)]
    made = build(GROUPS, {"weights": "w", "lora_ckpt": "a.st"}, "here")["weights"]
    assert files(made) == [("a.st", 1.0)] and (made.lora_rank, made.lora_alpha) == (None, None)


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["--lora_ckpt", "a", "b", "--lora_strength", "1"],
            "--lora_strength 1: 2 files are given; give one number for",
        ),
        (["--lora_ckpt", "a", "--lora_strength", "much"], "--lora_strength much: give a number"),
        (["--lora_strength", "1"], "--lora_strength 1: 0 files are given; give one number for each"),
        (["--lora_ckpt", ""], "--lora_ckpt is empty; give a path"),
    ],
)
def test_what_cannot_be_used_is_told(words, message):
    with pytest.raises(UserError) as error:
        parse(GROUPS, "sample", "", ["--weights", "w", *words])
    assert str(error.value).startswith(message)


def test_what_is_let_in_follows_the_flags():
    made = parse({"machine": Machine}, "sample", "", [])["machine"]
    assert made.walls == Walls(flags=True)
    words = ["--file_kinds", "web", "--max_pixels", "50000000", "--max_seconds", "600", "--decode_in_child", "true"]
    made = parse({"machine": Machine}, "sample", "", words)["machine"]
    assert made.walls == Walls(KINDS["web"], 50_000_000, 600, child=Child(), flags=True)
    with pytest.raises(UserError, match="--max_pixels 200000000: give a number from 1 to 178000000"):
        parse({"machine": Machine}, "sample", "", ["--max_pixels", "200000000"])
