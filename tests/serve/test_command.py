"""What a server refuses before it listens, and how it stops."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.serve.http.serving import picture, sound
from tests.serve.processes import ROOT, ServerProcess


def _refused(*flags: object) -> str:
    """What `serve` says, on one line, when it ends with exit code 2."""
    command = [sys.executable, "-m", "talkverse_jax", "serve", *map(str, flags)]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A folder that says of itself that weights are in it; they are looked for later."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "manifest.json").write_text('{"format": 1, "components": {}, "family": "talkverse"}')
    return folder


def test_what_the_user_gave_is_told_in_one_line(tmp_path, listed):
    data = ("--data_dir", tmp_path / "data")
    assert "no such folder" in _refused("--weights", tmp_path / "none", *data)
    assert "--sample_steps 0" in _refused("--weights", listed, *data, "--sample_steps", 0)
    assert "--coordinator_address" in _refused("--weights", listed, "--coordinator_address", "a:1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: cannot be listened at" in _refused("--weights", listed, *data, "--port", port)


@pytest.mark.slow
def test_a_server_has_its_folder_and_drains(tmp_path, tiny_weights):
    folder = tmp_path / "data"
    with ServerProcess(folder, tiny_weights, "--dtype", "float32") as server:
        assert "another server has it" in _refused("--weights", tiny_weights, "--data_dir", folder, "--port", 0)
        assert server.client.get("/health").json()["state"] in ("loading", "ready")
        assert server.line() == "talkverse_jax: ready"
        assert server.client.get("/health").json()["ok"]
        server.signal(signal.SIGTERM)
        assert server.line() == "talkverse_jax: draining"
        assert server.line() == "talkverse_jax: stopped"
        assert server.wait() == 0
    assert not (folder / "lock").exists()


@pytest.mark.slow
def test_weights_that_cannot_be_used_end_the_server(tmp_path, listed):
    command = [sys.executable, "-m", "talkverse_jax", "serve", "--weights", str(listed), "--port", "0"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [*command, "--data_dir", str(tmp_path / "data")], env=environ, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.slow
def test_a_worker_that_dies_and_dies_ends_the_server(tmp_path, tiny_weights):
    with ServerProcess(tmp_path / "data", tiny_weights) as server:
        killed: set[int | None] = {None}
        while server.alive:
            if (worker := server.worker()) not in killed and server.kill_worker():
                killed.add(worker)
            time.sleep(0.01)
        assert (server.wait(), server.line()) == (1, "talkverse_jax: stopped")
        assert len(killed) - 1 == 5


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_drain(tmp_path, tiny_weights, second):
    with ServerProcess(tmp_path / "data", tiny_weights, "--dtype", "float32", "--size_bucket", "tiny-128") as server:
        assert server.line() == "talkverse_jax: ready"
        form = {"input_reference": picture(), "audio_reference": sound(2)}
        made = server.client.post("/v1/videos", data={"prompt": "Talk.", "num_inference_steps": "200"}, files=form)
        address = f"/v1/videos/{made.json()['id']}"
        while not server.client.get(address).json()["step"]:
            time.sleep(0.1)
        worker = server.worker()
        server.signal(signal.SIGTERM)
        assert server.line() == "talkverse_jax: draining" and server.alive
        assert server.client.get(address).json()["status"] == "in_progress"  # its clip may be finished
        server.signal(second)
        assert (server.wait(5), server.line()) == (128 + second, "")
        end = time.monotonic() + 10  # it ends with the server
        while os.path.exists(f"/proc/{worker}"):
            assert time.monotonic() < end
            time.sleep(0.01)
