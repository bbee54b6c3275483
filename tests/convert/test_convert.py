"""A tiny checkpoint in the published layout, with random weights, through the conversion and back."""

import errno
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from talkverse_jax.cli import convert as command
from talkverse_jax.cli.command import run_command
from talkverse_jax.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.published import ADAPTER, VAE_FILE, WAN, WAV2VEC2
from talkverse_jax.families.talkverse.settings import Sources
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights import match, orbax_io, safetensors_io, store
from talkverse_jax.weights.torch_writer import write_torch
from tests.published import files_in, float32_tensors

ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "configs" / "model_tiny.toml"
RANK, ALPHA = 4, 6.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_random_checkpoint(FAMILY, folder, FAMILY.configs_from_toml(CONFIG), seed=0, lora_rank=RANK)
    return folder


@pytest.fixture
def own(checkpoint, tmp_path) -> Path:
    """A copy of the checkpoint to damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "published"))


def _arguments(folder: Path, output: Path, *more: str) -> list[str]:
    paths = {
        "--config": CONFIG,
        **{f"--{flag}": path for flag, path in files_in(folder).items()},
        "--output": output,
        "--lora_rank": RANK,
        "--lora_alpha": ALPHA,
    }
    return [*(str(word) for pair in paths.items() for word in pair), *more]


def _sources(folder: Path) -> dict[str, str]:
    return {flag: str(path) for flag, path in files_in(folder).items()}


def _run(*arguments: str) -> None:
    command.main(arguments, "convert")


@pytest.fixture(scope="module")
def converted(checkpoint, tmp_path_factory) -> Path:
    """All components as `--dtype auto` makes them."""
    _run(*_arguments(checkpoint, output := tmp_path_factory.mktemp("weights")))
    return output


def _parameters(module: nnx.Module) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in tree.parameters(module).items()}


def _expected(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The component's parameters in float32, by the plainest program."""
    component = COMPONENTS[name]
    module = component.abstract(getattr(FAMILY.configs_from_toml(CONFIG), name))
    tensors = float32_tensors(folder, name, RANK, ALPHA)
    return _parameters(match.load_torch(module, component.rules, tensors, name, component.ignored))


@pytest.mark.parametrize("name", FAMILY.needed)
def test_every_parameter_arrives(checkpoint, converted, name):
    module = store.load_module(converted, COMPONENTS[name])
    dtype = np.dtype(COMPONENTS[name].dtype)
    found, expected = _parameters(module), _expected(checkpoint, name)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        assert found[path].dtype == dtype
        # a sum of float32 products may differ in its last bit, and so may what it rounds to
        tolerance = 1e-6 if dtype == np.float32 else 2**-8
        np.testing.assert_allclose(
            found[path].astype(np.float32),
            value.astype(dtype).astype(np.float32),
            rtol=tolerance,
            err_msg=path,
        )


def test_the_folder_describes_itself(checkpoint, converted):
    assert FAMILY.configs_from_weights(converted) == replace(FAMILY.configs_from_toml(CONFIG), tiny_decoder=None)
    manifest = store.read_manifest(converted)
    assert {name: entry["dtype"] for name, entry in manifest.items()} == {
        "dit": "bfloat16", "vae": "float32", "text": "bfloat16", "audio": "float32"
    }  # fmt: skip
    assert manifest["dit"]["lora"] == {"merged": True, "rank": RANK, "alpha": ALPHA, "pairs": 32}
    sums = subprocess.run(["sha256sum", checkpoint / ADAPTER.file], capture_output=True, text=True, check=True)
    assert sums.stdout.split()[0] in {source["sha256"] for source in manifest["dit"]["sources"]}
    assert (converted / "text" / "tokenizer" / "tokenizer.json").is_file()
    assert (converted / "audio" / "preprocessor_config.json").is_file()


