"""The plan: what it compiles, counts, estimates and says."""

import dataclasses
import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import ModelConfigs
from talkverse_jax.plan import plan as tool
from talkverse_jax.plan.compile import compile_program
from talkverse_jax.plan.hlo_cost import Cost
from talkverse_jax.plan.report import report
from talkverse_jax.plan.sampling import Job, Program, Work, weight_bytes
from talkverse_jax.plan.training import make_training_job, training_programs
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import TOPOLOGIES, find
from tests.conftest import CONFIGS

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Error reading persistent compilation cache")
DEMO, TINY = CONFIGS / "demo.toml", CONFIGS / "model_tiny.toml"


def _run(monkeypatch, *args) -> int:
    monkeypatch.setattr(sys, "argv", ["plan", *map(str, args)])
    with pytest.raises(SystemExit) as stopped:
        tool.main()
    return stopped.value.code


@pytest.fixture
def one_block(tmp_path):
    """The tiny model with one of its blocks, as a `--model` file."""
    text = TINY.read_text().replace("num_layers = 4", "num_layers = 1").replace("[0, 1, 3]", "[0]")
    path = tmp_path / "model.toml"
    path.write_text(text)
    return path


def _plan(model, mesh: str, wanted: tuple[str, ...]):
    """On this machine's CPUs, with guidance."""
    options = dataclasses.replace(tool.load_options(str(DEMO)), sample_steps=8, sample_guide_scale=4.5)
    configs = ModelConfigs.from_toml(model)
    return tool.plan(find("cpu"), MeshConfig.parse(mesh), configs, options, tool.make_job(options, None), wanted)


def test_every_topology_has_a_preset_that_fits_it():
    for topology in TOPOLOGIES.values():
        sizes = tool.preset(topology).sizes(topology.devices, heads=24)
        assert sizes.data == (2 if topology.devices > 1 else 1), topology.name


@pytest.mark.parametrize("mesh", ["data=1,context=1,fsdp=-1", "data=2,context=-1"])
def test_a_plan_of_this_machine(one_block, mesh):
    """All 8 virtual CPUs: real compiling, without libtpu."""
    made = _plan(one_block, mesh, ("step", "prepare"))
    step, _ = made.programs
    assert made.devices == step.devices == 8
    assert (step.name, step.times, step.when) == ("step", 8, "clip")
    assert made.faults == [] and 0 <= step.waste < 0.5
    assert step.cost.received and step.fits and step.bound is None
    assert "step" in report(made) and made.sentence().startswith("takes 0.0 GB")


def test_weights_are_counted_where_they_lie(one_block):
    whole, split = (_plan(one_block, mesh, ("step",)).programs[0].weights for mesh in ("context=8", "fsdp=8"))
    assert whole / 8 < split < whole / 4  # vectors stay whole


@needs_libtpu
def test_a_plan_of_a_tpu(monkeypatch, one_block, tmp_path, capsys):
    written = tmp_path / "plan.json"
    arguments = ["--topology", "v6e-8", "--config", DEMO, "--model", one_block, "--programs", "step"]
    assert _run(monkeypatch, *arguments, "--json", written) == 0
    shown = capsys.readouterr().out
    assert "8 devices: data=2 ring=2 ulysses=2" in shown
    assert "fits: 0.0 of 33.5 GB (step)" in shown
    assert all(len(line) <= 116 for line in shown.splitlines())
    (made,) = json.loads(written.read_text())["plans"]
    (step,) = made["programs"]
    assert made["fits"] and step["fits"] and not step["estimated"]
    assert step["waste"] >= 0 and step["cost"]["received"] and len(step["sha256"]) == 64
    assert _run(monkeypatch, *arguments, "--json", written) == 0
    assert json.loads(written.read_text())["plans"][0]["programs"][0]["sha256"] == step["sha256"]


