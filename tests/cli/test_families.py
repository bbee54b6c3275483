"""Which family's options a command takes."""

import json

import pytest

from talkverse_jax.cli import sample
from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import registry


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
