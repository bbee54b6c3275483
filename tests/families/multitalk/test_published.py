"""MultiTalk's published files: which tensors lie where, and which recipe they are for."""

import dataclasses
import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.multitalk.published import DIT_STEM, MULTITALK, SOURCES, configs_for
from talkverse_jax.families.multitalk.settings import Sources
from talkverse_jax.models.wan.diffusers_names import to_diffusers
from tests.families.multitalk.small import SMALL

DIT, ORIGIN = COMPONENTS["dit"], SOURCES["dit"]


@dataclasses.dataclass(frozen=True)
class Configs:
    dit: MultiTalkConfig


@pytest.fixture(scope="module")
def tensors() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The base model's, and the adapter's with its norms in bfloat16."""
    rng, base, adapter = np.random.default_rng(0), {}, {}
    for name, shape in DIT.torch_shapes(SMALL).items():
        new = MULTITALK.is_new(name)
        dtype = np.dtype(ml_dtypes.bfloat16 if ".norm_x." in name else np.float32)
        (adapter if new else base)[name] = rng.standard_normal(shape).astype(dtype)
    return base, adapter


def _check(flags: dict[str, Any], wanted: dict[str, np.ndarray]) -> None:
    found = ORIGIN.open(DIT, SMALL, Sources(**flags)).tensors
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.dtype == wanted[name].dtype
        np.testing.assert_array_equal(np.asarray(value), wanted[name], err_msg=name)


def test_1303_tensors_of_the_base_and_330_of_the_adapter():
    shapes = DIT.torch_shapes(MultiTalkConfig.multitalk_14b())
    new = [name for name in shapes if MULTITALK.is_new(name)]
    assert (len(shapes), len(new)) == (1633, 330)


def test_seven_shards_with_the_adapter_s_index(tensors, tmp_path):
    base, adapter = tensors
    folder, names, index = tmp_path / "wan", list(base), dict.fromkeys(adapter, MULTITALK.file)
    folder.mkdir()
    for number in range(7):
        part = {name: base[name] for name in names[number::7]}
        index |= dict.fromkeys(part, f"{DIT_STEM}-{number + 1:05d}-of-00007.safetensors")
        save_file(part, folder / f"{DIT_STEM}-{number + 1:05d}-of-00007.safetensors")
    (folder / f"{DIT_STEM}.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    save_file(adapter, tmp_path / MULTITALK.file)
    _check(dict(ckpt_dir=str(folder), multitalk_dir=str(tmp_path)), base | adapter)
    (tmp_path / MULTITALK.file).rename(folder / MULTITALK.file)
    _check(dict(ckpt_dir=str(folder)), base | adapter)
    save_file(adapter, tmp_path / "infinitetalk.safetensors")
    _check(dict(ckpt_dir=str(folder), infinitetalk_dir=str(tmp_path)), base | adapter)
    both = Sources(ckpt_dir=str(folder), multitalk_dir=str(folder), infinitetalk_dir=str(tmp_path))
    with pytest.raises(UserError, match="takes the place of --infinitetalk_dir; give one of them"):
        ORIGIN.open(DIT, SMALL, both)


def test_a_repository_of_diffusers(tensors, tmp_path):
    base, adapter = tensors
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    renamed = {to_diffusers(name): value for name, value in base.items()}
    assert "condition_embedder.image_embedder.ff.net.0.proj.weight" in renamed
    save_file(renamed, tmp_path / "transformer" / f"{DIT_STEM}.safetensors")
    save_file(adapter, tmp_path / MULTITALK.file)
    _check(dict(ckpt_dir=str(tmp_path), multitalk_dir=str(tmp_path)), base | adapter)


def test_a_file_of_the_whole(tensors, tmp_path):
    whole = tensors[0] | tensors[1]
    save_file(whole, tmp_path / "whole.safetensors")
    for flag in ("quant_file", "dit_file", "infinitetalk_dir"):
        _check({flag: str(tmp_path / "whole.safetensors")}, whole)


def test_infinitetalk_s_file_asks_for_its_recipe():
    configs = Configs(SMALL)
    assert configs_for(configs, Sources(multitalk_dir="a")).dit.recipe == "multitalk"
    made = configs_for(configs, Sources(infinitetalk_dir="a"))
    assert made.dit == dataclasses.replace(SMALL, recipe="infinitetalk")