def test_loading_casts_and_shards(checkpoint, converted):
    layout = Layout(make_mesh(MeshConfig.parse("fsdp=8"), jax.devices()[:8], heads=8))
    module = store.load_module(converted, COMPONENTS["vae"], dtype="bfloat16", layout=layout)
    expected, split = _expected(checkpoint, "vae"), 0
    for path, value in tree.parameters(module).items():
        np.testing.assert_array_equal(np.asarray(value), expected[path].astype(ml_dtypes.bfloat16))
        part = value.sharding.shard_shape(value.shape)
        split += part == (*value.shape[:-1], value.shape[-1] // 8)
        assert part in (value.shape, (*value.shape[:-1], value.shape[-1] // 8))
    assert split > 50
    assert module.decoder.conv_in.dtype == jnp.bfloat16


@pytest.fixture(scope="module")
def unmerged(checkpoint, tmp_path_factory) -> Path:
    """The DiT as it came in, pairs beside it."""
    output = tmp_path_factory.mktemp("unmerged")
    more = ("--components", "dit", "--lora_merge", "false", "--dtype", "keep")
    _run(*_arguments(checkpoint, output, *more))
    return output


def test_pairs_beside_the_weights_are_added_on_loading(checkpoint, converted, unmerged):
    dit = COMPONENTS["dit"]
    kept = _parameters(store.load_module(unmerged, dit))
    assert {str(value.dtype) for value in kept.values()} == {"float32", "bfloat16"}
    loaded = _parameters(store.load_module(unmerged, dit, dtype="float32"))
    for path, value in _expected(checkpoint, "dit").items():
        np.testing.assert_allclose(loaded[path], value, rtol=1e-6, atol=1e-7, err_msg=path)
    rounded = _parameters(store.load_module(unmerged, dit, dtype="bfloat16"))
    for path, value in _parameters(store.load_module(converted, dit)).items():
        np.testing.assert_array_equal(rounded[path], value, err_msg=path)

    plain = _parameters(store.load_module(unmerged, dit, dtype="float32", with_lora=False))
    changed = {path for path, value in plain.items() if not np.array_equal(value, loaded[path])}
    assert len(changed) == 32 and all("blocks/" in path for path in changed)


def _style(path: Path, header=None) -> dict[str, np.ndarray]:
    """A file of another program: two pairs of other ranks and alphas; what it adds, by PyTorch name."""
    tensors, added = {}, {}
    for layer, rank, alpha in (("blocks.0.self_attn.v", 2, 1.0), ("blocks.1.self_attn.q", 3, 6.0)):
        a, b = np.full((rank, 96), 0.01, np.float32), np.full((96, rank), 0.1, np.float32)
        name = f"diffusion_model.{layer}"
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b, f"{name}.alpha": np.float32([alpha])}
        added[f"{layer}.weight"] = alpha / rank * b @ a
    tensors["diffusion_model.head.head.diff_b"] = added["head.head.bias"] = np.ones(192, np.float32)
    save_file(tensors, path, header)
    return added


def test_several_files_with_strengths(checkpoint, tmp_path):
    """The adapter's own file and another one: both are added, and the manifest notes them."""
    added, dit = _style(tmp_path / "style.safetensors"), COMPONENTS["dit"]
    words = _arguments(checkpoint, tmp_path / "w", "--lora_strength", "1", "0.5", "--components", "dit")
    where = words.index("--lora_ckpt") + 1
    words[where + 1 : where + 1] = [str(tmp_path / "style.safetensors")]
    with pytest.raises(
        UserError, match=r"--lora_rank 4: .*style.safetensors has pairs of rank 2 \(blocks.0.self_attn.v"
    ):
        _run(*words)
    alpha = words.index("--lora_alpha")
    del words[alpha : alpha + 2]
    rank = words.index("--lora_rank")
    del words[rank : rank + 2]
    with pytest.raises(UserError, match="--lora_merge false: keeps the pairs of one file as they came; give one"):
        _run(*words, "--lora_merge", "false")
    _run(*words, "--dtype", "float32")
    component = dit.abstract(FAMILY.configs_from_toml(CONFIG).dit)
    tensors = float32_tensors(checkpoint, "dit", RANK, RANK)
    for name, value in added.items():
        tensors[name] = tensors[name] + 0.5 * value
    wanted = _parameters(match.load_torch(component, dit.rules, tensors, "dit"))
    for path, value in _parameters(store.load_module(tmp_path / "w", dit)).items():
        np.testing.assert_allclose(value, wanted[path], atol=1e-6, err_msg=path)
    entry = store.read_manifest(tmp_path / "w")["dit"]
    assert {source["file"] for source in entry["sources"]} >= {ADAPTER.file, "style.safetensors"}
    assert entry["lora"] == {"merged": True, "rank": None, "alpha": None, "pairs": 34, "strengths": [1.0, 0.5]}


def test_pairs_beside_the_weights_keep_each_layer_s_scale(checkpoint, tmp_path):
    """A complete file whose pairs have ranks and alphas of their own."""
    trained = dict(load_file(checkpoint / ADAPTER.file))
    ranks = {}
    for number, layer in enumerate(sorted({name.partition(".lora_")[0] for name in trained if ".lora_" in name})):
        ranks[layer] = number % RANK + 1
        trained[f"{layer}.lora_A.weight"] = np.array(trained[f"{layer}.lora_A.weight"][: ranks[layer]])
        trained[f"{layer}.lora_B.weight"] = np.array(trained[f"{layer}.lora_B.weight"][:, : ranks[layer]])
        trained[f"{layer}.alpha"] = np.float32([number + 1])
    own = Path(shutil.copytree(checkpoint, tmp_path / "published"))
    save_file(trained, own / ADAPTER.file)
    sources, configs = Sources(**_sources(own)), FAMILY.configs_from_toml(CONFIG)
    both = {}
    for merge in (True, False):
        options = ConvertOptions(
            output=str(tmp_path / str(merge)), components=("dit",), dtype="float32", lora_merge=merge
        )
        convert.convert(FAMILY, options, sources, configs)
        both[merge] = _parameters(store.load_module(tmp_path / str(merge), COMPONENTS["dit"]))
    for path, value in both[True].items():
        np.testing.assert_allclose(both[False][path], value, atol=1e-6, err_msg=path)
    assert store.read_manifest(tmp_path / "False")["dit"]["lora"] == {
        "merged": False, "rank": None, "alpha": None, "pairs": 32
    }  # fmt: skip
    stored = store.stored_pairs(tmp_path / "False", COMPONENTS["dit"])
    assert {pair.rank for pair in stored.values()} == {1, 2, 3, 4}
    assert {pair.alpha for pair in stored.values()} == set(range(1, 33))


def test_export_gives_the_files_back(checkpoint, unmerged, tmp_path):
    _run("--output", str(unmerged), "--export", str(tmp_path))
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        assert (tmp_path / path).read_bytes() == (checkpoint / path).read_bytes(), path


def test_export_of_any_bits_and_names(own, tmp_path):
    """Not-a-numbers, `model.` in front, names in another order, one file without an index."""
    trained = own / ADAPTER.file
    tensors = load_file(trained)
    rng = np.random.default_rng(0)
    for name, value in tensors.items():
        tensors[name] = rng.integers(0, 2**16, value.shape, np.uint16).view(value.dtype)
    save_file({f"model.{name}": value for name, value in reversed(tensors.items())}, trained, {"step": "7"})
    before = trained.read_bytes()
    base = own / WAN.folder
    whole = {}
    for path in base.glob("*.safetensors"):
        whole |= {name: np.array(value) for name, value in load_file(path).items()}
        path.unlink()
    (base / "diffusion_pytorch_model.safetensors.index.json").unlink()
    save_file(whole, base / "diffusion_pytorch_model.safetensors")

    more = (
        "--components",
        "dit",
        "--lora_merge",
        "false",
        "--dtype",
        "keep",
        "--export",
        str(tmp_path / "back"),
    )
    _run(*_arguments(own, tmp_path / "w", *more))
    assert (tmp_path / "back" / ADAPTER.file).read_bytes() == before
    assert [path.name for path in (tmp_path / "back" / WAN.folder).iterdir()] == ["diffusion_pytorch_model.safetensors"]


def test_export_of_merged_weights_is_refused(converted, tmp_path):
    with pytest.raises(UserError, match="only what was converted with --lora_merge false --dtype keep"):
        _run("--output", str(converted), "--export", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing(unmerged, tmp_path, capsys, monkeypatch):
    export = ("--output", str(unmerged), "--export")
    with pytest.raises(UserError, match=r"there: cannot be made \(No such file or directory\)"):
        _run(*export, "/proc/there")
    base = tmp_path / WAN.folder
    base.mkdir()
    name = "diffusion_pytorch_model-00001-of-00003.safetensors"

    def full(path, *_):
        path.write_bytes(b"begun")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors_io, "write_file", full)
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: _run(*export, str(tmp_path)))
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and line.startswith(f"error: {base / name}: No space left on device; make room")
    assert not list(base.iterdir())


def test_run_again(checkpoint, tmp_path, capsys):
    """What is complete is skipped; other settings or files make it anew; other components stay."""
    arguments = _arguments(checkpoint, tmp_path / "w", "--components")
    _run(*arguments, "text,audio")
    made = {name: (tmp_path / "w" / name).stat().st_ino for name in ("text", "audio")}
    capsys.readouterr()
    (tmp_path / "w" / "text.partial").mkdir()  # as an interrupted attempt at another dtype leaves it
    _run(*arguments, "text,audio")
    assert not (tmp_path / "w" / "text.partial").exists()
    assert capsys.readouterr().out.count("already converted") == 2
    _run(*arguments, "text", "--dtype", "float32")
    assert "text: was converted with --dtype bfloat16; it is converted again" in capsys.readouterr().out
    assert (tmp_path / "w" / "text").stat().st_ino != made["text"]
    assert (tmp_path / "w" / "audio").stat().st_ino == made["audio"]
    assert {name: entry["dtype"] for name, entry in store.read_manifest(tmp_path / "w").items()} == {
        "audio": "float32", "text": "float32"
    }  # fmt: skip
    source = checkpoint / WAV2VEC2.folder / "model.safetensors"
    source.touch()
    _run(*arguments, "audio")
    assert "audio: was converted with other files" in capsys.readouterr().out
    assert (tmp_path / "w" / "audio").stat().st_ino != made["audio"]


# One conversion in a process that says when it begins.
_CHILD = """
from talkverse_jax.cli import convert
from talkverse_jax.convert import run
from talkverse_jax.families.talkverse import family
import jax; jax.devices()
print("begin", flush=True)
convert.main(None, "convert")
"""


@pytest.mark.slow
def test_killed_at_any_moment(checkpoint, tmp_path):
    """kill -9 leaves complete components and nothing that passes for one."""
    arguments = _arguments(checkpoint, tmp_path / "w", "--components", "dit,vae")
    rng = random.Random(0)
    expected = {name: _expected(checkpoint, name) for name in ("dit", "vae")}
    killed = 0
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, *arguments], cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"begin\n"
        time.sleep(rng.uniform(0, 1.2))
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
        for name, values in expected.items():
            try:
                found = _parameters(store.load_module(tmp_path / "w", COMPONENTS[name]))
            except UserError as error:
                assert "talkverse-jax convert" in str(error)
                continue
            for path, value in values.items():
                np.testing.assert_allclose(found[path].astype(np.float32), value, rtol=2**-7, atol=1e-6)
    assert killed
    subprocess.run([sys.executable, "-c", _CHILD, *arguments], cwd=ROOT, check=True)
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["dit", "manifest.json", "vae"]
    assert set(store.read_manifest(tmp_path / "w")) == {"dit", "vae"}


