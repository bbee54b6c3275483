"""The tool that people run in the original's environment: what of it needs neither torch nor the original."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from talkverse_jax.cli import dump_original as command
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.families.talkverse.original import dump, inputs
from talkverse_jax.families.talkverse.original.options import DumpOptions


@pytest.fixture
def given(tmp_path):
    """Options whose paths all exist, as a function of what is otherwise."""
    clone = tmp_path / "clone"
    (clone / "wan/modules/s2v").mkdir(parents=True)
    (clone / "wan/modules/s2v/model_s2v_5b.py").touch()
    (tmp_path / "ti2v").mkdir()
    (tmp_path / "lora.safetensors").write_bytes(b"12345")
    (tmp_path / "sizes.json").write_text("{")
    paths = {"repo": "clone", "ckpt_dir": "ti2v", "lora_ckpt": "lora.safetensors", "out": "out.safetensors"}

    def options(**changed) -> DumpOptions:
        values = {name: str(tmp_path / path) for name, path in paths.items()} | changed
        if "config" in changed:
            values["config"] = str(tmp_path / changed["config"])
        return DumpOptions(**values)

    return options


def test_imports_neither_torch_nor_jax():
    code = (
        "import sys\nfrom talkverse_jax.pipeline import registry\nregistry.original_of('talkverse')\n"
        "print(*{'torch', 'jax', 'flax', 'jaxtyping', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"repo": "/nowhere"}, r"--repo /nowhere: does not exist; give a clone"),
        ({"ckpt_dir": None}, r"--ckpt_dir is missing; give the folder of Wan2.2-TI2V-5B"),
        ({"lora_ckpt": None}, r"--lora_ckpt is missing; give the TalkVerse file"),
        ({"out": "/no/out.safetensors"}, r"--out /no/out.safetensors: its folder does not exist"),
        ({"config": "sizes.json"}, r"--config .*sizes.json line 1, column 2: not JSON"),
        ({"component": "wav2vec2"}, r"--wav2vec_dir .*wav2vec2-large-xlsr-53-english: does not exist"),
        ({"frames": 7}, r"--frames 7: give a multiple of 4"),
        ({"width": 96}, r"--width 96: give a multiple of 32 from 128 up"),
        ({"num_clip": 0}, r"--num_clip 0: give 1 or more"),
    ],
)
def test_a_bad_option_is_one_line(given, changed, message):
    with pytest.raises(UserError, match=message) as error:
        dump.run(given(**changed), Reporter())
    assert "\n" not in str(error.value)


def test_the_command_reads_sizes_as_json(given):
    """And not as a TOML file of options, which `--config` is elsewhere."""
    options = dataclasses.asdict(given(config="sizes.json"))
    argv = [
        word for name in ("repo", "ckpt_dir", "lora_ckpt", "out", "config") for word in (f"--{name}", options[name])
    ]
    with pytest.raises(UserError, match=r"--config .*sizes.json line 1, column 2: not JSON"):
        command.main(argv, "dump-original")


def test_without_torch(given, monkeypatch):
    monkeypatch.setattr(dump.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match="^torch: not installed in this Python; run this in the original's environment$"
    ):
        dump.run(given(), Reporter())


def test_folder_that_is_no_clone(given, monkeypatch, tmp_path):
    monkeypatch.setattr(dump.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(UserError, match="ti2v: no wan/modules/s2v/model_s2v_5b.py; give a clone"):
        dump.run(given(repo=str(tmp_path / "ti2v")), Reporter())
    assert "wan" not in sys.modules


def test_weights_by_path(given, tmp_path):
    options = given(lora_alpha=64).located()
    assert options.weights([tmp_path / "lora.safetensors"]) == {
        "ckpt_dir": str(tmp_path / "ti2v"),
        "lora_ckpt": str(tmp_path / "lora.safetensors"),
        "lora_rank": 128,
        "lora_alpha": 64,
        "bytes": {"lora.safetensors": 5},
    }
    assert given(component="vae").weights([]) == {"ckpt_dir": str(tmp_path / "ti2v"), "bytes": {}}


def layout(arrays):
    return {name: (value.shape, value.dtype) for name, value in arrays.items()}


def test_inputs_are_laid_out_as_the_goldens(golden):
    size = inputs.Size(128, 128, 20)
    dit, umt5 = golden("dit_motion"), golden("umt5")
    assert layout(inputs.dit_inputs(dit.config, size, seed=0)) == layout(dit.group("inputs"))
    given = inputs.umt5_inputs(umt5.config, seed=0, length=32)
    assert layout(given) == layout(umt5.group("inputs"))
    assert given["mask"].sum(axis=1).tolist() == [32, 12] and not given["ids"][given["mask"] == 0].any()
    ranks = {name: (value.ndim, value.dtype) for name, value in inputs.vae_inputs(size, seed=0).items()}
    assert ranks == {name: (v.ndim, v.dtype) for name, v in golden("vae").group("inputs").items()}
    one_second = inputs.wav2vec2_inputs(inputs.Size(128, 128, 100), seed=0)["waveform"][:, :16_000]
    assert layout({"waveform": one_second}) == layout(golden("wav2vec2").group("inputs"))


def test_pipeline_sound_ends_in_the_last_clip():
    config = {"text_len": 24, "text_dim": 40, "audio_dim": 16}
    given = inputs.pipeline_inputs(config, inputs.Size(128, 160, 20), clips=3, seed=0)
    assert layout(given) == {
        "image": ((150, 202, 3), np.uint8),
        "audio_features": ((25, 55, 16), np.float32),
        "context": ((1, 9, 40), np.float32),
        "negative_context": ((1, 6, 40), np.float32),
        "noise": ((3, 48, 5, 8, 10), np.float32),
    }


def test_seed_decides():
    size = inputs.Size(128, 128, 8)
    first, again, other = (inputs.vae_inputs(size, seed)["video"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.min() >= -1 and first.max() <= 1
