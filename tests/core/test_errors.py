import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkverse_jax.cli.command import run_command
from talkverse_jax.core import memory
from talkverse_jax.core.errors import UserError, explain, naming, out_of_memory

_MUCH = 2**50  # bytes


def _raise(error):
    raise error


@pytest.mark.parametrize(
    "error, code, line",
    [
        (UserError("a.wav: is empty; give another"), 2, "error: a.wav: is empty; give another"),
        (OSError(28, "No space left on device", "out.json"), 2, "error: out.json: No space left on device; "),
        (IsADirectoryError(21, "Is a directory", "out.json"), 2, "error: out.json: Is a directory; a folder st"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_one_line_and_an_exit_code(capsys, error, code, line):
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: _raise(error))
    assert stop.value.code == code
    assert capsys.readouterr().err.startswith(line)


def test_an_option_is_shown_as_a_flag_or_as_a_key():
    error = UserError("0: give 1 or more", field="steps")
    assert (str(error), error.reason, error.field) == ("--steps 0: give 1 or more", "0: give 1 or more", "steps")
    assert str(UserError("0: give 1 or more", field="steps", where="run.toml")) == "run.toml: steps: 0: give 1 or more"


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), OSError(5, "Input/output error", "x")])
def test_our_own_faults_keep_their_traceback(error):
    with pytest.raises(type(error)):
        run_command(lambda: _raise(error))


def test_an_error_gets_the_name_it_lacks():
    with pytest.raises(OSError) as error, naming("out.json"):
        raise OSError(28, "No space left on device")
    assert (error.value.errno, error.value.filename) == (28, "out.json")


@pytest.mark.parametrize(
    "take",
    [
        lambda: jnp.zeros(_MUCH, jnp.uint8),
        lambda: jax.jit(lambda x: jnp.outer(x, x) @ jnp.outer(x, x))(jnp.ones(2**22)).block_until_ready(),
        lambda: np.zeros(_MUCH, np.uint8),
        lambda: bytes(_MUCH),
    ],
)
def test_memory_that_was_too_small_is_known_by_its_error(take):
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        take()
    wrapped = Exception("from a reader's thread")
    wrapped.__cause__ = raised.value
    assert out_of_memory(raised.value) and out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        None,
        OSError(28, "No space left on device", "x"),
        RuntimeError("RESOURCE_EXHAUSTED: Failed writing 32 bytes; No space left on device"),  # as ArrayRecord says it
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem"),
    ],
)
def test_other_errors_are_no_lack_of_memory(error):
    assert not out_of_memory(error)


def test_whoever_told_a_reason_has_known_the_lack_of_memory():
    told = UserError("p.png: 2000000 pixels high; give a smaller one")
    told.__cause__ = MemoryError()
    assert not out_of_memory(told)


@pytest.mark.parametrize(
    "take, asked",
    [
        (lambda: jnp.zeros(_MUCH, jnp.uint8), "out of memory allocating 1125899.9 GB"),
        (lambda: np.zeros(_MUCH, np.uint8), "unable to allocate 1.00 PiB for an array with shape"),
        (lambda: bytes(_MUCH), "the machine has no more"),
    ],
)
def test_a_lack_of_memory_is_one_line(capsys, take, asked):
    memory.advise(["--offload_model true", "--size_bucket (smaller sizes)"])
    with pytest.raises(SystemExit) as stop:
        run_command(take)
    memory.advise(())
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and line.startswith(f"error: not enough memory: {asked}")
    assert re.search(r"; this machine has [\d.]+ GB, [\d.]+ GB free; to need less, the cheapest first: --offl", line)


def test_what_a_device_has_is_told(monkeypatch):
    memory.advise(())
    device = types.SimpleNamespace(device_kind="TPU v5e", memory_stats=lambda: {"bytes_limit": 16_000_000_000})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    text = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm.\n\nTotal: ..."
    line, _ = explain(jax.errors.JaxRuntimeError(text)) or ("", 0)
    wanted = (
        "not enough memory: ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm; a device (TPU v5e) has"
    )
    assert line.startswith(f"error: {wanted} 16.0 GB, this machine has") and line.endswith("take a machine with more")
