"""Two processes that train together: one is told to end, both save the same step, and go on."""

import signal

import pytest

from talkverse_jax.training.checkpoint import Checkpoints
from tests.processes import free_address
from tests.training import runs
from tests.training.test_run import begin, losses, wait_for


@pytest.mark.slow
def test_one_is_told_to_end_and_both_save(tmp_path):
    place, output = runs.make(tmp_path / "place"), tmp_path / "run"

    def begin_both(**changes):
        where = dict(coordinator_address=free_address(), num_processes=2, heartbeat_timeout=100)
        options = [
            place.options(output, num_epochs=1000, save_steps=1000, process_id=i, **where | changes) for i in (0, 1)
        ]
        return [begin(each, devices=1) for each in options]

    processes = begin_both(max_steps=1000)
    wait_for(output / "metrics.jsonl", processes[0])
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    [step] = Checkpoints(output / "checkpoints", read_only=True).steps()
    assert f"saved at step {step} of 1000" in said[0]

    processes = begin_both(max_steps=step + 2)
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert f"goes on from step {step}" in said[0] and (output / f"step-{step + 2}.safetensors").exists()
    assert [number for number, _ in losses(output)] == list(range(1, step + 3))


@pytest.mark.slow
def test_a_warm_cache_starts_again(tmp_path, monkeypatch):
    """Gloo waits 30 s for a process that compiles what the other finds in its cache."""
    place = runs.make(tmp_path / "place")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # as outside of tests
    for number in range(3):
        where = dict(coordinator_address=free_address(), num_processes=2, heartbeat_timeout=100, max_steps=1)
        output = tmp_path / f"run{number}"
        processes = [begin(place.options(output, process_id=i, **where), devices=1) for i in (0, 1)]
        said = [process.communicate(timeout=500)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
        assert ("(0 programs compiled, " in said[0]) == (number > 0)
