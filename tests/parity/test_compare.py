import functools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from talkverse_jax.cli import parity as command
from talkverse_jax.cli.command import run_command
from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.parity import PARITY_CASES
from talkverse_jax.parity import compare as parity
from talkverse_jax.weights.bundle import Bundle
from tests.conftest import CONFIGS, GOLDENS
from tests.published import float32_tensors


def run(capsys, *argv) -> tuple[int, str]:
    """Exit code and output of the command."""
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: command.main(list(map(str, argv)), "parity"))
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


@pytest.mark.parametrize(
    "name",
    [
        "umt5",
        "wav2vec2",
        "unipc_12",
        "vae",
        "train_loss_roi",
        pytest.param("train_loss_plain", marks=pytest.mark.slow),
    ],
)
def test_a_golden_passes(capsys, name):
    code, out = run(capsys, GOLDENS / f"{name}.safetensors")
    assert code == 0
    assert out.strip().splitlines()[-1].endswith(" passed, 0 failed")
    assert " ok" in out and "FAIL" not in out


@pytest.mark.parametrize("quantile", [0.1, 0.5, 1.0])
def test_one_value_changed_by_one_percent_fails(capsys, tmp_path, quantile):
    """Whether the value is large or among the small ones."""

    def change(tensors, _):
        flat = tensors["outputs/hidden"].reshape(-1)
        index = np.argsort(np.abs(flat))[int(quantile * (flat.size - 1))]
        flat[index] *= 1.01

    code, out = run(capsys, changed(tmp_path, "umt5", change))
    assert code == 1
    assert "FAIL" in out and out.strip().endswith("0 passed, 1 failed")


def test_taps_name_the_first_value_that_parts_in_order_of_computation(capsys, tmp_path):
    def change(tensors, _):
        tensors["taps/block_0_before_audio"] += 1.0
        tensors["taps/block_0"] += 1.0
        tensors["taps/audio_tokens_all"][0, 3] += 1.0

    path = changed(tmp_path, "dit_motion", change)
    code, out = run(capsys, path, "--taps")
    assert code == 1
    assert "first to part: audio_tokens_all" in out
    assert run(capsys, path)[0] == 0  # its output is right


def test_what_cannot_be_compared_fails(capsys, tmp_path):
    def change(tensors, _):
        tensors["outputs/hidden"] = tensors["outputs/hidden"][:, :-1].copy()
        tensors["outputs/other"] = np.ones(3, np.float32)
        tensors["outputs/hidden2"] = np.full(3, np.nan, np.float32)

    code, out = run(capsys, changed(tmp_path, "umt5", change))
    assert code == 1 and "0 passed, 3 failed" in out
    assert "shape (2, 32, 64), not (2, 31, 64)" in out and "not computed" in out


def test_the_family_is_that_of_the_bundle_or_the_one_asked_for(capsys, tmp_path):
    path = changed(tmp_path, "umt5", lambda _, meta: meta.update(family="other"))
    code, out = run(capsys, path)
    assert code == 2 and "other: no such family; there are talkverse" in out
    assert run(capsys, path, "--family", "talkverse")[0] == 0
    with pytest.raises(UserError, match="no such family"):
        parity.run_bundle(Bundle(GOLDENS / "umt5.safetensors"), False, family="another")


def test_values_that_are_no_numbers_fail():
    ones, bad = np.ones(3), np.array([1.0, np.nan, 1.0])
    assert not parity.compare("x", bad, ones).passed
    assert not parity.compare("x", ones, bad).passed
    assert parity.compare("x", ones, ones).passed


def _recipe_of_another_numpy(tensors, meta):
    meta["recipe"]["crc32_of_first_16_values"] += 1


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, meta: meta.update(component="lip_sync_dit"), "component 'lip_sync_dit' cannot be run; known"),
        (lambda t, meta: meta.update(component="train_loss"), "lacks 'noise'"),
        (_recipe_of_another_numpy, "the weight recipe gives other numbers"),
        (lambda t, meta: meta.pop("recipe"), "neither weights nor a recipe"),
        (lambda t, meta: meta["config"].update(dim=32), "do not fit UMT5Encoder"),
    ],
)
def test_what_cannot_be_run_is_an_error_that_says_so(capsys, tmp_path, change, message):
    code, out = run(capsys, changed(tmp_path, "umt5", change))
    assert code == 2 and message in out and "Traceback" not in out


def test_files_that_are_no_bundles(capsys, tmp_path):
    assert "no such file" in run(capsys, tmp_path / "none.safetensors")[1]
    assert "is a folder; give the path of a reference bundle" in run(capsys, tmp_path)[1]
    (tmp_path / "text.safetensors").write_text("not safetensors")
    code, out = run(capsys, tmp_path / "text.safetensors")
    assert code == 2 and "not a readable reference bundle" in out
    save_file({"x": np.ones(2)}, tmp_path / "plain.safetensors")
    assert "without a `bundle` entry" in run(capsys, tmp_path / "plain.safetensors")[1]