def test_a_failure_keeps_the_old_component(checkpoint, tmp_path, monkeypatch):
    arguments = _arguments(checkpoint, tmp_path / "w", "--components", "text")
    _run(*arguments)

    def full(*_):
        raise ValueError('RESOURCE_EXHAUSTED: ...: Failed to write: No space left on device [os_error_code="28"]')

    with monkeypatch.context() as patch:
        patch.setattr(orbax_io, "write", full)
        with pytest.raises(UserError, match=r"w: cannot be written \(No space left on device\); make room"):
            _run(*arguments, "--dtype", "float32")
        patch.setattr(convert.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=0))
        with pytest.raises(UserError, match=r"w: text needs \d+ kB, 0 B are free"):
            _run(*arguments, "--dtype", "float32")
    assert not (tmp_path / "w" / "text.partial").exists()
    store.load_module(tmp_path / "w", COMPONENTS["text"])


def test_half_converted_weights(checkpoint, converted, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder; to make it, run talkverse-jax convert"):
        store.load_module(tmp_path / "nowhere", COMPONENTS["text"])
    folder = Path(shutil.copytree(converted, tmp_path / "w"))
    (folder / "manifest.json").rename(tmp_path / "manifest.json")
    with pytest.raises(UserError, match="w: no manifest.json: not converted weights, or a conversion that did not"):
        store.load_module(folder, COMPONENTS["text"])

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["components"]["text"], manifest["crc32"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="text: not converted; run talkverse-jax convert .* --components text"):
        store.load_module(folder, COMPONENTS["text"])
    (folder / "text").rename(folder / "text.partial")
    with pytest.raises(UserError, match="text: half-converted"):
        store.load_module(folder, COMPONENTS["text"])

    config = folder / "vae" / "config.json"
    config.write_text(config.read_text().replace('"dim": 8', '"dim": 9'))
    with pytest.raises(UserError, match="vae/config.json: not as it was written, so vae is damaged; run talkverse-jax"):
        store.load_module(folder, COMPONENTS["vae"])
    (folder / "vae" / "checksums").unlink()  # as older versions converted
    with pytest.raises(UserError, match=r"vae: damaged \(.* by its config\); delete it and run talkverse-jax convert"):
        store.load_module(folder, COMPONENTS["vae"])
    data = next((folder / "audio" / "parameters" / "d").iterdir())
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{data.name}: not of the size it was written with; run talkverse-jax convert"):
        store.load_module(folder, COMPONENTS["audio"])
    data.unlink()
    with pytest.raises(UserError, match=f"{data.name}: no such file, so audio is incomplete; run talkverse-jax"):
        store.load_config(folder, COMPONENTS["audio"])


def _change(path: Path, **changes: np.ndarray | None) -> None:
    tensors = {name: np.array(value) for name, value in load_file(path).items()} | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, path)