TRAINING = """
unfreeze_strategy = "lora"
size_bucket = "tiny-128"
num_frames = 8
batch_size = 8
gradient_accumulation_steps = 2
"""


@pytest.mark.slow
def test_a_plan_of_training(monkeypatch, one_block, tmp_path, capsys):
    """Both programs of an update, on all 8 virtual CPUs."""
    config, written = tmp_path / "train.toml", tmp_path / "plan.json"
    config.write_text(TRAINING)
    arguments = ["--train", config, "--model", one_block, "--topology", "cpu", "--json", written]
    assert _run(monkeypatch, *arguments) == 0
    assert "128x128, 81 frames, lora, batch 8 x 2, remat full" in capsys.readouterr().out
    (made,) = json.loads(written.read_text())["plans"]
    gradients, update = made["programs"]
    assert (gradients["name"], gradients["times"]) == ("gradients", 2)
    assert (update["name"], update["times"]) == ("update", 1)
    assert made["fits"] and not made["faults"] and gradients["waste"] > 0 and gradients["cost"]["received"]


def test_training_keeps_a_share_of_everything_on_each_device(one_block, tmp_path):
    (tmp_path / "train.toml").write_text(TRAINING)
    options, configs = tool.load_train_options(str(tmp_path / "train.toml")), ModelConfigs.from_toml(one_block)
    job, kept = make_training_job(configs, options, 128, 128), {}
    for axes in ("data=8", "fsdp=8"):
        mesh = make_mesh(MeshConfig.parse(axes), jax.devices(), configs.dit.trunk.num_heads)
        gradients, _ = training_programs(configs, options, job, mesh)
        kept[axes] = gradients.weights + gradients.beside["Adam"]
    assert kept["fsdp=8"] < kept["data=8"] / 4  # vectors stay whole


def _program(function, *args, flops: float, beside: int = 0) -> Program:
    work = Work("step", flops, 1, "clip", "dit")
    return Program(work, jax.jit(function), args, {}, weight_bytes(args[0]), {"vae": beside} if beside else {})


def _float(*shape, device=None):
    sharding = device and jax.sharding.SingleDeviceSharding(device)
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)


@needs_libtpu
def test_what_does_not_fit_is_said_by_the_compiler():
    topology = find("v6e-1")
    (device,) = topologies.devices(topology)

    def scores(_, x, y):
        return jnp.sort(x @ y, axis=-1)[:, :8]

    n = 100_000
    x, y = _float(n, 128, device=device), _float(128, n, device=device)
    program = _program(scores, (), x, y, flops=2 * 128 * n**2)
    planned = compile_program(program, topology, 1)
    assert not planned.fits and planned.waste == 0
    assert "exceeds available HBM (31.24G)" in planned.complaint
    assert planned.total > planned.limit
    assert planned.buffers[0].shape == f"f32[{n},{n}]" and planned.buffers[0].nbytes >= 4 * n**2


def test_models_beside_count():
    """A program that fits alone does not where others leave too little."""
    topology = dataclasses.replace(find("cpu"), generation=dataclasses.replace(topologies.CPU, hbm=10**6))
    program = _program(lambda _, x: x @ x, (), _float(64, 64), flops=2 * 64**3)
    assert compile_program(program, topology, 1).fits
    full = compile_program(dataclasses.replace(program, beside={"vae": 10**6}), topology, 1)
    assert not full.fits and full.complaint is None and full.buffers
    shown = report(tool.Plan(topology, 1, MeshConfig().sizes(1, 1), Job(64, 64, 4, 1, False), "float32", (full,)))
    assert "step does not fit" in shown and "vae 0.00 GB" in shown and "NO" in shown


