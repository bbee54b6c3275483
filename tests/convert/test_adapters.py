"""A base model in shards and one of two adapters upon it, given in all the ways that people have them."""

import dataclasses
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.export import export
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.pipeline import registry
from talkverse_jax.weights import orbax_io, store
from talkverse_jax.weights.asked import NOTHING, Asked
from talkverse_jax.weights.published import AdapterFile, Origin, Repository
from talkverse_jax.weights.published_files import Safetensors
from talkverse_jax.weights.torch_writer import write_torch
from tests.convert.test_families import OTHER, SIZES

BF16 = np.dtype(ml_dtypes.bfloat16)
BRAIN = OTHER.components["brain"]
SHAPES = BRAIN.torch_shapes(SIZES.brain)
STEM = "brain"


@dataclasses.dataclass(frozen=True)
class Sources:
    brain_dir: str | None = None
    brain_file: str | None = None
    ears_dir: str | None = None
    sharp_dir: str | None = None
    lora_ckpt: tuple[str, ...] = ()


EARS = AdapterFile("ears_dir", "someone/ears", "ears.safetensors", "the ears", adds=(r"ears\.",))
SHARP = dataclasses.replace(
    EARS, flag="sharp_dir", file="sharp.safetensors", title="sharp ears", variants=("one", "many")
)
ORIGIN = Origin(
    Repository("brain_dir", "someone/brain-1b"),
    Safetensors(STEM, shards=2, passed_over=("ears.safetensors",)),
    adapters=(EARS, SHARP),
    lora_flag="lora_ckpt",
    file_flag="brain_file",
)
FAMILY = dataclasses.replace(
    OTHER,
    components={"brain": BRAIN},
    sources={"brain": ORIGIN},
    configs_for=lambda configs, sources: dataclasses.replace(configs, words=None) if sources.sharp_dir else configs,
)


def _tensors(begin: str, seed: int) -> dict[str, np.ndarray]:
    """Of each kernel float32, of each bias bfloat16."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(shape).astype(np.float32 if len(shape) > 1 else BF16)
        for name, shape in SHAPES.items()
        if name.startswith(begin)
    }


BASE, TRAINED, TRAINED_SHARP = _tensors("base.", 1), _tensors("ears.", 2), _tensors("ears.", 3)


@pytest.fixture
def files(tmp_path) -> Path:
    """`brain/` with two shards and the adapter's index, `ears/`, and `sharp/` with both variants."""
    for folder in ("brain", "ears", "sharp/one", "sharp/many"):
        (tmp_path / folder).mkdir(parents=True)
    index = {name: "ears.safetensors" for name in TRAINED}
    for number, (name, value) in enumerate(BASE.items(), 1):
        index[name] = f"{STEM}-{number:05d}-of-00002.safetensors"
        save_file({name: value}, tmp_path / "brain" / index[name], {"format": "pt"})
    (tmp_path / "brain" / f"{STEM}.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    save_file(TRAINED, tmp_path / "ears" / "ears.safetensors")
    save_file(TRAINED_SHARP, tmp_path / "sharp" / "one" / "sharp.safetensors")
    save_file(TRAINED_SHARP, tmp_path / "sharp" / "many" / "sharp.safetensors")
    return tmp_path


def _open(asked: Asked = NOTHING, **flags) -> dict[str, np.ndarray]:
    found = ORIGIN.open(BRAIN, SIZES.brain, Sources(**flags), asked).tensors
    return {name: np.asarray(value) for name, value in found.items()}


def _check(found: dict[str, np.ndarray], *parts: dict[str, np.ndarray]) -> None:
    wanted = {name: value for part in parts for name, value in part.items()}
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.dtype == wanted[name].dtype
        np.testing.assert_array_equal(value, wanted[name])


def test_an_adapter_by_its_folder_by_its_file_and_beside_the_base(files):
    brain = str(files / "brain")
    _check(_open(brain_dir=brain, ears_dir=str(files / "ears")), BASE, TRAINED)
    _check(_open(brain_dir=brain, ears_dir=str(files / "ears" / "ears.safetensors")), BASE, TRAINED)
    _check(_open(brain_dir=brain, sharp_dir=str(files / "sharp" / "one")), BASE, TRAINED_SHARP)
    (files / "ears" / "ears.safetensors").rename(files / "brain" / "ears.safetensors")
    _check(_open(brain_dir=brain), BASE, TRAINED)
    _check(_open(brain_dir=brain, sharp_dir=str(files / "sharp" / "one")), BASE, TRAINED_SHARP)


def test_a_base_tensor_in_the_adapter_takes_the_base_s_place(files):
    bias = {"base.bias": np.full(SHAPES["base.bias"], 7, np.float32)}
    save_file(TRAINED | bias, files / "both.safetensors")
    _check(_open(brain_dir=str(files / "brain"), ears_dir=str(files / "both.safetensors")), BASE, TRAINED, bias)


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ("brain_dir",),
            "--ears_dir missing; give the ears (ears.safetensors), or sharp ears as --sharp_dir, to convert brain",
        ),
        (("brain_dir", "ears_dir", "sharp_dir/one"), "ears.safetensors: takes the place of --sharp_dir; give one"),
        (("brain_dir", "sharp_dir"), "one/sharp.safetensors and {}/sharp/many/sharp.safetensors; give one of them"),
        (("brain_dir", "ears_dir=brain"), "--ears_dir {}/brain: has no ears.safetensors; give the ears, or the fol"),
        (("ears_dir",), "--brain_dir missing; give the folder of someone/brain-1b to convert brain, or a file as --b"),
    ],
)
def test_what_is_missing_or_given_twice(files, flags, message):
    given = {}
    for each in flags:
        flag, _, place = each.replace("=", "/").partition("/")
        name = flag.removesuffix("_dir")
        given[flag] = str(files / place if "=" in each else files / name / place)
    with pytest.raises(UserError) as error:
        _open(**given)
    assert message.format(files) in str(error.value)


