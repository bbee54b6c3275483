"""Settings that come with weights."""

import json

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline.weights_settings import of_toml, of_weights
from talkverse_jax.weights import manifest
from tests.conftest import CONFIGS

STEPS = {"sample_steps": 12, "sample_guide_scale": 1.0}


@pytest.fixture
def weights(tmp_path):
    manifest.write(tmp_path, {}, "talkverse", STEPS)
    return tmp_path


def test_they_are_a_table_beside_the_sizes():
    assert of_toml(CONFIGS / "model_toy.toml", "talkverse").items() >= STEPS.items()
    assert of_toml(CONFIGS / "model_tiny.toml", "talkverse") == {}


def test_the_manifest_keeps_them(weights):
    assert of_weights(weights) == STEPS
    manifest.note_settings(weights, {"sample_steps": 4})
    assert of_weights(weights) == {"sample_steps": 4} and manifest.family(weights) == "talkverse"
    manifest.note_settings(weights, {})
    assert of_weights(weights) == {} and "settings" not in json.loads((weights / "manifest.json").read_text())


@pytest.mark.parametrize("values, told", [
    ({"sample_stepz": 12}, r"manifest.json: unknown key 'sample_stepz'; did you mean 'sample_steps'\?"),
    ({"sample_steps": 0}, "sample_steps"),
    ({"sample_steps": "many"}, "sample_steps"),
])  # fmt: skip
def test_what_is_no_setting_is_refused(tmp_path, values, told):
    manifest.write(tmp_path, {}, "talkverse", values)
    with pytest.raises(UserError, match=told):
        of_weights(tmp_path)
