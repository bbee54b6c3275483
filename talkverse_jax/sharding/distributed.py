"""Several processes as one program: JAX's runtime, one end for all of them, and arrays brought to one host.

`session` starts the runtime where there is more than one process and makes sure that they end together. A process
that fails tells the others why; one that dies is missed by them. Both are one line and exit code 3 within the
timeout, where JAX alone waits in a collective for ever or aborts with a stack trace. JAX's own watch goes on
underneath: it ends what ours cannot, such as everybody at once when process 0, which holds the meeting point, is
killed (exit code 134, SIGABRT).
"""

import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from talkverse_jax.core.errors import UserError, explain
from talkverse_jax.core.jax_private import runtime, when_built
from talkverse_jax.sharding.launch import Launch, find_launch
from talkverse_jax.sharding.process_options import COMPILE_TIMEOUT, HEARTBEAT_TIMEOUT, MEETING_TIMEOUT

ENDED_BY_ANOTHER = 3  # exit code

_LOG = logging.getLogger(__name__)  # unless told otherwise, Python writes it to stderr
_STORE = "talkverse_jax/"
_PATIENCE = 5.0  # seconds process 0 stays for the others to read why the run ends
_PIECE = 256 * 2**20  # bytes


@contextmanager
def session(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_timeout: int = HEARTBEAT_TIMEOUT,
    meeting_timeout: int = MEETING_TIMEOUT,
    compile_timeout: int = COMPILE_TIMEOUT,
    preemption: bool = False,
) -> Iterator[None]:
    """Run the body as one of several processes that end together; alone, where nothing tells of others.

    Enter it before anything else asks JAX for devices. An exception that leaves the body ends all processes; the
    body's normal end waits for the slowest one.

    Args:
      heartbeat_timeout: seconds without a sign of life after which a process counts as dead.
      meeting_timeout: seconds in which all processes must have come.
      compile_timeout: seconds for which CPU processes wait until all have compiled a program.
      preemption: SIGTERM ends no process: JAX tells all of them at which step to save (`training/interruption`).

    Raises:
      UserError: flags are wrong, or the meeting point cannot be opened.
    """
    if heartbeat_timeout < 2:
        raise UserError(f"--heartbeat_timeout {heartbeat_timeout}: give 2 seconds or more")
    launch = find_launch(coordinator_address, num_processes, process_id)
    if launch is None or not _join(launch, heartbeat_timeout, meeting_timeout, preemption):
        yield
        return
    when_built(partial(_meet, timeout=compile_timeout))
    watch = _Watch(heartbeat_timeout)
    watch.start()
    try:
        yield
        barrier("end", timeout=None)
    except BaseException as error:
        watch.stop()
        _end_all(error)
    watch.stop()


def _join(launch: Launch, heartbeat_timeout: int, meeting_timeout: int, preemption: bool) -> bool:
    """Meet the other processes; False: the TPU's metadata names none."""
    # JAX catches SIGTERM for its service; a process that saves nothing would live on.
    jax.config.update("jax_enable_preemption_service", preemption)
    where = launch.coordinator or "the first host of the slice"
    if launch.coordinator and launch.process == 0 and "JAX_COORDINATOR_BIND_ADDRESS" not in os.environ:
        _check_port(launch.coordinator)

    def give_up() -> None:  # JAX aborts with a stack trace when it has waited long enough
        _last_words(
            f"error: {where}: the processes did not all meet within {meeting_timeout} s; start one on every host, "
            "with the address of process 0 (--coordinator_address)"
        )
        os._exit(2)

    timer = threading.Timer(meeting_timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            launch.coordinator,
            launch.processes,
            launch.process,
            launch.local_devices,
            cluster_detection_method=launch.cluster,
            initialization_timeout=meeting_timeout + 60,
            # ours speaks first
            heartbeat_timeout_seconds=heartbeat_timeout + 20,
            shutdown_timeout_seconds=heartbeat_timeout,
        )
    except (ValueError, OSError) as error:
        if launch.cluster != "gcetpu":
            raise
        _LOG.warning(f"no other TPU hosts: the metadata server does not answer ({error})")
        return False
    finally:
        timer.cancel()
    return True


def _check_port(address: str) -> None:
    """Make sure that process 0 can listen there: where it cannot, JAX 0.12 ends in a segmentation fault.

    Raises:
      UserError: it cannot.
    """
    try:
        socket.create_server(("", int(address.rpartition(":")[2]))).close()
    except OSError as error:
        raise UserError(
            f"--coordinator_address {address}: process 0 cannot listen there ({error.strerror}); choose a free port"
        ) from None


