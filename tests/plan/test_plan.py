"""The plan: what it compiles, counts, estimates and says."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from talkverse_jax.core import presets
from talkverse_jax.core.config import load_toml
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.programs import Call, Program, Work, weight_bytes
from talkverse_jax.plan import plan as tool
from talkverse_jax.plan.compile import compile_program
from talkverse_jax.plan.hlo_cost import Cost
from talkverse_jax.plan.options import PlanOptions
from talkverse_jax.plan.report import TopologyPlan, report
from talkverse_jax.plan.sampling import SamplingRun, sampling_options
from talkverse_jax.plan.training import TrainingRun, training_options
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import TOPOLOGIES, find
from tests.conftest import CONFIGS

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Error reading persistent compilation cache")
DEMO, TINY = CONFIGS / "demo.toml", CONFIGS / "model_tiny.toml"
TINY_MODELS = FAMILY.configs_from_toml(TINY)


class Lines(Reporter):
    """What was said."""

    def __init__(self):
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said += text.splitlines()


def _run(**options) -> tuple[list[TopologyPlan], list[str]]:
    """The plans, and the lines that were said."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    lines = Lines()
    return tool.run(PlanOptions(**given), lines), lines.said


def _sampling(configs, config=DEMO, size: str | None = None, **settings) -> SamplingRun:
    family = registry.find("talkverse")
    found, machine = sampling_options("talkverse", config)
    found = dataclasses.replace(found, **settings)
    return SamplingRun(family, configs, found, machine, tool.choose_size(family.sizes(found), size))


@pytest.fixture
def one_block(tmp_path):
    """The tiny model with one of its blocks, as a `--model` file."""
    text = TINY.read_text().replace("num_layers = 4", "num_layers = 1").replace("[0, 1, 3]", "[0]")
    path = tmp_path / "model.toml"
    path.write_text(text)
    return path


def _plan(model, mesh: str, wanted: tuple[str, ...]):
    """On this machine's CPUs, with guidance."""
    run = _sampling(FAMILY.configs_from_toml(model), sample_steps=8, sample_guide_scale=4.5)
    return tool.plan(find("cpu"), MeshConfig.parse(mesh), run, wanted)


def test_the_presets_are_what_sampling_chooses():
    settings, machine = sampling_options("talkverse", "sample_480")
    run = SamplingRun(FAMILY, FAMILY.real_size(), settings, machine, (640, 640))
    for topology in TOPOLOGIES.values():
        if topology.generation.platform != "cpu":
            preset = load_toml(MeshConfig, presets.find(topology.name, "mesh")).sizes(topology.devices, heads=24)
            assert run.default_mesh(topology).sizes(topology.devices, heads=24) == preset, topology.name


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


@pytest.mark.slow
def test_a_plan_of_an_exact_size(one_block, tmp_path):
    """832x480, what 16:9 is made with `fit = "exact"`, compiled like a bucket's size: all products found, and of those
    of a step as many as its tokens have."""
    config = tmp_path / "exact.toml"
    config.write_text('size_bucket = "fasttalk-480"\nfit = "exact"\ninfer_frames = 8\nsample_steps = 2\n')
    flops = {}
    for size in ("640x640", "832x480"):
        run = _sampling(FAMILY.configs_from_toml(one_block), config, size)
        made = tool.plan(find("cpu"), MeshConfig.parse("data=2,context=4"), run, ("step", "prepare"))
        assert made.faults == [] and str(run).startswith(size)
        flops[size] = made.programs[0].model_flops
    assert 0.9 < flops["832x480"] / flops["640x640"] < 1


def test_weights_are_counted_where_they_lie(one_block):
    whole, split = (_plan(one_block, mesh, ("step",)).programs[0].weights for mesh in ("context=8", "fsdp=8"))
    assert whole / 8 < split < whole / 4  # vectors stay whole


