import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import run_command
from talkverse_jax.pipelines.components import COMPONENTS
from talkverse_jax.tools import parity, parity_cases
from talkverse_jax.tools.parity_cases import CASES, channels_last, channels_second
from talkverse_jax.weights import store
from tests.conftest import GOLDENS


def run(monkeypatch, capsys, *argv) -> tuple[int, str]:
    """Exit code and output of the command."""
    monkeypatch.setattr("sys.argv", ["parity", *map(str, argv)])
    with pytest.raises(SystemExit) as stop:
        run_command(parity.main)
    out = capsys.readouterr()
    return stop.value.code, out.out + out.err


def changed(tmp_path, name, change) -> str:
    """A copy of a golden after `change(tensors, meta)`."""
    with safe_open(GOLDENS / f"{name}.safetensors", "numpy") as file:
        meta = json.loads(file.metadata()["bundle"])
        tensors = {key: file.get_tensor(key).copy() for key in file.keys()}  # noqa: SIM118
    change(tensors, meta)
    path = tmp_path / f"{name}.safetensors"
    save_file(tensors, path, metadata={"bundle": json.dumps(meta)})
    return str(path)


@pytest.mark.parametrize("name", ["umt5", "wav2vec2", "unipc_12", "vae"])
def test_a_golden_passes(monkeypatch, capsys, name):
    code, out = run(monkeypatch, capsys, GOLDENS / f"{name}.safetensors")
    assert code == 0
    assert out.strip().splitlines()[-1].endswith(" passed, 0 failed")
    assert " ok" in out and "FAIL" not in out


@pytest.mark.parametrize("quantile", [0.1, 0.5, 1.0])
def test_one_value_changed_by_one_percent_fails(monkeypatch, capsys, tmp_path, quantile):
    """Whether the value is large or among the small ones."""

    def change(tensors, _):
        flat = tensors["outputs/hidden"].reshape(-1)
        index = np.argsort(np.abs(flat))[int(quantile * (flat.size - 1))]
        flat[index] *= 1.01

    code, out = run(monkeypatch, capsys, changed(tmp_path, "umt5", change))
    assert code == 1
    assert "FAIL" in out and out.strip().endswith("0 passed, 1 failed")


def test_taps_name_the_first_value_that_parts_in_order_of_computation(monkeypatch, capsys, tmp_path):
    def change(tensors, _):
        tensors["taps/block_0_before_audio"] += 1.0
        tensors["taps/block_0"] += 1.0
        tensors["taps/audio_tokens_all"][0, 3] += 1.0

    path = changed(tmp_path, "dit_motion", change)
    code, out = run(monkeypatch, capsys, path, "--taps")
    assert code == 1
    assert "first to part: audio_tokens_all" in out
    assert run(monkeypatch, capsys, path)[0] == 0  # its output is right


def test_what_cannot_be_compared_fails(monkeypatch, capsys, tmp_path):
    def change(tensors, _):
        tensors["outputs/hidden"] = tensors["outputs/hidden"][:, :-1].copy()
        tensors["outputs/other"] = np.ones(3, np.float32)
        tensors["outputs/hidden2"] = np.full(3, np.nan, np.float32)

    code, out = run(monkeypatch, capsys, changed(tmp_path, "umt5", change))
    assert code == 1 and "0 passed, 3 failed" in out
    assert "shape (2, 32, 64), not (2, 31, 64)" in out and "not computed" in out


def test_values_that_are_no_numbers_fail():
    ones, bad = np.ones(3), np.array([1.0, np.nan, 1.0])
    assert not parity.compare("x", bad, ones, "dit").passed
    assert not parity.compare("x", ones, bad, "dit").passed
    assert parity.compare("x", ones, ones, "dit").passed


