"""Whose fault an error is."""

import errno
import os

import av.error
import jax
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.run.batch.faults import Failure, MachineFault, of_machine


def works() -> None:
    pass


def refused() -> None:
    raise OSError(errno.EACCES, "Permission denied")


def wrapped(cause: BaseException) -> UserError:
    """As `VideoWriter` tells it."""
    try:
        try:
            raise cause
        except Exception:
            raise UserError("x.mp4: cannot be written") from None
    except UserError as error:
        return error


def error_of(number: int) -> OSError:
    return OSError(number, os.strerror(number), "out/x.mp4")


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EMFILE", "ENFILE"])
def test_of_the_machine_wherever_it_is_raised(name):
    number = getattr(errno, name)
    for error, write in ((error_of(number), None), (error_of(number), works), (wrapped(error_of(number)), works)):
        fault = of_machine(error, write)
        assert str(fault).startswith(f"out/x.mp4: {os.strerror(number)}; ") and "\n" not in str(fault)
        assert str(fault).endswith("; the same command makes what is missing")


@pytest.mark.parametrize("name", ["EACCES", "EPERM", "EIO", "ESTALE"])
def test_of_the_machine_where_it_is_of_the_output(name):
    error = error_of(getattr(errno, name))
    assert of_machine(error) is None  # a source that may not be read is an item's
    assert isinstance(of_machine(error, works), MachineFault)
    assert of_machine(wrapped(error), works) is None  # a source again: the output can be written
    assert isinstance(of_machine(wrapped(error), refused), MachineFault)


def test_of_ffmpegs_writer():
    with pytest.raises(av.error.FFmpegError) as caught:
        av.error.err_check(-errno.ENOSPC)
    assert isinstance(of_machine(wrapped(caught.value), works), MachineFault)


@pytest.mark.parametrize(
    "text, lost",
    [
        ("UNAVAILABLE: TPU worker is gone", True),
        ("INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access", True),
        ("INVALID_ARGUMENT: shapes differ", False),
        ("RESOURCE_EXHAUSTED: out of memory, CUDA_ERROR_OUT_OF_MEMORY", False),
    ],
)
def test_of_a_device(text, lost):
    fault = of_machine(jax.errors.JaxRuntimeError(text))
    assert (fault is not None) == lost and (not lost or "a device is lost (" in str(fault))


@pytest.mark.parametrize(
    "error", [KeyError("https://"), RuntimeError("avif"), UserError("a.png: damaged"), MemoryError()]
)
def test_of_an_item(error):
    assert of_machine(error) is of_machine(error, works) is None


def test_a_failure_is_one_line_and_what_nobody_foresaw_has_its_trace():
    try:
        raise RuntimeError("one\ntwo")
    except RuntimeError as error:
        failure = Failure.of(error)
    assert failure.error == "RuntimeError: one" and 'RuntimeError("one' in failure.trace
    assert Failure.of(UserError("a.png: damaged")) == Failure("a.png: damaged")
    assert Failure.of(MemoryError()).error == "MemoryError"
