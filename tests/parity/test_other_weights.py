"""A bundle run with another checkpoint than its own, and compared with other outputs."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from talkverse_jax.core.errors import UserError
from talkverse_jax.parity import compare as parity
from talkverse_jax.parity.options import ParityOptions
from talkverse_jax.pipeline import registry
from talkverse_jax.weights.bundle import Bundle
from tests.conftest import GOLDENS
from tests.parity.test_compare import run

LAYER = "blocks.0.attn.q"
BUNDLE = GOLDENS / "umt5.safetensors"


@pytest.fixture
def quantised(tmp_path):
    """The bundle's weights, one layer as quanto writes it, and its map beside others."""
    tensors = {name: np.ascontiguousarray(value) for name, value in Bundle(BUNDLE).weights().items()}
    weight = tensors.pop(f"{LAYER}.weight")
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    tensors |= {f"{LAYER}.weight._data": np.rint(weight / scale).astype(np.int8), f"{LAYER}.weight._scale": scale}
    save_file(tensors, tmp_path / "q.safetensors")
    told = {"weights": "qint8", "activations": "none"}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "map.json").write_text(json.dumps({LAYER: told}))
    (tmp_path / "elsewhere" / "other.json").write_text(json.dumps({"blocks.1.attn.q": told}))
    return tmp_path


def test_other_weights_with_a_map_and_other_outputs(capsys, quantised):
    weights = ("--weights", quantised / "q.safetensors", "--map", quantised / "elsewhere" / "map.json")
    code, out = run(capsys, BUNDLE, *weights)
    assert code == 1 and "0 passed, 1 failed" in out  # the layer is rounded
    bundle = Bundle(BUNDLE, (str(weights[1]), str(weights[3])))
    hidden = registry.find("talkverse").parity_cases["umt5_encoder"](bundle, None).outputs["hidden"]
    save_file({"outputs/hidden": hidden}, quantised / "expected.safetensors")
    assert run(capsys, BUNDLE, *weights, "--expected", quantised / "expected.safetensors")[0] == 0
    hidden = hidden.copy()
    hidden[0, 3, 5] *= 1.01
    save_file({"outputs/hidden": hidden}, quantised / "expected.safetensors")
    assert run(capsys, BUNDLE, *weights, "--expected", quantised / "expected.safetensors")[0] == 1


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--map", "{}/elsewhere/map.json"), "--map is of a file that --weights names; give that too"),
        (("--weights", "{}/q.safetensors"), "and no map of just these lies beside it; put its .json there"),
        (
            ("--weights", "{}/q.safetensors", "--map", "{}/elsewhere/other.json"),
            "other.json: is not the map of {}/q.safetensors (1 layers, 1 in the file; blocks.0.attn.q is in one alone)",
        ),
        (("--weights", "{}/q.safetensors", "--map", "{}/none.json"), "none.json: no such file"),
        (("--expected", "{}/q.safetensors"), "q.safetensors: has no tensor outputs/...; give the outputs to compare"),
    ],
)
def test_flags_that_do_not_fit(capsys, quantised, flags, message):
    code, out = run(capsys, BUNDLE, *(flag.format(quantised) for flag in flags))
    assert code == 2 and message.format(quantised) in out and "Traceback" not in out


def test_other_weights_are_of_one_bundle():
    with pytest.raises(UserError, match="--weights 2 bundles are given; give the one that it is for"):
        ParityOptions(("a", "b"), weights="w")
    with pytest.raises(UserError, match="w: pipeline_3_clips.safetensors is of several models; give a bundle of one"):
        parity.run_bundle(Bundle(GOLDENS / "pipeline_3_clips.safetensors", ("w", None)), False)


def test_swapped_inputs_fail(capsys, tmp_path):
    with safe_open(BUNDLE, "numpy") as file:
        tensors, meta = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    for name in ("inputs/ids", "inputs/mask"):
        tensors[name] = np.ascontiguousarray(tensors[name][::-1])
    save_file(tensors, tmp_path / "swapped.safetensors", meta)
    assert run(capsys, tmp_path / "swapped.safetensors")[0] == 1


def test_a_bundle_without_a_family_is_of_the_first_that_has_its_case(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_PACKAGES", {**registry._PACKAGES, "second": "tests.second"})
    with safe_open(BUNDLE, "numpy") as file:
        meta = json.loads(file.metadata()["bundle"])
    save_file({"inputs/x": np.ones(1)}, tmp_path / "b.safetensors", {"bundle": json.dumps(meta | {"component": "net"})})
    code, out = run(capsys, tmp_path / "b.safetensors")
    assert code == 2 and "cannot be run" not in out  # it is the second family's, which tells what the bundle lacks


def test_chained_calls_may_round_more():
    ones = np.ones(3)
    assert not parity.compare("x", ones + 1e-3, ones).passed
    assert parity.compare("x", ones + 1e-3, ones, chained=True).passed