def _recipe_of_another_numpy(tensors, meta):
    meta["recipe"]["crc32_of_first_16_values"] += 1


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, meta: meta.update(component="multitalk_dit"), "component 'multitalk_dit' cannot be run; known"),
        (lambda t, meta: meta.update(component="train_loss"), "component 'train_loss' cannot be run; known"),
        (_recipe_of_another_numpy, "the weight recipe gives other numbers"),
        (lambda t, meta: meta.pop("recipe"), "neither weights nor a recipe"),
        (lambda t, meta: meta["config"].update(dim=32), "do not fit UMT5Encoder"),
    ],
)
def test_what_cannot_be_run_is_an_error_that_says_so(monkeypatch, capsys, tmp_path, change, message):
    code, out = run(monkeypatch, capsys, changed(tmp_path, "umt5", change))
    assert code == 2 and message in out and "Traceback" not in out


def test_files_that_are_no_bundles(monkeypatch, capsys, tmp_path):
    assert "no such file" in run(monkeypatch, capsys, tmp_path / "none.safetensors")[1]
    (tmp_path / "text.safetensors").write_text("not safetensors")
    code, out = run(monkeypatch, capsys, tmp_path / "text.safetensors")
    assert code == 2 and "not a readable reference bundle" in out
    save_file({"x": np.ones(2)}, tmp_path / "plain.safetensors")
    assert "without a `bundle` entry" in run(monkeypatch, capsys, tmp_path / "plain.safetensors")[1]


def test_the_three_clip_pipeline(golden):
    """The bundle holds every fourth pixel of the video; `latents_clip_i` whole."""
    bundle = golden("pipeline_3_clips")
    case = CASES["pipeline"](bundle)
    video = bundle.group("outputs")["video_every_4th_pixel"]
    found = [parity.compare("video", case.outputs["video"][:, :, ::4, ::4], video, "pipeline")]
    taps = bundle.group("taps")
    found += [parity.compare(name, case.taps[name], value, "pipeline") for name, value in taps.items()]
    assert len(found) == 4 and all(c.passed for c in found), [str(c) for c in found]
    assert max(c.max_rel for c in found) < 1e-4


def by_path(tmp_path, component, config, inputs, outputs, paths, files, **meta) -> str:
    """A bundle as dump_reference writes it: weights by path."""
    tensors = {f"inputs/{k}": v for k, v in inputs.items()} | {f"outputs/{k}": v for k, v in outputs.items()}
    weights = paths | {"bytes": {file.name: file.stat().st_size for file in files}}
    meta = {"component": component, "config": config, "weights": weights, **meta}
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    save_file(tensors, tmp_path / f"{component}.safetensors", metadata={"bundle": json.dumps(meta)})
    return str(tmp_path / f"{component}.safetensors")


def test_weights_by_path(monkeypatch, capsys, tmp_path, tiny_checkpoint, tiny_weights):
    vae = store.load_module(tiny_weights, COMPONENTS["vae"])
    video = np.random.default_rng(0).uniform(-1, 1, (1, 3, 5, 32, 32)).astype(np.float32)
    encoded = channels_second(vae.encode(channels_last(video)))
    decoded = channels_second(vae.decode(channels_last(encoded)))
    config = to_dict(vae.config)
    for constant in ("latent_mean", "latent_std"):
        config.pop(constant)
    file = tiny_checkpoint["ckpt_dir"] / "Wan2.2_VAE.pth"
    inputs, outputs = {"video": video, "latents": encoded}, {"encoded": encoded, "decoded": decoded}
    paths = {"ckpt_dir": str(file.parent)}
    path = by_path(tmp_path, "vae", config, inputs, outputs, paths, [file])
    assert run(monkeypatch, capsys, path)[0] == 1  # the tiny VAE's latent constants are not the published ones
    monkeypatch.setattr(parity_cases, "vae_config", lambda *_: vae.config)
    code, out = run(monkeypatch, capsys, path)
    assert code == 0 and "2 passed, 0 failed" in out

    meta_bytes = by_path(tmp_path, "vae", config, inputs, outputs, paths, [])
    code, out = run(monkeypatch, capsys, meta_bytes)
    assert code == 2 and "Wan2.2_VAE.pth: not the file vae.safetensors was made with" in out
