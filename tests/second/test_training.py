"""The second family is trained, goes on, is exported, prepared, planned and compared by the same commands."""

import json

import jax
import numpy as np
import pytest

from talkverse_jax.core.config import to_dict
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.parity.compare import run_bundle
from talkverse_jax.pipeline import registry
from talkverse_jax.plan import plan as plan_tool
from talkverse_jax.plan.options import PlanOptions
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.training.checkpoint import Checkpoints
from talkverse_jax.weights.bundle import Bundle, write_bundle
from talkverse_jax.weights.rule import torch_tensor
from talkverse_jax.weights.safetensors_io import read_file
from tests.second import places
from tests.second.places import run
from tests.tiny import random_module, random_values

ALONE = "cross_attn/o"  # what LoRA leaves alone


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> places.Place:
    return places.make(tmp_path_factory.mktemp("second"))


def flags(place, output, **changes):
    values = dict(
        weights=place.weights, output_path=output, dataset_metadata_path=place.data, dataset_base_path=place.data.parent
    )
    values |= dict(size_bucket="second-32", num_frames=8, num_workers=0, dtype="float32", remat="none", batch_size=2)
    values |= dict(unfreeze_strategy="lora", lora_rank=4, lora_alpha=4, learning_rate=1e-3, warmup_steps=0)
    return values | dict(max_steps=2, log_interval=1, save_steps=1, use_tensorboard="false") | changes


def saved(output, step):
    checkpoints = Checkpoints(output / "checkpoints", read_only=True)
    return {name: np.asarray(x) for name, x in checkpoints.read_state(step, checkpoints.arrays(step)).items()}


def losses(output):
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    run("train", **flags(place, output))
    return output


def test_two_steps_move_what_is_trained_and_leave_one_weight_alone(place, trained):
    arrays = saved(trained, 2)
    params = {name: value for name, value in arrays.items() if name.startswith("params/")}
    assert any("self_attn/q/adapter/b" in name and np.abs(value).max() > 0 for name, value in params.items())
    assert any("/sound/" in f"/{name}" for name in params)
    assert not any(ALONE in name for name in params)
    assert len(losses(trained)) == 2 and np.isfinite(losses(trained)).all()


def test_a_run_goes_on_to_the_same_numbers(place, trained, tmp_path):
    run("train", **flags(place, tmp_path, max_steps=1))
    run("train", **flags(place, tmp_path))
    straight, resumed = saved(trained, 2), saved(tmp_path, 2)
    assert straight.keys() == resumed.keys()
    for name, value in straight.items():
        np.testing.assert_array_equal(resumed[name], value, name)


def test_what_was_learnt_is_exported_and_sampled_with(place, trained, tmp_path):
    run("train", **flags(place, trained, export=tmp_path / "learnt.safetensors"))
    tensors = read_file(tmp_path / "learnt.safetensors").tensors
    assert "blocks.0.self_attn.q.lora_A.weight" in tensors and "sound_proj.weight" in tensors
    assert not any("cross_attn.o" in name for name in tensors)
    of_job = dict(portrait=places.FACE, sounds=place.sounds, base_seed=1, output=tmp_path / "talk.mp4")
    run("sample", weights=place.weights, **of_job, lora_ckpt=tmp_path / "learnt.safetensors", steps=1, dtype="float32")
    assert (tmp_path / "talk.mp4").exists()


@pytest.mark.slow
def test_samples_are_prepared_and_trained_on(place, trained, tmp_path):
    every = flags(place, tmp_path / "run")
    kept = ("weights", "dataset_metadata_path", "dataset_base_path", "size_bucket", "num_frames", "num_workers")
    run("prepare", **{name: every[name] for name in kept}, dtype="float32", output=tmp_path / "shards")
    own = {name: value for name, value in every.items() if not name.startswith("dataset")}
    run("train", **own | {"max_steps": 1}, shards=tmp_path / "shards")
    assert losses(tmp_path / "run")[0] == pytest.approx(losses(trained)[0], rel=1e-5)


@pytest.mark.slow
def test_the_plan_of_training(place, tmp_path):
    text = 'num_frames = 8\nsize_bucket = "second-32"\nbatch_size = 2\nunfreeze_strategy = "lora"\nlora_rank = 4\n'
    (tmp_path / "train.toml").write_text(text)
    options = PlanOptions(
        "cpu", train=str(tmp_path / "train.toml"), mesh="fsdp=2,context=-1", weights=str(place.weights)
    )
    [plan] = plan_tool.run(options, Reporter())
    assert [p.name for p in plan.programs] == ["gradients", "update"] and plan.faults == []


def dump(path, factor=1.0):
    """A bundle of the network, by our own code."""
    family = registry.find("second")
    component, config = family.components["net"], family.real_size().net
    net = random_module(component.model_type, config)
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    inputs = dict(text=draw(1, 16, 32), sounds=draw(1, 4, 2, 16), look=draw(1, 3, 24))
    inputs |= dict(known=draw(1, 4, 4, 4, 4), latents=draw(1, 4, 4, 4, 4), timestep=np.array([500.0], np.float32))
    last = {name: np.moveaxis(inputs[name], 1, -1) for name in ("known", "latents")}

    @jax.jit
    def call(net, text, sounds, look, known, latents, timestep):
        return net.velocity(latents, timestep, net.prepare(text, sounds, look, known))

    velocity = np.moveaxis(np.asarray(call(net, **(inputs | last))), -1, 1)
    changed = velocity.copy()
    changed.flat[np.abs(velocity).argmax()] *= factor
    weights = dict(torch_tensor(component.rules, at, np.asarray(x)) for at, x in random_values(net).items())
    meta = {"family": "second", "component": "net", "config": to_dict(config)}
    write_bundle(path, meta, {"inputs": inputs, "outputs": {"velocity": changed}, "weights": weights})


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_bundle_is_compared(tmp_path, factor):
    dump(tmp_path / "net.safetensors", factor)
    [found] = run_bundle(Bundle(tmp_path / "net.safetensors"), taps=True)
    assert found.passed == (factor == 1)
    with pytest.raises(SystemExit) as stop:
        run("parity", tmp_path / "net.safetensors")
    assert stop.value.code == (factor != 1)


@pytest.mark.parametrize("mesh", [pytest.param(None, marks=pytest.mark.slow), "data=2,fsdp=2,context=2"])
def test_goldens_of_shared_models_under_this_family_s_names(golden, mesh):
    case, bundle = registry.find("second").parity_cases["umt5_encoder"], golden("umt5")
    outputs = case(bundle, mesh and MeshConfig.parse(mesh)).outputs
    np.testing.assert_allclose(outputs["hidden"], bundle.group("outputs")["hidden"], atol=2e-3)