@pytest.mark.parametrize("name", ["pipeline_3_clips", pytest.param("pipeline_dubbing", marks=pytest.mark.slow)])
def test_three_clips(golden, name):
    """The bundle holds every fourth pixel of the video; `latents_clip_i` whole."""
    bundle = golden(name)
    case = PARITY_CASES["pipeline"](bundle, None)
    video = bundle.group("outputs")["video_every_4th_pixel"]
    found = [parity.compare("video", case.outputs["video"][:, :, ::4, ::4], video, True)]
    taps = bundle.group("taps")
    found += [parity.compare(name, case.taps[name], value, True) for name, value in taps.items()]
    assert len(found) == 4 and all(c.passed for c in found), [str(c) for c in found]
    assert max(c.max_rel for c in found) < 1e-4


TINY = FAMILY.configs_from_toml(CONFIGS / "model_tiny.toml")


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


def _dit_case():
    trunk, frames = TINY.dit.trunk, 2
    config = to_dict(trunk) | to_dict(TINY.dit)
    latents = functools.partial(_normal, 1, trunk.in_channels)
    inputs = {
        "latents": latents(frames, 8, 8),
        "ref_latents": latents(1, 8, 8),
        "motion_latents": latents(19, 8, 8),
        "timestep": np.array([600.0]),
        "context": _normal(1, trunk.text_len, trunk.text_dim),
        "audio": _normal(1, TINY.dit.audio_layers, TINY.dit.audio_dim, 4 * frames),
    }
    return config, inputs, {"motion_frames": [TINY.dit.motion_frames, 19], "drop_motion_frames": False}


def _vae_case():
    config = {k: v for k, v in to_dict(TINY.vae).items() if not k.startswith("latent_")}
    video, latents = _normal(1, 3, 5, 32, 32).clip(-1, 1), _normal(1, TINY.vae.z_dim, 2, 2, 2)
    return config, {"video": video, "latents": latents}, {}


def _umt5_case():
    ids = np.random.default_rng(0).integers(1, TINY.text.vocab, (2, 16))
    return to_dict(TINY.text), {"ids": ids, "mask": np.arange(16) < [[16], [9]]}, {}


def _wav2vec2_case():
    return to_dict(TINY.audio), {"waveform": _normal(1, 4000)}, {}


BY_PATH = {  # component of the bundle: ours, its case, flags and files of its weights
    "dit": ("dit", _dit_case, ("ckpt_dir", "lora_ckpt"), "diffusion_pytorch_model-00002-of-00003.safetensors"),
    "vae": ("vae", _vae_case, ("ckpt_dir",), "Wan2.2_VAE.pth"),
    "umt5_encoder": ("text", _umt5_case, ("ckpt_dir",), "models_t5_umt5-xxl-enc-bf16.pth"),
    "wav2vec2": ("audio", _wav2vec2_case, ("wav2vec_dir",), "model.safetensors"),
}


@pytest.mark.parametrize("component", BY_PATH)
def test_weights_by_path(capsys, tmp_path, tiny_checkpoint, component):
    """As `dump-original` writes them: the numbers are those of the same weights stored whole."""
    name, case, flags, changed_file = BY_PATH[component]
    config, inputs, meta = case()
    meta |= {"component": component, "config": config}
    tensors = {f"inputs/{key}": np.ascontiguousarray(value) for key, value in inputs.items()}
    if component == "vae":  # whose constants are not the published ones
        tensors |= {"taps/mean": np.array(TINY.vae.latent_mean), "taps/std": np.array(TINY.vae.latent_std)}

    weights = float32_tensors(tiny_checkpoint["lora_ckpt"].parent, name, rank=128, alpha=64.0)
    whole = tensors | {f"weights/{key}": np.ascontiguousarray(value) for key, value in weights.items()}
    save_file(whole, tmp_path / "whole.safetensors", metadata={"bundle": json.dumps(meta)})
    outputs = PARITY_CASES[component](Bundle(tmp_path / "whole.safetensors"), None).outputs
    tensors |= {f"outputs/{key}": np.ascontiguousarray(value) for key, value in outputs.items()}

    def write(sizes: dict[str, int]) -> Path:
        paths = {flag: str(tiny_checkpoint[flag]) for flag in flags}
        entry = {"weights": paths | {"lora_rank": 128, "lora_alpha": 64.0, "bytes": sizes}}
        save_file(tensors, tmp_path / "paths.safetensors", metadata={"bundle": json.dumps(meta | entry)})
        return tmp_path / "paths.safetensors"

    folders = [tiny_checkpoint["ckpt_dir"], tiny_checkpoint["lora_ckpt"].parent, tiny_checkpoint["wav2vec_dir"]]
    sizes = {file.name: file.stat().st_size for folder in folders for file in folder.iterdir()}
    code, out = run(capsys, write(sizes))
    assert code == 0 and f"{len(outputs)} passed, 0 failed" in out
    code, out = run(capsys, write(sizes | {changed_file: 7}))
    assert code == 2 and f"{changed_file}: not the file paths.safetensors was made with" in out
