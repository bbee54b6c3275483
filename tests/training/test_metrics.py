"""The curves: what a line holds, and that a run that goes on has one of each."""

import json

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.flops import training_flops
from talkverse_jax.sharding.topologies import H200, V6E
from talkverse_jax.training.metrics import Interval, Log, peak_flops
from tests.training.runs import TINY

QUIET = dict(tensorboard=False, wandb_project=None, config={})


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder) -> list[event_pb2.Event]:
    """What TensorBoard would read, file by file."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:  # length, its checksum, the event, its checksum
            size = int.from_bytes(data[:8], "little")
            found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def test_an_interval_means_over_samples_and_by_noise():
    interval = Interval()
    interval.add_samples(np.array([1.0, 3.0, 99.0]), np.array([1.0, 1.0, 0.0]), {"timestep": np.array([0, 999, 500])})
    interval.add_samples(np.array([5.0]), np.array([1.0]), {"timestep": np.array([199])})
    interval.add_update({"lora": 2.0, "rest": 1.0}, 0)
    interval.add_update({"lora": 4.0, "rest": 1.0}, 1)
    assert interval.means() == {
        "loss": 3.0,
        "loss_by_noise/0-199": 3.0,
        "loss_by_noise/800-999": 3.0,
        "gradient_norm/lora": 3.0,
        "gradient_norm/rest": 1.0,
    }
    assert interval.samples == 3


def test_an_interval_without_samples():
    interval = Interval()
    interval.add_samples(np.zeros(2), np.zeros(2), {"timestep": np.zeros(2, int)})
    interval.add_update({"rest": 0.0}, 0)
    assert interval.means() == {"gradient_norm/rest": 0.0}


def test_a_run_that_goes_on_writes_no_step_twice(tmp_path):
    log = Log(tmp_path, 0, **QUIET | {"tensorboard": True})
    for step in range(1, 6):
        log.write(step, {"loss": float(step)})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    log = Log(tmp_path, 3, **QUIET | {"tensorboard": True})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    log.write(4, {"loss": 40.0})
    log.close()
    assert [line["loss"] for line in lines(tmp_path)] == [1, 2, 3, 40]
    shown = {}
    for event in events(tmp_path):
        if event.HasField("session_log") and event.session_log.status == event_pb2.SessionLog.START:
            shown = {step: value for step, value in shown.items() if step < event.step}  # as TensorBoard does
        for value in event.summary.value:
            shown[event.step] = value.simple_value
    assert shown == {1: 1.0, 2: 2.0, 3: 3.0, 4: 40.0}


def test_pictures_go_to_tensorboard(tmp_path):
    log = Log(tmp_path, 0, **QUIET | {"tensorboard": True})
    log.picture(7, "preview", np.full((8, 16, 3), 128, np.uint8))
    log.close()
    [image] = [value.image for event in events(tmp_path) for value in event.summary.value if event.step == 7]
    assert (image.height, image.width) == (8, 16)


def test_wandb_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="--use_wandb wandb is not installed"):
        Log(tmp_path, 0, **QUIET | {"wandb_project": "x"})


def test_peak_is_that_of_all_devices_or_unknown():
    assert peak_flops([V6E.device_kind] * 8, "bfloat16") == 8 * V6E.flops
    assert peak_flops([H200.device_kind], "float32") == H200.float32_flops
    assert peak_flops([V6E.device_kind, "cpu"], "bfloat16") is None
    assert peak_flops([V6E.device_kind], "float32") is None


def test_training_flops_grow_with_what_is_trained():
    none, half, full = (training_flops(TINY.dit, 2, 8, 8, trained_blocks=n) for n in (0, 2, 4))
    assert none < half < full and half - none == full - half