def test_one_file_with_all_of_it(files):
    """As people merge them: bare tensors in safetensors, or under `state_dict` in a pickle."""
    whole = BASE | TRAINED
    save_file(whole, files / "whole.safetensors")
    shapes = {f"{name}": (value.dtype, value.shape) for name, value in whole.items()}
    write_torch(files / "whole.pth", shapes, whole.values())
    for file in ("whole.safetensors", "whole.pth"):
        _check(_open(brain_file=str(files / file)), whole)
        _check(_open(ears_dir=str(files / file)), whole)
    _check(_open(brain_file=str(files / "whole.pth"), sharp_dir=str(files / "sharp/one")), BASE, TRAINED_SHARP)


def test_strengths_are_of_the_lora_files_alone(files):
    pair = {"base.lora_down.weight": np.ones((2, 6), np.float32), "base.lora_up.weight": np.ones((6, 2), np.float32)}
    save_file({f"diffusion_model.{name}": value for name, value in pair.items()}, files / "l.safetensors")
    sources = Sources(
        brain_dir=str(files / "brain"), ears_dir=str(files / "ears"), lora_ckpt=(str(files / "l.safetensors"),)
    )
    published = ORIGIN.open(BRAIN, SIZES.brain, sources, Asked((0.5,)))
    assert [file.file.strength for file in published.trained] == [1, 0.5]
    assert [file.notice for file in published.trained] == [
        "ears.safetensors: 2 tensors that the base model lacks",
        "l.safetensors: strength 0.5: 1 LoRA pairs of rank 2, which count 0.5 times (no alpha in the file)",
    ]
    with pytest.raises(UserError, match="--lora_strength 1 2: 1 files are given; give one number for each"):
        ORIGIN.open(BRAIN, SIZES.brain, sources, Asked((1, 2)))


def test_base_and_adapter_come_back_bit_for_bit(files, monkeypatch):
    monkeypatch.setitem(registry._PACKAGES, "other", "nowhere")
    options = ConvertOptions(
        output=str(files / "w"), export=str(files / "back"), dtype="keep", lora_merge=False, components=("brain",)
    )
    sources = Sources(brain_dir=str(files / "brain"), ears_dir=str(files / "ears"))
    convert(FAMILY, options, sources, SIZES)
    assert store.read_manifest(files / "w")["brain"]["lora"] is None  # nothing was added to a kernel
    export(FAMILY, options)
    for file in (*(files / "brain").iterdir(), files / "ears" / "ears.safetensors"):
        inside = "brain-1b" if file.parent.name == "brain" else ""
        assert (files / "back" / inside / file.name).read_bytes() == file.read_bytes()
    kept = {leaf.dtype for leaf in orbax_io.shapes(files / "w" / "brain" / store.PARAMETERS).values()}
    assert kept == {np.dtype(np.float32), BF16}


def test_which_files_they_are_decides_sizes(files):
    """A recipe of a model's config, of which its tensors say nothing."""
    seen = []
    family = dataclasses.replace(FAMILY, configs_for=lambda configs, sources: seen.append(sources) or configs)
    sources = Sources(brain_dir=str(files / "brain"), sharp_dir=str(files / "sharp" / "many"))
    convert(family, ConvertOptions(output=str(files / "w"), components=("brain",)), sources, SIZES, Reporter())
    assert seen == [sources]
    found = load_file(files / "sharp" / "many" / "sharp.safetensors")
    parameters = tree.parameters(store.load_module(files / "w", BRAIN))
    np.testing.assert_array_equal(parameters["ears/kernel"], found["ears.weight"].T)