def test_the_report_has_two_sides(own, tmp_path):
    trained = own / ADAPTER.file
    extra = {"speaker_embedding.weight": np.zeros((2, 3), np.float32)}
    _change(trained, **{"head.head.bias": np.zeros(5, np.float32), "frame_packer.proj.bias": None}, **extra)
    with pytest.raises(UserError) as error:
        _run(*_arguments(own, tmp_path / "w"))
    report = str(error.value)
    assert report.splitlines()[0].endswith("the files do not fit the model dit:")
    assert "the model needs it): 1\n    frame_packer.proj.bias" in report
    assert "the files have it): 1\n    speaker_embedding.weight" in report
    assert "head.head.bias: [5]" in report
    assert not (tmp_path / "w").exists()


def test_weights_of_another_size(checkpoint, tmp_path):
    arguments = [word for word in _arguments(checkpoint, tmp_path / "w") if word not in ("--config", str(CONFIG))]
    with pytest.raises(UserError, match="of another shape"):
        _run(*arguments, "--components", "text")
    with pytest.raises(UserError, match="config.json: of another size: hidden_size is 32, not 1024"):
        _run(*arguments, "--components", "audio")


def test_the_multilingual_base_is_refused(own, tmp_path):
    path = own / WAV2VEC2.folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"architectures": ["Wav2Vec2ForPreTraining"]}))
    with pytest.raises(UserError, match="use jonatasgrosman/wav2vec2-large-xlsr-53-english") as error:
        _run(*_arguments(own, tmp_path / "w", "--components", "audio"))
    assert "\n" not in str(error.value)


