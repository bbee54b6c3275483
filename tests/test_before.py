"""What the program of before this layout left behind (tests/fixtures/before) is gone on with."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from talkverse_jax.families.talkverse.settings import Files, Settings
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.job import Job
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.resume import describe_difference
from talkverse_jax.weights import manifest
from tests.processes import ROOT

BEFORE = Path(__file__).parent / "fixtures" / "before"


@pytest.fixture
def left(tmp_path):
    """A copy to work in, from whose root the commands are given."""
    shutil.copytree(BEFORE, tmp_path / "before")
    return tmp_path / "before"


def go_on(folder: Path, script: str, flags: dict[str, str], **more: str) -> str:
    """Run a command from the folder, on one device as it was begun; what it says."""
    words = [word for name, value in (flags | more).items() for word in (f"--{name}", value)]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environ.pop("XLA_FLAGS", None)
    command = [sys.executable, str(ROOT / script), *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def flags_of(folder: Path) -> dict[str, str]:
    return json.loads((folder / "command.json").read_text())["flags"]


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def alike(made: Path, expected: Path, kept: int) -> None:
    """The frames that were there are the same; of those made now, other machines change the last digits, and an encoder
    makes more of that (by up to 2.0 of 255; another seed by 24)."""
    ours, theirs = pictures(made), pictures(expected)
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours[:kept], theirs[:kept])
    assert np.abs(ours - theirs).mean() < 5


def test_converted_weights_name_no_family(left):
    assert manifest.family(left / "weights") is None
    assert registry.family_of(left / "weights") == registry.DEFAULT
    configs = registry.find(registry.DEFAULT).configs_from_weights(left / "weights")
    assert configs.dit.trunk.num_layers == 2


@pytest.mark.slow
def test_a_video_goes_on(left):
    said = go_on(left, "sample.py", flags_of(left / "partial"), resume="true")
    assert "goes on at clip 2" in said
    alike(left / "partial/talk.mp4", left / "partial/finished/talk.mp4", kept=5)
    said = go_on(left, "sample.py", flags_of(left / "partial") | {"output": "partial/finished/talk.mp4"}, resume="true")
    assert "is finished already" in said


@pytest.mark.parametrize("fit, other", [("pad", []), ("crop", ["fit"])])
def test_the_fit_that_it_did_not_know_counts_as_pad(left, monkeypatch, fit, other):
    monkeypatch.chdir(left)
    flags = flags_of(left / "partial")
    values = {name: int(flags[name]) for name in ("base_seed", "infer_frames", "sample_steps")}
    settings = Settings(prompt=flags["prompt"], size_bucket="tiny-128", sample_guide_scale=1.0, fit=fit, **values)
    weights, files = Weights(weights="weights"), Files(image=flags["image"], audio=flags["audio"])
    job = Job.make("talkverse", weights, Machine(dtype="float32"), files, settings, flags["output"])
    before = json.loads((left / "partial/finished/talk.json").read_text())["made_from"]
    assert job.differences(before) == other
    if other:
        said = "--fit was 'pad', not 'crop'; give the same, or leave out --resume"
        assert describe_difference(job, before, "fit") == said


def test_a_batch_goes_on(left):
    for lease in left.glob("batch/out/.work-*/leases/*"):  # of a worker on a machine that is called otherwise
        lease.write_text(json.dumps(json.loads(lease.read_text()) | {"host": socket.gethostname()}))
    done = (left / "batch/out/video-0.mp4").read_bytes()
    said = go_on(left, "sample.py", flags_of(left / "batch"))
    assert "3 videos, 1 of them done before" in said
    assert (left / "batch/out/video-0.mp4").read_bytes() == done
    for name in ("video-1.mp4", "video-2.mp4"):
        alike(left / "batch/out" / name, left / "batch/finished" / name, kept=0)


@pytest.mark.slow
def test_a_training_run_goes_on(left):
    from safetensors.numpy import load_file

    said = go_on(left, "train.py", flags_of(left / "train"))
    assert "goes on from step 2" in said
    ours, theirs = (load_file(left / "train" / place / "step-4.safetensors") for place in ("run", "finished"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=1e-5, err_msg=name)
    lines = [[json.loads(line) for line in (left / f"train/{place}/metrics.jsonl").read_text().splitlines()]
             for place in ("run", "finished")]  # fmt: skip
    np.testing.assert_allclose(*[[line["loss"] for line in file] for file in lines], rtol=1e-5)