def test_a_count_below_the_models_own_is_a_fault():
    planned = compile_program(_program(lambda _, x: x @ x, (), _float(64, 64), flops=3 * 64**3), find("cpu"), 1)
    (fault,) = planned.faults
    made = tool.Plan(find("cpu"), 1, MeshConfig().sizes(1, 1), Job(64, 64, 4, 1, False), "float32", (planned,))
    assert made.sentence() == f"no verdict: {fault}"
    assert made.as_json()["fits"] is False and made.as_json()["faults"] == [fault]
    assert "33.33% of the model's FLOPs were not found" in fault
    unknown = dataclasses.replace(planned, cost=Cost(1e12, unknown=("kernel x",)))
    assert unknown.faults == ["step: cannot count kernel x"]


def test_a_gpu_is_estimated_and_says_so_in_every_line(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # no libtpu either
    assert _run(monkeypatch, "--topology", "H100-8", "--config", CONFIGS / "sample_720.toml", "--model", TINY) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    names = ("step", "prepare", "decode", "encode", "text", "audio")
    assert all(not line.startswith(names) for line in lines)
    assert sum(line.startswith("~ ") for line in lines) == 2 * 7 + 1
    assert lines[-1].startswith("H100-8: estimate: fits: ")


def test_the_whole_model_on_one_80_gb_card():
    options = tool.load_options(str(CONFIGS / "sample_720.toml"))
    made = tool.plan(
        find("H100-1"), MeshConfig(), ModelConfigs.real_size(), options, tool.make_job(options, "704x1280")
    )
    step = made.step
    assert made.fits and step.name == "step"
    assert step.weights == pytest.approx(2 * 5_704_930_777, rel=1e-6)  # spec: parameters of the transformer
    assert 1.0 < step.compute < 1.3 and step.bound == "compute"
    assert made.clip_seconds > 50 * step.compute


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--topology", "v6e-32"], "v6e-16 or v6e-64"),
        (["--topology", "H100-8", "--mesh", "data=3,context=-1"], "3 does not divide 8 devices"),
        (["--topology", "H100-8", "--mesh", "data=2,context=2"], "takes 4 devices, there are 8"),
        (["--topology", "H100-8", "--mesh", "tensor=8"], "tensor=8 does not divide 2 heads; 1, 2 do"),
        (["--topology", "H100-8", "--size", "640x640"], "tiny-128 has 160x128, 128x128, 128x160"),
        (["--topology", "H100-8", "--programs", "train"], "there are step, first clip, step, prepare"),
    ],
)
def test_what_cannot_be_planned_is_told_what_would(monkeypatch, arguments, said):
    monkeypatch.setattr(sys, "argv", ["plan", "--config", str(DEMO), "--model", str(TINY), *arguments])
    with pytest.raises(UserError, match=said):
        tool.main()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--topology", "H100-8"], "training is compiled, not estimated"),
        (["--topology", "cpu", "--programs", "step"], "there are gradients, update"),
        (["--topology", "cpu", "--config", str(DEMO)], "not allowed with argument --train"),
    ],
)
def test_what_cannot_be_planned_of_training(monkeypatch, arguments, said):
    config = str(CONFIGS / "train_tiny.toml")
    monkeypatch.setattr(sys, "argv", ["plan", "--train", config, "--model", str(TINY), *arguments])
    with pytest.raises(UserError, match=said):
        tool.main()


def test_a_tpu_without_libtpu_is_an_error_and_no_estimate(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["plan", "--config", str(DEMO), "--model", str(TINY), "--topology", "v6e-8"])
    with pytest.raises(UserError, match="pip install libtpu"):
        tool.main()


@pytest.mark.parametrize("mesh", ["data=2,fsdp=4", "data=2,context=2,tensor=2"])
def test_an_estimate_shares_weights_as_the_mesh_does(mesh):
    configs, where = ModelConfigs.real_size(), find("H100-8")
    options = tool.load_options(str(CONFIGS / "sample_480.toml"))
    made = tool.plan(where, MeshConfig.parse(mesh), configs, options, tool.make_job(options, None), ("step",))
    parts = 4 if "fsdp" in mesh else 2
    assert 11.4e9 / parts < made.step.weights < 12.5e9 / parts