def process_count() -> int:
    """How many processes run together; asks no device."""
    return runtime().num_processes


def is_main() -> bool:
    """Whether this process is the one that writes files and speaks; asks no device."""
    return runtime().process_id == 0


class _Watch(threading.Thread):
    """Shows a sign of life to the other processes, looks for theirs, and leaves when one is missed."""

    def __init__(self, timeout: float):
        super().__init__(name="watch", daemon=True)
        self.timeout, self.interval = timeout, min(1.0, timeout / 4)
        self.client, self.me = runtime().client, runtime().process_id
        self.others = set(range(runtime().num_processes)) - {self.me}
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()
        self.join()

    def run(self) -> None:
        seen: dict[int, str | None] = dict.fromkeys(self.others)
        since = dict.fromkeys(self.others, time.monotonic())
        self.client.key_value_set(f"{_STORE}host/{self.me}", socket.gethostname(), allow_overwrite=True)
        beat = 0
        while not self.stopped.wait(self.interval):
            beat += 1
            try:
                self.client.key_value_set(f"{_STORE}beat/{self.me}", str(beat), allow_overwrite=True)
                store = dict(self.client.key_value_dir_get(_STORE))
            except jax.errors.JaxRuntimeError as error:
                if self.stopped.is_set():
                    return
                _last_words(f"error: process 0 cannot be reached any more ({str(error).splitlines()[0]})")
                os._exit(ENDED_BY_ANOTHER)
            if f"{_STORE}end" in store:
                self._leave(store[f"{_STORE}end"])
            now = time.monotonic()
            for other in self.others:
                if (value := store.get(f"{_STORE}beat/{other}")) != seen[other]:
                    seen[other], since[other] = value, now
                elif now - since[other] > self.timeout:
                    host = store.get(f"{_STORE}host/{other}", "unknown host")
                    reason = f"process {other} ({host}) has shown no sign of life for {self.timeout:.0f} s"
                    self.client.key_value_set(f"{_STORE}end", reason, allow_overwrite=True)
                    self._leave(reason, dead={other})

    def _leave(self, reason: str, dead: Set[int] = frozenset()) -> NoReturn:
        _last_words(f"error: {reason}; this process ends too")
        try:
            _go(self.client, self.me, self.others - dead)
        finally:  # whether or not process 0 still hears it
            os._exit(ENDED_BY_ANOTHER)


