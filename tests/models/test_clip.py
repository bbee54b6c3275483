"""CLIP's visual tower against the original's numbers, its published file, and the resizing before it."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.models.clip import model
from talkverse_jax.models.clip.component import clip, clip_origin
from talkverse_jax.models.clip.config import ClipVisionConfig
from talkverse_jax.models.clip.flops import clip_flops
from talkverse_jax.models.clip.model import ClipVision
from talkverse_jax.models.clip.resize import resize
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.cases import BundleModels, clip_vision_case
from talkverse_jax.plan.hlo_cost import program_cost
from talkverse_jax.weights import store
from talkverse_jax.weights.match import load_torch
from talkverse_jax.weights.published import Repository
from talkverse_jax.weights.torch_reader import read_torch
from tests.conftest import GOLDENS
from tests.tiny import random_module

CLIP = clip()
ORIGIN = clip_origin(Repository("base_dir", "nobody/wan"))
SMALL = ClipVisionConfig(dim=16, num_heads=2, num_layers=3, image_size=28, patch_size=7, norm_eps=1e-5)


@dataclasses.dataclass(frozen=True)
class Sources:
    base_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class Configs:
    clip: ClipVisionConfig


MODELS = BundleModels({"clip": CLIP}, {"clip": ORIGIN}, Sources)


@pytest.fixture
def bundle(golden):
    return golden("multitalk/clip_vision")


def relative_error(ours, reference) -> float:
    assert ours.shape == reference.shape
    return float(np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max())


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, height, width, 3)).astype(np.float32)


def test_golden(bundle):
    case = clip_vision_case(MODELS, bundle, None)
    # The golden's own pixels are 3.9e-6 from those of a float64 computation, ours 1.9e-7.
    assert relative_error(case.taps["pixels"], bundle.group("taps")["pixels"]) < 1e-5
    assert relative_error(case.outputs["tokens"], bundle.group("outputs")["tokens"]) < 1e-5


def test_bfloat16(bundle):
    config = ClipVisionConfig.from_upstream(bundle.config, "clip")
    module = CLIP.abstract(config, jnp.bfloat16)
    tower = load_torch(module, CLIP.rules, bundle.weights(), "clip", CLIP.unused(config))
    tokens = tower(np.moveaxis(bundle.group("inputs")["image"][:, :, 0], 1, -1))
    assert tokens.dtype == jnp.float32
    assert 0 < relative_error(tokens, bundle.group("outputs")["tokens"]) < 0.02


def test_published_file():
    """Its 784 tensors are those of the tower, and those that it passes by."""
    listed = json.loads((GOLDENS / "multitalk/clip_xlm_roberta_vit_h14_tensors.json").read_text())
    config = ClipVisionConfig.vit_h14()
    used, besides = CLIP.torch_shapes(config), dict(ORIGIN.random.also(config))
    assert not used.keys() & besides.keys()
    assert used | besides == {name: tuple(shape) for name, shape in listed.items()}
    assert (len(used), len(besides)) == (377, 407)
    assert sum(math.prod(shape) for shape in (used | besides).values()) == 1_193_014_785
    assert (config.tokens, config.computed_layers) == (257, 31)


def test_conversion(tmp_path):
    """Of a file that holds the last block and the tower for text too, as the published one does."""
    family = dataclasses.replace(
        registry.find("second"), components={"clip": CLIP}, sources={"clip": ORIGIN}, configs_type=Configs
    )
    paths = write_random_checkpoint(family, tmp_path / "published", Configs(SMALL), seed=0)
    sources = Sources(str(paths["base_dir"]))
    convert(family, ConvertOptions(output=str(tmp_path / "w")), sources, Configs(SMALL))
    tower = store.load_module(tmp_path / "w", CLIP, dtype="float32")
    [file] = Path(paths["base_dir"]).iterdir()
    tensors = {name: np.asarray(value) for name, value in read_torch(file).items()}
    assert file.name == "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
    assert "textual.head.2.weight" in tensors and tensors["log_scale"].shape == ()
    assert tensors["visual.head"].shape == (SMALL.dim, SMALL.dim)  # or a toy's file would be mostly this
    assert ORIGIN.random.also(ClipVisionConfig.vit_h14())["visual.head"] == (1280, 1024)
    found = tree.parameters(tower)
    np.testing.assert_array_equal(
        found["blocks/1/attn/to_qkv/kernel"].T, tensors["visual.transformer.1.attn.to_qkv.weight"]
    )
    np.testing.assert_array_equal(found["embedding/positions"], tensors["visual.pos_embedding"][0])
    # only the last block may be left over: a file of a deeper tower is another model
    with pytest.raises(UserError, match=r"unknown to the model \(the files have it\): 12\n +visual.transformer.2.attn"):
        shallow = Configs(dataclasses.replace(SMALL, num_layers=2))
        convert(family, ConvertOptions(output=str(tmp_path / "other")), sources, shallow)


def test_another_activation_is_refused(bundle):
    with pytest.raises(UserError, match="activation is quick_gelu"):
        ClipVisionConfig.from_upstream({**bundle.config, "activation": "quick_gelu"}, "clip")


def test_one_block_is_compiled_for_all_layers_and_sizes():
    tower = random_module(ClipVision, dataclasses.replace(SMALL, num_layers=4))
    model._run.clear_cache()
    for size in ((20, 30), (30, 20)):
        tower(picture(*size))
    assert model._run._cache_size() == 2 + 1  # an embedding for each size


def test_inside_a_program_it_is_the_same():
    tower, seen = random_module(ClipVision, SMALL), picture(24, 40)
    assert relative_error(jax.jit(ClipVision.__call__)(tower, seen), np.asarray(tower(seen))) < 1e-5


def test_operations_as_compiled():
    tower, seen = tree.abstract(ClipVision, SMALL), jax.ShapeDtypeStruct((2, 24, 40, 3), jnp.float32)
    program = jax.jit(ClipVision.__call__).lower(tower, seen).compile().as_text()
    assert program_cost(program).flops == clip_flops(SMALL, 2, 24, 40)


def keys(distance: float) -> float:
    """The cubic convolution kernel as Keys has it, a = -0.75."""
    d, a = abs(distance), -0.75
    if d < 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


@pytest.mark.parametrize("height, width", [(448, 896), (1280, 320), (20, 33)])
def test_resizing_sums_sixteen_neighbours(height, width):
    """Some pixels, corners among them, one by one in float64."""
    seen = picture(height, width)
    ours = np.asarray(jax.jit(resize, static_argnums=(1, 2))(seen, 224, 224))
    assert ours.shape == (1, 224, 224, 3)
    for row, column in itertools.product((0, 1, 100, 222, 223), (0, 57, 223)):
        y, x = ((at + 0.5) * size / 224 - 0.5 for at, size in ((row, height), (column, width)))
        wanted = np.zeros(3)
        for i, j in itertools.product(
            range(math.floor(y) - 1, math.floor(y) + 3), range(math.floor(x) - 1, math.floor(x) + 3)
        ):
            pixel = seen[0, min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
            wanted += keys(y - i) * keys(x - j) * pixel.astype(float)
        np.testing.assert_allclose(ours[0, row, column], wanted, atol=2e-6)


def test_resizing_to_the_same_size_changes_nothing():
    seen = picture(28, 28)
    np.testing.assert_allclose(resize(seen, 28, 28), seen, atol=1e-7)
