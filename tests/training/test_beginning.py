"""Runs that begin with trained files, and what they export: complete, and read back at the right strength."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.training import TRAINING
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.training import lora
from talkverse_jax.training.beginning import begin
from talkverse_jax.training.checkpoint import Checkpoints, RunRecord
from talkverse_jax.training.export import Exporter
from talkverse_jax.training.network import NetworkSettings, load_network
from talkverse_jax.training.strategy import Strategy
from talkverse_jax.weights import store
from talkverse_jax.weights.asked import Asked, TrainedFile
from talkverse_jax.weights.safetensors_io import read_file
from tests.training.test_network import TINY
from tests.weights.dialects import normal, write

DIT = COMPONENTS["dit"]
SIZES = DIT.torch_shapes(TINY)
ADAPTED = ("blocks.0.self_attn.q", "blocks.1.cross_attn.o", "blocks.3.ffn.0")


def settings(name: str, **more) -> NetworkSettings:
    return NetworkSettings(Strategy.of(name, TRAINING.trainable, TINY), dtype="float32", **more)


def file(path, rank=4, layers=ADAPTED, alpha=None, header=None, **more):
    """A file of ComfyUI's dialect; `more` are further tensors by their names in it."""
    tensors = {f"diffusion_model.{name.replace('__', '.')}": value for name, value in more.items()}
    for layer in layers:
        out, inputs = SIZES[f"{layer}.weight"]
        name = f"{path.stem}{layer}"
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = normal(name, rank, inputs)
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = normal(name, out, rank)
        if alpha:
            tensors[f"diffusion_model.{layer}.alpha"] = np.float32([alpha])
    return write(path, tensors, header)


def trained(weights, files, how, learn=0.0):
    """A run that begins so, a little further: what it began with, its network in whole kernels, and its parameters."""
    start = begin(str(weights), DIT, how, files)
    how = dataclasses.replace(how, rank=start.rank, alpha=start.alpha)
    network, params = load_network(str(weights), DIT, how, Layout(), start)
    params = {key: x + learn * normal(key, *x.shape) for key, x in params.items()}
    values = {path: np.asarray(x) for path, x in tree.parameters(network.model(params)).items()}
    for kernel, (a, b) in lora.pairs(values).items():
        values[kernel] = values[kernel] + how.alpha / how.rank * values[a] @ values[b]
    return start, how, {path: x for path, x in values.items() if "/adapter/" not in path}, params


def exported(folder, weights, start, how, params):
    """The file that such a run exports."""
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save({"params": {key: jnp.asarray(x) for key, x in params.items()}}, RunRecord(1, 0, {}, (), {}, {}))
    checkpoints.wait()
    path = folder / "out.safetensors"
    Exporter(str(weights), DIT, how, start, "float32").checkpoint(checkpoints, 1, path)
    return path


def header_of(path) -> dict[str, str]:
    return json.loads(read_file(path).header)["__metadata__"]


def read_back(weights, path) -> tree.Flat:
    """The weights with the exported file alone laid over, as `sample --lora_ckpt` has them."""
    store.check_trained(weights, DIT, [TrainedFile(path)])
    return tree.parameters(store.load_module(weights, DIT, dtype="float32", trained=[TrainedFile(path)]))


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("rank, alpha", [(8, 4.0), (32, 32.0)])
def test_our_export_comes_back_at_its_own_strength(tiny_weights, tmp_path, rank, alpha):
    how = settings("lora", rank=rank, alpha=alpha)
    start, how, network, params = trained(tiny_weights, (), how, learn=0.3)
    path = exported(tmp_path, tiny_weights, start, how, params)
    assert (header_of(path)["lora_rank"], header_of(path)["lora_alpha"]) == (str(rank), f"{alpha:g}")
    assert header_of(path)["needs"].startswith("weights ") and "lora_pairs" not in header_of(path)
    same(read_back(tiny_weights, path), network)


def test_one_file_becomes_the_adapters(tiny_weights, tmp_path):
    path = file(
        tmp_path / "a.safetensors", rank=4, alpha=2.0, head__head__diff_b=normal("bias", *SIZES["head.head.bias"])
    )
    start, how, network, params = trained(tiny_weights, [TrainedFile(path)], settings("lora"))
    assert (start.rank, start.alpha, len(start.adapters)) == (4, 2.0, 3)
    assert start.notices[-1] == f"{path}: the adapters go on from its pairs"
    same(read_back(tiny_weights, path), network)
    np.testing.assert_array_equal(
        np.asarray(start.adapters["blocks/0/self_attn/q/kernel"].a), normal(f"a{ADAPTED[0]}", 4, 96)
    )
    start, how, network, params = trained(tiny_weights, [TrainedFile(path)], settings("lora"), learn=0.3)
    same(read_back(tiny_weights, exported(tmp_path, tiny_weights, start, how, params)), network)


