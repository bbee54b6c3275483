"""A folder holds weights of one family; conversion, export and random checkpoints take any family's record."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.export import export
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.families.talkverse.family import FAMILY as TALKVERSE
from talkverse_jax.models.umt5.component import umt5, umt5_origin
from talkverse_jax.models.umt5.config import UMT5Config
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family
from talkverse_jax.weights import manifest, store
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.published import AdapterFile, Origin, Repository
from talkverse_jax.weights.published_files import Safetensors
from talkverse_jax.weights.rule import linear
from tests.conftest import CONFIGS
from tests.published import converted, files_in

BEFORE = CONFIGS.parent / "tests" / "fixtures" / "before"  # of a program that knew no families
TEXT = UMT5Config(vocab=512, dim=8, dim_attn=8, dim_ffn=16, num_heads=2, num_layers=1, num_buckets=32, max_distance=128)


@dataclasses.dataclass(frozen=True)
class BrainConfig:
    width: int


class Brain(nnx.Module):
    """Two linear layers; the second is trained upon the first."""

    def __init__(self, config: BrainConfig, *, rngs, dtype, param_dtype, layout):
        del dtype, layout
        self.base = nnx.Linear(config.width, config.width, param_dtype=param_dtype, rngs=rngs)
        self.ears = nnx.Linear(config.width, 2 * config.width, param_dtype=param_dtype, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Configs:
    brain: BrainConfig
    words: UMT5Config


@dataclasses.dataclass(frozen=True)
class Sources:
    brain_dir: str | None = None
    ears_file: str | None = None


_USED = ("name", "title", "components", "configs_type", "sources")
_UNUSED: dict = {
    field.name: None
    for field in dataclasses.fields(Family)
    if field.name not in _USED and field.default is dataclasses.MISSING
}
_REPOSITORY = Repository("brain_dir", "someone/brain-1b")
OTHER = Family(
    name="other",
    title="another family",
    components={
        "brain": Component(
            name="brain",
            config_type=BrainConfig,
            model_type=Brain,
            rules=(*linear("base", "base"), *linear("ears", "ears")),
            axes=(),
            ignored=(),
            real_size=lambda: BrainConfig(16),
            dtype="float32",
        ),
        "words": umt5("words"),
    },
    configs_type=Configs,
    sources={
        "brain": Origin(
            _REPOSITORY,
            Safetensors("brain"),
            adapters=(
                AdapterFile("ears_file", "someone/ears", "ears.safetensors", "the ears", adds=("ears",), pairs="base"),
            ),
        ),
        "words": umt5_origin(_REPOSITORY, "umt5.pth", tokenizer="tokens"),
    },
    **_UNUSED,
)
SIZES = Configs(BrainConfig(6), TEXT)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> dict[str, str]:
    """Its published files, by flag."""
    paths = write_random_checkpoint(OTHER, tmp_path_factory.mktemp("other"), SIZES, seed=1, lora_rank=2)
    return {flag: str(path) for flag, path in paths.items()}


def _options(output: Path, **more) -> ConvertOptions:
    return ConvertOptions(output=str(output), lora_rank=2, lora_alpha=3.0, **more)


def test_another_family_converts_and_comes_back(other, tmp_path, capfd):
    folder = Path(other["brain_dir"])
    assert folder.name == "brain-1b" and (folder / "tokens" / "tokenizer.json").is_file()
    kept = dict(dtype="keep", lora_merge=False)
    convert(OTHER, _options(tmp_path / "w", **kept), Sources(**other), SIZES)
    assert manifest.family(tmp_path / "w") == "other" == registry.family_of(tmp_path / "w")
    assert OTHER.configs_from_weights(tmp_path / "w") == SIZES
    assert (tmp_path / "w" / "words" / "tokenizer" / "tokenizer.json").is_file()

    base, ears = load_file(folder / "brain.safetensors"), load_file(other["ears_file"])
    assert base.keys() == {"base.weight", "base.bias"}
    found = tree.parameters(store.load_module(tmp_path / "w", OTHER.components["brain"], dtype="float32"))
    pair = [ears[f"base.lora_{name}.weight"].astype(np.float32) for name in "BA"]
    wanted = base["base.weight"] + 1.5 * pair[0] @ pair[1]
    np.testing.assert_allclose(found["base/kernel"].T, wanted, rtol=1e-6)
    np.testing.assert_array_equal(found["ears/kernel"].T, ears["ears.weight"].astype(np.float32))

    export(OTHER, _options(tmp_path / "w", export=str(tmp_path / "back")))
    written = sorted(path.relative_to(tmp_path / "back") for path in (tmp_path / "back").rglob("*.*"))
    assert [str(path) for path in written] == ["brain-1b/brain.safetensors", "ears.safetensors"]
    for path in written:
        assert (tmp_path / "back" / path).read_bytes() == (folder.parent / path).read_bytes()
    with pytest.raises(UserError, match="w: has nothing to export among words; convert a component that"):
        export(OTHER, _options(tmp_path / "w", export=str(tmp_path / "back"), components=("words",)))
    assert capfd.readouterr() == ("", "")


def test_its_flags_are_named(tmp_path, other):
    for sources, message in [
        (Sources(), "--brain_dir missing; give the folder of someone/brain-1b to convert brain"),
        (Sources(other["brain_dir"]), "--ears_file missing; give the ears (ears.safetensors) to convert brain"),
        (Sources("nowhere", "ears"), "--brain_dir nowhere: no such folder; give the folder of someone/brain-1b"),
    ]:
        with pytest.raises(UserError) as error:
            convert(OTHER, _options(tmp_path / "w"), sources, SIZES)
        assert str(error.value) == message and error.value.field in ("brain_dir", "ears_file")
    assert not (tmp_path / "w").exists()


def test_a_folder_holds_one_family(other, tmp_path, tiny_checkpoint):
    convert(OTHER, _options(tmp_path / "other", components=("words",)), Sources(**other), SIZES)
    sizes = TALKVERSE.configs_from_toml(CONFIGS / "model_tiny.toml")
    with pytest.raises(UserError, match="--output .*other: holds weights of other, not of talkverse; give another"):
        converted(tmp_path / "other", sizes, tiny_checkpoint)
    converted(tmp_path / "ours", sizes, tiny_checkpoint, components=("text",))
    with pytest.raises(UserError, match="--output .*ours: holds weights of talkverse, not of other"):
        convert(OTHER, _options(tmp_path / "ours"), Sources(**other), SIZES)
    with pytest.raises(UserError, match="--output .*ours: holds weights of talkverse, not of other"):
        export(OTHER, _options(tmp_path / "ours", export=str(tmp_path)))


@pytest.fixture
def old(tmp_path) -> Path:
    """What a program of before left: published files, and weights whose manifest names no family."""
    folder = Path(shutil.copytree(BEFORE, tmp_path / "before", ignore=shutil.ignore_patterns("batch", "train")))
    for entry in json.loads((folder / "weights" / "manifest.json").read_text())["components"].values():
        for source in entry["sources"]:
            [path] = (folder / "published").rglob(source["file"])
            os.utime(path, ns=(source["modified_ns"],) * 2)
    return folder


class _Lines(Reporter):
    def __init__(self):
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_weights_that_name_no_family_are_gone_on_with(old, tmp_path, other):
    """They are the first family's; nothing is converted again but what is asked for, and then they name it."""
    weights, sizes = old / "weights", TALKVERSE.configs_from_toml(old / "model.toml")
    assert manifest.family(weights) is None and registry.family_of(weights) == "talkverse"
    with pytest.raises(UserError, match="holds weights of talkverse, not of other"):
        convert(OTHER, _options(weights), Sources(**other), SIZES)

    sources = registry.settings_of("talkverse").Sources(
        **{flag: str(path) for flag, path in files_in(old / "published").items()}
    )
    options = ConvertOptions(output=str(weights), lora_rank=2, lora_alpha=2.0, lora_merge=False)
    before, lines = manifest.read(weights), _Lines()
    convert(TALKVERSE, options, sources, sizes, lines)
    assert lines.said == [f"{name}: already converted from these files" for name in TALKVERSE.needed]
    assert manifest.family(weights) is None and manifest.read(weights) == before

    convert(TALKVERSE, dataclasses.replace(options, components=("audio",), dtype="bfloat16"), sources, sizes)
    assert manifest.family(weights) == "talkverse"
    after = manifest.read(weights)
    assert after.pop("audio").dtype == "bfloat16" and before.pop("audio").dtype == "float32"
    assert after == before
    module = store.load_module(weights, TALKVERSE.components["audio"])
    assert {str(value.dtype) for value in tree.parameters(module).values()} == {"bfloat16"}
    assert TALKVERSE.configs_from_weights(weights) == sizes
