"""Two processes of four virtual devices each, really started."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding import distributed, launch
from talkverse_jax.sharding.launch import Launch, find_launch
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig

PROGRAM = """
import os, sys, time
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from talkverse_jax.cli.command import run_command
from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding import distributed, launch
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig

def main():
    address, me, timeout, compile = sys.argv[1], *map(int, sys.argv[2:])
    waits = dict(heartbeat_timeout=timeout, meeting_timeout=timeout, compile_timeout=compile)
    with distributed.session(address, 2, me, **waits):
        body(me)

def body(me):
{body}

run_command(main)
"""


def _start(
    body: str, *, processes=(0, 1), timeout: int = 30, compile: int = 60, address: str = ""
) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = address or f"127.0.0.1:{probe.getsockname()[1]}"
    program = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "JAX_"))} | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, address, str(me), str(timeout), str(compile)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in processes
    ]


def _finish(started: list[subprocess.Popen], within: float = 40) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each; none is left behind."""
    end = time.monotonic() + within
    try:
        texts = [process.communicate(timeout=max(0.1, end - time.monotonic())) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [(process.returncode, *text) for process, text in zip(started, texts)]


def _wait_for(process: subprocess.Popen, line: str) -> None:
    for text in process.stdout:
        if text.strip() == line:
            return
    raise AssertionError(process.stderr.read())


def test_two_processes_are_one_program(tmp_path):
    outcomes = _finish(
        _start(f"""
        assert jax.device_count() == 8 and jax.local_device_count() == 4
        whole = np.arange(6 * 8 * 20, dtype=np.float32).reshape(6, 8, 20)
        for text, spec in (
            ("context=-1", (None, "ulysses", None)),
            ("data=2,context=4", (None, ("data", "ulysses"), None)),
            ("data=2,tensor=4", ("data", None, "tensor")),
            ("tensor=8", (None, "tensor")),
        ):
            sharding = NamedSharding(make_mesh(MeshConfig.parse(text), jax.devices(), 8), PartitionSpec(*spec))
            x = jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
            assert float(jnp.sum(x)) == whole.sum()
            back = distributed.fetch(x, piece_bytes=8 * 6 * 4 * 3)
            assert (back is None) == (me == 1)
            for copy in [back] * (me == 0) + [distributed.fetch(x, everywhere=True)]:
                np.testing.assert_array_equal(copy, whole)
            nothing = distributed.fetch(x[:, :, 20:], everywhere=True)
            assert nothing.shape == (6, 8, 0)
        distributed.barrier("written")
        distributed.barrier("written")
        assert distributed.from_main("seed", str(me + 7)) == "7"
        if distributed.is_main():
            open({str(tmp_path / "video")!r}, "x").write("once")
        """)
    )
    assert [code for code, _, _ in outcomes] == [0, 0], outcomes
    assert (tmp_path / "video").read_text() == "once"


TOGETHER = """
mesh = make_mesh(MeshConfig.parse("tensor=8"), jax.devices(), 8)
x = jax.make_array_from_callback((8,), NamedSharding(mesh, PartitionSpec("tensor")), lambda i: np.arange(8.0)[i])
if me == 1:
    time.sleep({delay})
assert float(jax.jit(lambda x: x.sum())(x)) == 28
"""


@pytest.mark.slow
def test_a_process_may_compile_for_longer_than_gloo_waits():
    outcomes = _finish(_start(TOGETHER.format(delay=40), timeout=100), within=100)
    assert [code for code, _, _ in outcomes] == [0, 0], outcomes


def test_the_wait_for_a_program_ends():
    (code, _, errors), (other, _, _) = _finish(_start(TOGETHER.format(delay=30), compile=1), within=30)
    assert (code, other) == (2, distributed.ENDED_BY_ANOTHER)
    assert "error: --compile_timeout 1: jit__lambda is not compiled in all processes by then; give more" in errors


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other(victim):
    started = _start("print('here', flush=True); time.sleep(60)", timeout=3)
    for process in started:
        _wait_for(process, "here")
    started[victim].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    code, _, errors = _finish(started, within=20)[1 - victim]
    assert time.monotonic() - begin < 10
    if victim == 1:
        assert code == distributed.ENDED_BY_ANOTHER
        (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert line.startswith("error: process 1 (")
        assert line.endswith("has shown no sign of life for 3 s; this process ends too")
    else:  # the meeting point itself is gone: JAX aborts, or we are faster
        assert code in (-signal.SIGABRT, distributed.ENDED_BY_ANOTHER)
        assert "process 0 cannot be reached" in errors or "coordination service" in errors


@pytest.mark.parametrize(
    "victim, body, reason",
    [
        (
            0,
            """
            if distributed.is_main():
                raise UserError("a.wav: is empty; give another")
            """,
            "a.wav: is empty; give another",
        ),
        (
            1,
            "distributed.check_same('--prompt', str(me))",
            "--prompt: not that of process 0; start every process with the same command",
        ),
    ],
)
def test_bad_input_of_one_process_ends_the_other(victim, body, reason):
    outcomes = _finish(_start(textwrap.dedent(body) + "\ntime.sleep(60)"), within=20)
    code, _, errors = outcomes[victim]
    assert (code, errors.splitlines()[-1]) == (2, f"error: {reason}")
    code, _, errors = outcomes[1 - victim]
    assert code == distributed.ENDED_BY_ANOTHER
    assert errors.splitlines()[-1].startswith(f"error: process {victim} (")
    assert errors.splitlines()[-1].endswith(f") failed: {reason}; this process ends too")


def test_a_process_whose_others_do_not_come_gives_up():
    for code, _, errors in _finish(
        _start("pass", processes=(0,), timeout=2) + _start("pass", processes=(1,), timeout=2), within=15
    ):
        assert code == 2
        assert "did not all meet within 2 s; start one on every host" in errors


def test_a_meeting_point_that_is_taken():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ((code, _, errors),) = _finish(_start("pass", processes=(0,), address=address), within=20)
    assert code == 2
    assert errors.splitlines()[-1].startswith(f"error: --coordinator_address {address}: process 0 cannot")


ADDRESS = "10.0.0.1:1234"
SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NODELIST": "node[007-008],other3",
    "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
}


@pytest.mark.parametrize(
    "flags, environ, launch",
    [
        ((None, None, None), {}, None),
        ((None, 1, None), {}, None),
        ((None, None, None), {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, None),
        ((ADDRESS, 2, 0), {}, Launch(ADDRESS, 2, 0)),
        ((ADDRESS, None, 1), {"JAX_NUM_PROCESSES": "4"}, Launch(ADDRESS, 4, 1)),
        ((None, None, None), SLURM, Launch("node007:62346", 16, 9, (1,))),
        ((None, None, None), SLURM | {"CUDA_VISIBLE_DEVICES": "3"}, Launch("node007:62346", 16, 9)),
        ((None, None, None), SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x16)"}, Launch("node007:62346", 16, 9)),
        ((None, None, None), SLURM | {"SLURM_STEP_NODELIST": "one,two"}, Launch("one:62346", 16, 9, (1,))),
        ((None, None, None), SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        ((None, 1, None), SLURM, None),
    ],
)
def test_where_the_launch_is_found(flags, environ, launch):
    assert find_launch(*flags, environ) == launch


@pytest.mark.parametrize(
    "environ, cluster",
    [
        ({}, "gcetpu"),
        ({"TPU_SKIP_MDS_QUERY": "1"}, None),
        ({"JAX_PLATFORMS": "cpu"}, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "gketpu"),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "gketpu"),
    ],
)
def test_where_the_launch_is_found_on_a_tpu_host(monkeypatch, environ, cluster):
    assert find_launch(None, None, None, environ) is None  # this is none
    monkeypatch.setattr(launch, "on_tpu_host", lambda: True)
    assert find_launch(None, None, None, environ) == (cluster and Launch(cluster=cluster))


@pytest.mark.parametrize(
    "flags, environ, words",
    [
        ((ADDRESS, None, None), {}, "--num_processes, --process_id: missing"),
        ((None, 2, 0), {}, "--coordinator_address: missing"),
        ((ADDRESS, 2, 2), {}, "--process_id 2: give 0 to 1"),
        ((ADDRESS, 2, -1), {}, "--process_id -1: give 0 to 1"),
        (("10.0.0.1", 2, 0), {}, "give host:port"),
        (("10.0.0.1:70000", 2, 0), {}, "give host:port"),
        ((None, None, None), {"JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID=one: give a number"),
    ],
)
def test_a_launch_that_cannot_be(flags, environ, words):
    with pytest.raises(UserError, match=words):
        find_launch(*flags, environ)


def test_a_process_alone_needs_no_runtime():
    with distributed.session():
        assert distributed.is_main() and distributed.process_count() == 1
        distributed.barrier("alone")
        assert distributed.from_main("seed", "3") == "3"
        mesh = make_mesh(MeshConfig.parse("context=-1"), jax.devices(), 8)
        whole = np.arange(64.0, dtype=np.float32).reshape(2, 32)
        x = jax.device_put(whole, NamedSharding(mesh, PartitionSpec(None, "ulysses")))
        np.testing.assert_array_equal(distributed.fetch(x), whole)
    with pytest.raises(UserError, match="heartbeat_timeout"), distributed.session(heartbeat_timeout=1):
        pass


@pytest.mark.parametrize("text, spec", [("context=-1", (None, None, "ulysses")), ("tensor=8", ("tensor",))])
def test_gathering_a_piece_gathers_no_more(text, spec):
    sharding = NamedSharding(make_mesh(MeshConfig.parse(text), jax.devices(), 8), PartitionSpec(*spec))
    x = jax.ShapeDtypeStruct((64, 640, 64), np.float32, sharding=sharding)
    compiled = distributed._piece.lower(x, np.int32(0), sharding=sharding, axis=1, size=10).compile()
    piece = 64 * 10 * 64 * 4
    memory = compiled.memory_analysis()
    assert memory.output_size_in_bytes == piece
    assert memory.temp_size_in_bytes <= 2 * piece < 64 * 640 * 64 * 4 // 16
