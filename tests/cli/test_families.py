"""Which family's options a command takes."""

import json

import pytest

from talkverse_jax.cli import sample
from talkverse_jax.cli.families import FamilyChoice, family_named, with_settings_of
from talkverse_jax.cli.flags import Given
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import registry
from talkverse_jax.weights import manifest


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder whose manifest names the family `other`."""
    monkeypatch.setitem(registry._PACKAGES, "other", registry._PACKAGES[registry.DEFAULT])
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "family": "other", "components": {}}))
    return str(folder)


def test_the_flag_then_the_weights_then_the_default(weights, tmp_path):
    assert family_named([]) == family_named(["--weights", str(tmp_path / "none")]) == registry.DEFAULT
    assert family_named(["--weights", weights]) == family_named(["--output", weights], "output") == "other"
    assert family_named(["--weights", weights, "--family", registry.DEFAULT]) == registry.DEFAULT
    config = tmp_path / "run.toml"
    config.write_text(f'weights = "{weights}"\n')
    assert family_named(["--config", str(config), "--help"]) == "other"


def test_a_family_that_does_not_fit_is_named(weights):
    with pytest.raises(UserError, match="^--family talkvers: no such family; there are talkverse, .*other"):
        family_named(["--family", "talkvers"])
    FamilyChoice("other").check(weights)
    with pytest.raises(UserError, match="^--family talkverse: the weights in .* are of other; leave it out"):
        sample.main(["--weights", weights, "--family", "talkverse", "--image", "i", "--prompt", "p"], "sample")


def test_settings_that_come_with_weights_are_said_and_yield_to_what_is_given(tmp_path, capsys):
    manifest.write(tmp_path, {}, registry.DEFAULT, {"sample_steps": 12, "sample_guide_scale": 1.0})
    given = Given("sample", {"sample_steps": 3}, frozenset({"sample_steps"}), None)
    found = with_settings_of(str(tmp_path), given)
    assert found.values == {"sample_steps": 3, "sample_guide_scale": 1.0} and found.flags == given.flags
    assert capsys.readouterr().err == f"of {tmp_path}: --sample_guide_scale 1.0\n"
    assert with_settings_of(str(tmp_path), found).values == found.values and not capsys.readouterr().err