def _end_all(error: BaseException) -> NoReturn:
    """Tell the others why, and end as `run_command` would, but at once: JAX would wait for them at exit."""
    client, me = runtime().client, runtime().process_id
    text = str(error).partition("\n")[0]
    text = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    code = _report(error)
    try:
        reason = f"process {me} ({socket.gethostname()}) failed: {text}"
        client.key_value_set(f"{_STORE}end", reason, allow_overwrite=True)
        _go(client, me, set(range(1, runtime().num_processes)))
    except jax.errors.JaxRuntimeError:
        pass  # process 0 is gone, and JAX ends them all
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _report(error: BaseException) -> int:
    """Tell it as a command does; the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    line, code = explain(error) or ("".join(traceback.format_exception(error)).rstrip(), 1)
    _last_words(line)
    return code


def _go(client: Any, me: int, expected: set[int]) -> None:
    """Say that this process leaves. Process 0, which holds the store, goes last: when the others have read why."""
    client.key_value_set(f"{_STORE}left/{me}", "", allow_overwrite=True)
    end = time.monotonic() + _PATIENCE
    while me == 0 and time.monotonic() < end:
        left = {int(key.rpartition("/")[2]) for key, _ in client.key_value_dir_get(f"{_STORE}left/")}
        if expected <= left:
            return
        time.sleep(0.1)


def _last_words(line: str) -> None:
    sys.stdout.flush()
    _LOG.error(line)


_meetings: dict[str, int] = {}


def barrier(name: str, timeout: float | None = MEETING_TIMEOUT, among: Sequence[int] | None = None) -> None:
    """Wait until every process has come here; None: as long as they live.

    Args:
      among: the processes that come; None: all.

    Raises:
      TimeoutError: one did not come within `timeout` seconds.
    """
    if runtime().client is None:
        return
    _meetings[name] = _meetings.get(name, 0) + 1
    try:
        runtime().client.wait_at_barrier(f"{_STORE}{name}/{_meetings[name]}", _milliseconds(timeout), among)
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        raise TimeoutError(f"barrier {name!r}: not every process came within {timeout} s") from None


def _milliseconds(timeout: float | None) -> int:
    """Of seconds; None: as long as anything lives."""
    return int(1000 * (7 * 86400 if timeout is None else timeout))


def _meet(program: str, devices: np.ndarray, timeout: int) -> None:
    """Before processes first run a program together, wait until all have compiled it: Gloo, by which CPUs talk, gives
    up after 30 s, and one process may find in its compile cache what another compiles for minutes.

    Raises:
      UserError: one is not ready within `timeout` seconds.
    """
    processes = sorted({device.process_index for device in devices.flat})
    if devices.flat[0].platform != "cpu" or len(processes) == 1:
        return
    try:
        barrier(f"{program} of {','.join(map(str, processes))}", timeout, processes)
    except TimeoutError:
        raise UserError(
            f"{timeout}: {program} is not compiled in all processes by then; give more", field="compile_timeout"
        ) from None


def from_main(name: str, value: str, timeout: float | None = MEETING_TIMEOUT) -> str:
    """Process 0's `value`, in every process: what is drawn or looked up must be the same in all of them.

    Args:
      timeout: seconds for which the others wait for it; None: as long as they live.
    """
    if runtime().client is None:
        return value
    _meetings[name] = _meetings.get(name, 0) + 1
    key = f"talkverse_jax_values/{name}/{_meetings[name]}"
    if is_main():
        runtime().client.key_value_set(key, value)
        return value
    return runtime().client.blocking_key_value_get(key, _milliseconds(timeout))


def check_same(name: str, value: str) -> None:
    """Make sure that every process was given the same; all of them must come here.

    Raises:
      UserError: this process was given something else than process 0.
    """
    if from_main(name, value) != value:
        raise UserError(f"{name}: not that of process 0; start every process with the same command")


def fetch(
    x: Shaped[Array, "..."], *, everywhere: bool = False, piece_bytes: int = _PIECE
) -> Shaped[np.ndarray, "..."] | None:
    """An array of all processes in the memory of process 0; the others take part and get None.

    Args:
      everywhere: every process gets it.
      piece_bytes: how much of the array may lie on each device at a time while it is gathered.
    """
    wanted = everywhere or is_main()
    if not x.size:
        return np.zeros(x.shape, x.dtype) if wanted else None
    if x.is_fully_addressable or x.is_fully_replicated:
        whole = x if x.is_fully_addressable else x.addressable_data(0)
        return np.asarray(whole) if wanted else None
    # Cut along the longest axis of a shard, all shards alike: whichever axes are split, a cut moves nothing.
    shard = x.sharding.shard_shape(x.shape)
    axis = int(np.argmax(shard))
    length, parts = shard[axis], x.shape[axis] // shard[axis]
    size = max(1, min(length, piece_bytes * length // x.nbytes))
    by_shard = (*x.shape[:axis], parts, length, *x.shape[axis + 1 :])
    before = (slice(None),) * (axis + 1)
    result = np.empty(by_shard, x.dtype) if wanted else None
    for start in range(0, length, size):
        start = min(start, length - size)  # the last piece overlaps its neighbour: one program for all
        piece = _piece(x, np.int32(start), sharding=x.sharding, axis=axis, size=size)
        piece = jax.block_until_ready(piece.addressable_data(0))  # one at a time
        if result is not None:
            target = result[*before, start : start + size]
            target[...] = np.asarray(piece).reshape(target.shape)
    return None if result is None else result.reshape(x.shape)


@partial(jax.jit, static_argnames=("sharding", "axis", "size"))
def _piece(x: Array, start: Array, *, sharding: NamedSharding, axis: int, size: int) -> Array:
    """`size` entries of every shard along `axis`, one shard's after the other's, whole on every device."""
    mesh, spec = sharding.mesh, sharding.spec
    # In shard_map, because XLA on its own gathers the whole array and cuts then.
    cut = jax.shard_map(
        lambda shard, start: jax.lax.dynamic_slice_in_dim(shard, start, size, axis),
        mesh=mesh,
        in_specs=(spec, PartitionSpec()),
        out_specs=spec,
    )
    return jax.lax.with_sharding_constraint(cut(x, start), NamedSharding(mesh, PartitionSpec()))
