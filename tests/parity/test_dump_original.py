"""The tool that people run in the original's environment: what of it needs neither torch nor the original."""

import subprocess
import sys

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError, run_command
from talkverse_jax.parity import dump_original as dump_reference
from talkverse_jax.parity.original import inputs
from talkverse_jax.weights.bundle import Bundle


@pytest.fixture
def command(tmp_path):
    """A command line whose paths all exist, as a function of what is added to it."""
    clone = tmp_path / "clone"
    (clone / "wan/modules/s2v").mkdir(parents=True)
    (clone / "wan/modules/s2v/model_s2v_5b.py").touch()
    (tmp_path / "ti2v").mkdir()
    (tmp_path / "lora.safetensors").write_bytes(b"12345")
    (tmp_path / "sizes.json").write_text("{")
    paths = {"repo": "clone", "ckpt_dir": "ti2v", "lora_ckpt": "lora.safetensors", "out": "out.safetensors"}

    def line(*added: str, **replaced: str | None) -> list[str]:
        flags = {name: value for name, value in (paths | replaced).items() if value}
        return [word for name, value in flags.items() for word in (f"--{name}", str(tmp_path / value))] + [*added]

    return line


def test_imports_neither_torch_nor_jax():
    code = (
        "import sys, talkverse_jax.parity.dump_original\n"
        "print(*{'torch', 'jax', 'flax', 'jaxtyping', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    "added, replaced, message",
    [
        ((), {"repo": "nowhere"}, r"--repo: .*nowhere does not exist; give a clone"),
        ((), {"ckpt_dir": None}, r"--ckpt_dir: not given; give the folder of Wan2.2-TI2V-5B"),
        ((), {"lora_ckpt": None}, r"--lora_ckpt: not given; give the TalkVerse file"),
        ((), {"out": "no/out.safetensors"}, r"--out: folder .*no does not exist"),
        ((), {"config": "sizes.json"}, r"--config: .*sizes.json is not JSON"),
        (("--component", "wav2vec2"), {}, r"--wav2vec_dir: .*wav2vec2-large-xlsr-53-english does not exist"),
        (("--frames", "7"), {}, r"--frames: 7 cannot be used; give a multiple of 4"),
        (("--width", "96"), {}, r"--width: 96 cannot be used; give a multiple of 32 from 128 up"),
        (("--num_clip", "0"), {}, r"--num_clip: 0 cannot be used"),
    ],
)
def test_bad_argument_is_one_line(command, added, replaced, message):
    with pytest.raises(UserError, match=message) as error:
        dump_reference.main(command(*added, **replaced))
    assert "\n" not in str(error.value)


def test_without_torch(command, monkeypatch, capsys):
    monkeypatch.setattr(dump_reference.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: dump_reference.main(command()))
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: torch: not installed in this Python; run the tool in the original's environment\n"
    )


def test_folder_that_is_no_clone(command, monkeypatch):
    monkeypatch.setattr(dump_reference.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(UserError, match="ti2v: no wan/modules/s2v/model_s2v_5b.py; give a clone"):
        dump_reference.main(command(repo="ti2v"))
    assert "wan" not in sys.modules


def test_weights_by_path(command, tmp_path):
    args = dump_reference.parse(command("--lora_alpha", "64"))
    assert dump_reference.weights_by_path(args, [args.lora_ckpt]) == {
        "ckpt_dir": str(tmp_path / "ti2v"),
        "lora_ckpt": str(tmp_path / "lora.safetensors"),
        "lora_rank": 128,
        "lora_alpha": 64,
        "bytes": {"lora.safetensors": 5},
    }
    args = dump_reference.parse(command("--component", "vae"))
    assert dump_reference.weights_by_path(args, []) == {"ckpt_dir": str(tmp_path / "ti2v"), "bytes": {}}


def test_bundle_reads_back(tmp_path):
    path = tmp_path / "case.safetensors"
    path.write_bytes(b"an older one")
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    meta = {"component": "vae", "config": {"dim": 8}, "weights": {"ckpt_dir": "/somewhere"}}
    dump_reference.write_bundle(path, meta, {"inputs": {"video": values.T}, "taps": {"mean": values[0]}})
    bundle = Bundle(path)
    assert (bundle.meta, bundle.component, bundle.config) == (meta, "vae", {"dim": 8})
    np.testing.assert_array_equal(bundle.group("inputs")["video"], values.T)
    np.testing.assert_array_equal(bundle.group("taps")["mean"], values[0])
    assert bundle.group("outputs") == {}


def test_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "case.safetensors"
    path.write_bytes(b"an older one")
    with pytest.raises(TypeError):
        dump_reference.write_bundle(path, {"config": object()}, {"inputs": {"x": np.zeros(3)}})
    assert path.read_bytes() == b"an older one"
    assert list(tmp_path.iterdir()) == [path]


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
