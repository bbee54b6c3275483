"""The weights in the repository: their size, that they convert, and (slow) that they talk."""

import json

import pytest

from talkverse_jax.cli import evaluate as command
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.toy.make import make
from talkverse_jax.toy.make_options import MakeOptions
from tests.conftest import CONFIGS
from tests.published import converted, files_in

TOY = CONFIGS.parent / "assets" / "toy"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    configs = FAMILY.configs_from_toml(CONFIGS / "model_toy.toml")
    return converted(tmp_path_factory.mktemp("weights"), configs, files_in(TOY), dtype="float32")


def test_they_are_small_and_convert(weights):
    assert sum(file.stat().st_size for file in TOY.rglob("*") if file.is_file()) <= 15_000_000
    assert {"dit", "vae", "text", "audio"} <= {path.name for path in weights.iterdir()}


@pytest.mark.slow
def test_the_mouth_follows_the_sound(weights, tmp_path):
    people = make(MakeOptions(str(tmp_path), videos=2, set="held_out", seconds=5.0, square=True, workers=1))
    config = str(CONFIGS / "demo.toml")
    command.main(
        ["--weights", str(weights), "--set", str(people), "--config", config, "--output", str(tmp_path / "out")],
        "evaluate",
    )
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())["summary"]["all"]
    assert told["correlation"]["least"] > 0.6 and told["identity"]["least"] > 0.6
    assert abs(told["correlation_swapped"]["median"]) < 0.4