@pytest.mark.parametrize("name", ["lora", "minimal"])
def test_other_files_are_added_to_the_weights_and_are_in_the_export(tiny_weights, tmp_path, name):
    first = file(tmp_path / "a.safetensors", rank=4, alpha=2.0, layers=(*ADAPTED, "blocks.2.self_attn.v"))
    more = {
        f"{of.replace('.', '__')}": normal(of, *SIZES[tensor])
        for of, tensor in (
            ("blocks.1.norm3.diff", "blocks.1.norm3.weight"),
            ("blocks.0.self_attn.q.diff", "blocks.0.self_attn.q.weight"),
            ("blocks.2.diff_m", "blocks.2.modulation"),
        )
    }
    second = file(tmp_path / "b.safetensors", rank=3, layers=ADAPTED[:1], **more)
    files = Asked((1.0, 0.8)).files((first, second))
    start, how, network, params = trained(tiny_weights, files, settings(name, rank=8, alpha=4.0), learn=0.3)
    assert not start.adapters and len(start.over) == 2
    assert any("added to the weights" in line for line in start.notices) == (name == "lora")
    path = exported(tmp_path, tiny_weights, start, how, params)
    assert header_of(path)["needs"].startswith("weights ")
    same(read_back(tiny_weights, path), network)
    if name == "lora":
        assert len(read_file(path).tensors["blocks.0.self_attn.q.lora_A.weight"]) == 8 + 4 + 3


def test_files_over_pairs_that_are_apart(tiny_pairs_apart, tmp_path):
    """Adapters go on from the weights' own pairs; the file holds all and needs the base model alone."""
    path = file(tmp_path / "a.safetensors", alpha=2.0)
    start, how, network, params = trained(tiny_pairs_apart, [TrainedFile(path)], settings("lora"), learn=0.3)
    assert (start.rank, start.alpha, len(start.adapters)) == (128, 64.0, 4 * 8)
    out = exported(tmp_path, tiny_pairs_apart, start, how, params)
    assert (header_of(out)["needs"], header_of(out)["lora_pairs"]) == ("the base model", "all")
    same(read_back(tiny_pairs_apart, out), network)
    start, _, again, _ = trained(tiny_pairs_apart, [TrainedFile(file(tmp_path / "b.safetensors"))], settings("full"))
    assert len(start.stored) == 4 * 8
    wanted = store.load_module(
        tiny_pairs_apart, DIT, dtype="float32", trained=[TrainedFile(tmp_path / "b.safetensors")]
    )
    same(again, tree.parameters(wanted))


def test_a_file_with_all_pairs_is_for_weights_with_pairs_apart(tiny_weights, tiny_pairs_apart, tmp_path):
    path = file(tmp_path / "a.safetensors", header={"lora_pairs": "all"})
    with pytest.raises(
        UserError, match=r"a.safetensors: holds all pairs of the model, and .* has its own added already"
    ):
        store.check_trained(tiny_weights, DIT, [TrainedFile(path)])
    with pytest.raises(
        UserError, match=r"^--lora_strength 0.5: .*a.safetensors holds all pairs of the model, also those"
    ):
        store.check_trained(tiny_pairs_apart, DIT, [TrainedFile(path, 0.5)])
    start = begin(str(tiny_pairs_apart), DIT, settings("lora"), [TrainedFile(path)])
    assert (start.rank, start.alpha, len(start.adapters), start.stored) == (4, 4.0, 3, {})


def test_a_flag_against_the_pairs_shows_both_numbers(tiny_weights, tmp_path):
    files = [TrainedFile(file(tmp_path / "a.safetensors", rank=4, alpha=2.0))]
    with pytest.raises(UserError, match=r"a.safetensors: its LoRA pairs have rank 4 and alpha 2; pass --lora_rank 4"):
        begin(str(tiny_weights), DIT, settings("lora"), files, rank=16)
    with pytest.raises(UserError, match=r"^--init all: is no place for --lora_ckpt; leave one out$"):
        begin(str(tiny_weights), DIT, settings("lora", beginning="all"), files)