@needs_libtpu
def test_a_plan_of_a_tpu(one_block, tmp_path):
    written = tmp_path / "plan.json"
    options = dict(topology="v6e-8", config=DEMO, model=one_block, programs=("step",), json=written)
    _, lines = _run(**options)
    assert any("8 devices: ring=4 ulysses=2" in line for line in lines)
    assert any("fits: 0.0 of 33.5 GB (step)" in line for line in lines)
    assert all(len(line) <= 116 for line in lines)
    (made,) = json.loads(written.read_text())["plans"]
    (step,) = made["programs"]
    assert made["fits"] and step["fits"] and not step["estimated"]
    assert step["waste"] >= 0 and step["cost"]["received"] and len(step["sha256"]) == 64
    _run(**options)
    assert json.loads(written.read_text())["plans"][0]["programs"][0]["sha256"] == step["sha256"]


TRAINING = """
unfreeze_strategy = "lora"
size_bucket = "tiny-128"
num_frames = 8
batch_size = 8
gradient_accumulation_steps = 2
"""


@pytest.mark.slow
def test_a_plan_of_training(one_block, tmp_path):
    """Both programs of an update, on all 8 virtual CPUs."""
    config, written = tmp_path / "train.toml", tmp_path / "plan.json"
    config.write_text(TRAINING)
    _, lines = _run(train=config, model=one_block, topology="cpu", json=written)
    assert any("128x128, 81 frames, lora, batch 8 x 2, remat attention" in line for line in lines)
    (made,) = json.loads(written.read_text())["plans"]
    gradients, update = made["programs"]
    assert (gradients["name"], gradients["times"]) == ("gradients", 2)
    assert (update["name"], update["times"]) == ("update", 1)
    assert made["fits"] and not made["faults"] and gradients["waste"] > 0 and gradients["cost"]["received"]


def test_training_keeps_a_share_of_everything_on_each_device(one_block, tmp_path):
    (tmp_path / "train.toml").write_text(TRAINING)
    options, configs = training_options(tmp_path / "train.toml", "talkverse"), FAMILY.configs_from_toml(one_block)
    run, kept = TrainingRun(FAMILY, configs, options, (128, 128)), {}
    for axes in ("data=8", "fsdp=8"):
        gradients, _ = run.programs(make_mesh(MeshConfig.parse(axes), jax.devices(), run.heads))
        kept[axes] = gradients.weights + gradients.beside["Adam"]
    assert kept["fsdp=8"] < kept["data=8"] / 4  # vectors stay whole


def _program(function, *args, flops: float, beside: int = 0) -> Program:
    work = Work("step", flops, 1, "clip", "dit")
    call = Call(jax.jit(function), args)
    return Program(work, lambda: call, weight_bytes(args[0]), {"vae": beside} if beside else {})


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
    shown = report(TopologyPlan(topology, 1, MeshConfig().sizes(1, 1), _sampling(TINY_MODELS), (full,)))
    assert "step does not fit" in shown and "vae 0.00 GB" in shown and "NO" in shown


def test_a_count_below_the_models_own_is_a_fault():
    planned = compile_program(_program(lambda _, x: x @ x, (), _float(64, 64), flops=3 * 64**3), find("cpu"), 1)
    (fault,) = planned.faults
    made = TopologyPlan(find("cpu"), 1, MeshConfig().sizes(1, 1), _sampling(TINY_MODELS), (planned,))
    assert made.sentence() == f"no verdict: {fault}"
    assert made.as_json()["fits"] is False and made.as_json()["faults"] == [fault]
    assert "33.33% of the model's FLOPs were not found" in fault
    unknown = dataclasses.replace(planned, cost=Cost(1e12, unknown=("kernel x",)))
    assert unknown.faults == ["step: cannot count kernel x"]


def test_a_gpu_is_estimated_and_says_so_in_every_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # no libtpu either
    _, lines = _run(topology="H100-8", config=CONFIGS / "sample_720.toml", model=TINY)
    lines = [line for line in lines if line]
    names = ("step", "prepare", "decode", "encode", "text", "audio")
    assert all(not line.startswith(names) for line in lines)
    assert sum(line.startswith("~ ") for line in lines) == 2 * 7 + 1
    assert lines[-1].startswith("H100-8: estimate: fits: ")


def test_sizes_are_read_from_weights(tiny_weights):
    """They are those of model_tiny.toml, and the weights say whose they are."""
    of_weights, of_file = (
        _run(topology="H100-8", config=DEMO, **given)[0][0].as_json()
        for given in ({"weights": tiny_weights}, {"model": TINY})
    )
    assert of_weights == of_file
    with pytest.raises(UserError, match="--family other .* holds weights of talkverse|other: .*talkverse"):
        _run(topology="H100-8", config=DEMO, weights=tiny_weights, family="other")