def test_wav2vec2_from_a_torch_file_with_the_older_names(own, tmp_path):
    folder = own / WAV2VEC2.folder
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = {}
    for name, value in load_file(folder / "model.safetensors").items():
        for new, older in old.items():
            name = name.replace(new, older)
        tensors[name] = value
    expected = _expected(own, "audio")
    (folder / "model.safetensors").unlink()
    shapes = {name: (value.dtype, value.shape) for name, value in tensors.items()}
    write_torch(folder / "pytorch_model.bin", shapes, iter(tensors.values()))
    _run(*_arguments(own, tmp_path / "w", "--components", "audio"))
    for path, value in _parameters(store.load_module(tmp_path / "w", COMPONENTS["audio"])).items():
        np.testing.assert_array_equal(value, expected[path])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / WAN.folder / VAE_FILE).unlink(), r"Wan2.2_VAE\.pth: no such file"),
        (lambda f: shutil.rmtree(f / WAN.folder / "google"), r"tokenizer\.json: no such file"),
        (lambda f: (f / ADAPTER.file).unlink(), r"talkverse_s2v_5b\.safetensors: no such file"),
        (lambda f: shutil.rmtree(f / WAN.folder), "--ckpt_dir .*: no such folder"),
        (lambda f: (f / WAV2VEC2.folder / "config.json").unlink(), r"config\.json: no such file"),
        (
            lambda f: shutil.copy(ROOT / "tests/weights/files/code.pth", f / WAN.folder / VAE_FILE),
            r"Wan2.2_VAE\.pth: holds code \(\w+\.system\); only tensors are read",
        ),
    ],
)
def test_files_that_are_missing_or_bad(own, tmp_path, damage, message):
    damage(own)
    with pytest.raises(UserError, match=message) as error:
        _run(*_arguments(own, tmp_path / "w"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--output missing"),
        (["--output", "w"], "--ckpt_dir missing; give the folder of Wan-AI/Wan2.2-TI2V-5B to convert dit"),
        (["--output", "w", "--components", "dit,clip"], "'clip' is none of dit, vae, text, audio"),
        (["--output", "w", "--dtype", "int4"], "--dtype int4: give auto, bfloat16, float32, keep, int8"),
        (["--output", "w", "--lora_rank", "0"], "--lora_rank 0: give 1 or more"),
        (["--output", "w", "--lora_alpha", "nan"], "--lora_alpha nan: give a number"),
        (["--output", ""], "--output is empty; give a path"),
        (["--output", "w", "--ckpt_dir", str(CONFIG)], "model_tiny.toml: is a file; give the folder of Wan-AI"),
        (["--output", "w", "--lora_merge", "maybe"], "--lora_merge maybe: give true or false"),
        (["--output", "w", "--ckpt_dir", ".", "--components", "dit"], "--lora_ckpt missing"),
        (["--output", "w", "--ckpt_dir", ".", "--components", "audio"], "--wav2vec_dir missing"),
        (["--output", "w", "--ckpt_dir", ".", "--config", "none.toml"], "none.toml: no such file"),
    ],
)
def test_flags(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        command.main(arguments, "convert")


def test_the_command_ends_with_one_line_and_exit_code_2(tmp_path):
    command = [
        sys.executable,
        ROOT / "convert_torch_weights.py",
        "--output",
        tmp_path / "w",
        "--ckpt_dir",
        "nowhere",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --ckpt_dir nowhere: no such folder; give the folder of Wan-AI/Wan2.2-TI2V-5B, or a file as --dit_file"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_tensor(tmp_path):
    """A tensor of 768 MB in a mapped file, cast and written with blocks and queue of a few MB."""
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(768 * 1024**2)
    program = f"""
import threading, time, numpy as np, ml_dtypes
from talkverse_jax.weights import blocks, orbax_io
orbax_io._BLOCK_BYTES, orbax_io._IN_FLIGHT_BYTES = 4 * 1024**2, 16 * 1024**2
def anon(): return int(next(l for l in open("/proc/self/status") if "RssAnon" in l).split()[1])
array = np.memmap({str(tmp_path / "zeros")!r}, np.float32, "r").reshape(-1, 8192).T
orbax_io.write({str(tmp_path / "warm")!r}, {{"a": blocks.cast(array[:64, :64])}})
peak, before = 0, anon()
def watch():
    global peak
    while True: peak = max(peak, anon()); time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
orbax_io.write({str(tmp_path / "out")!r}, {{"a": blocks.cast(array, ml_dtypes.bfloat16)}})
print((peak - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) < 200  # MB; the result has 384


def test_a_folder_of_somebody_else_is_not_replaced(checkpoint, tmp_path):
    stranger = tmp_path / "audio" / "song.wav"
    stranger.parent.mkdir()
    stranger.write_bytes(b"la la")
    options, sources = ConvertOptions(output=str(tmp_path), components=("audio",)), Sources(**_sources(checkpoint))
    with pytest.raises(UserError, match="audio: is there and is no converted component"):
        convert.convert(FAMILY, options, sources, FAMILY.configs_from_toml(CONFIG))
    assert stranger.read_bytes() == b"la la"