def test_the_whole_model_on_one_80_gb_card():
    run = _sampling(FAMILY.real_size(), CONFIGS / "sample_720.toml", "1280x704")
    made = tool.plan(find("H100-1"), MeshConfig(), run)
    step = made.step
    assert made.fits and step.name == "step"
    assert step.weights == pytest.approx(2 * 5_704_930_777, rel=1e-6)  # spec: parameters of the transformer
    assert 1.0 < step.compute < 1.3 and step.bound == "compute"
    assert made.clip_seconds > 50 * step.compute
    assert "s a clip of 4.8 s" in made.sentence()


@pytest.mark.parametrize(
    "options, said",
    [
        ({"topology": "v6e-24"}, "v6e-16 or v6e-32 or v6e-64"),
        ({"mesh": "data=3,context=-1"}, "3 does not divide 8 devices"),
        ({"mesh": "data=2,context=2"}, "takes 4 devices, there are 8"),
        ({"mesh": "tensor=8"}, "tensor=8 does not divide 2 heads; 1, 2 do"),
        ({"size": "640x640"}, "--size 640x640: there are 128x128, 160x128, 128x160"),
        ({"size": "big"}, "--size big: there are 128x128, 160x128, 128x160$"),
        (
            {"size": "1920x1080", "config": CONFIGS / "sample_480.toml"},
            "--size 1920x1080: there are 640x640, .*; nearest in shape is 896x448",
        ),
        ({"programs": ("train",)}, "--programs train: .* there are step, first clip, step, prepare"),
        ({"family": "other"}, "--family other: no such family; there are talkverse"),
        ({"train": "x.toml"}, "--train cannot be given with --config"),
        ({"config": None}, "--config or --train is missing"),
        ({"weights": "somewhere"}, "--weights cannot be given with --model"),
        ({"json": "no/such/plan.json"}, "--json no/such/plan.json: there is no such folder"),
    ],
)
def test_what_cannot_be_planned_is_told_what_would(options, said):
    with pytest.raises(UserError, match=said):
        _run(**{"topology": "H100-8", "config": DEMO, "model": TINY} | options)


def test_exact_sizes_are_planned_where_the_config_asks_for_them(tmp_path):
    """And what is said names the one for a picture."""
    config = tmp_path / "exact.toml"
    config.write_text('size_bucket = "fasttalk-720"\nfit = "exact"\n')
    [made], _ = _run(topology="H100-8", config=config, model=TINY, size="1248x704")
    assert made.run.size == (704, 1248)
    with pytest.raises(UserError, match="--size 1920x1080: there are 112 others; nearest in shape is 1248x704$"):
        _run(topology="H100-8", config=config, model=TINY, size="1920x1080")
    with pytest.raises(UserError, match="--size 1248x704: there are 1280x704, .*; nearest in shape is 1280x704$"):
        _run(topology="H100-8", config=CONFIGS / "sample_720.toml", model=TINY, size="1248x704")


@pytest.mark.parametrize(
    "options, said",
    [
        ({"topology": "H100-8"}, "training is compiled, not estimated"),
        ({"topology": "cpu", "programs": ("step",)}, "there are gradients, update"),
    ],
)
def test_what_cannot_be_planned_of_training(options, said):
    with pytest.raises(UserError, match=said):
        _run(train=CONFIGS / "train_tiny.toml", model=TINY, **options)


def test_a_tpu_without_libtpu_is_an_error_and_no_estimate(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install libtpu"):
        _run(topology="v6e-8", config=DEMO, model=TINY)


@pytest.mark.parametrize("mesh", ["data=2,fsdp=4", "data=2,context=2,tensor=2"])
def test_an_estimate_shares_weights_as_the_mesh_does(mesh):
    run = _sampling(FAMILY.real_size(), CONFIGS / "sample_480.toml")
    made = tool.plan(find("H100-8"), MeshConfig.parse(mesh), run, ("step",))
    parts = 4 if "fsdp" in mesh else 2
    assert 11.4e9 / parts < made.step.weights < 12.5e9 / parts


def test_options_import_no_jax():
    code = "import sys, talkverse_jax.plan.options; print({'jax', 'flax', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
