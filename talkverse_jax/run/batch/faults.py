"""Whose fault an error is: an item's, which then is one failed item, or the machine's, which ends the worker.

What the machine lacks today (room on the disk, the right to write, a device) it may have tomorrow: nothing is noted as
failed for it. Out of memory is either: see `worker`.
"""

import errno
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from talkverse_jax.core.errors import NO_ROOM, UserError, causes, out_of_memory, remedy_of

_AGAIN = "the same command makes what is missing"
_FULL = {*NO_ROOM, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO}  # a source's or the output's
_REMEDIES = {
    errno.EFBIG: "raise the limit of a file's length (ulimit -f) or choose another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (ulimit -n)",
}
# What XLA says of a device that is gone, and not of a program that it cannot run.
_LOST = ("UNAVAILABLE", "DATA_LOSS", "ABORTED", "DEADLINE_EXCEEDED", "CUDA_ERROR", "device lost", "ECC error")
_OF_XLA = ("JaxRuntimeError", "XlaRuntimeError")


class MachineFault(UserError):
    """The worker cannot go on on this machine; no item is to blame."""


@dataclass(frozen=True)
class Failure:
    """Why an item cannot be made.

    Attributes:
      trace: what a developer needs of an error that nobody foresaw; "" where the line tells all.
    """

    error: str
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        foreseen = isinstance(error, UserError)
        return cls(line(error), "" if foreseen else "".join(traceback.format_exception(error)))


def of_machine(error: BaseException, write: Callable[[], None] | None = None) -> MachineFault | None:
    """The error as the machine's fault, where it is that.

    Args:
      write: tries to write a little where results go; None where the error comes from reading an item's files.
    """
    if isinstance(error, MachineFault):
        return error
    for cause in causes(error) if write or not isinstance(error, UserError) else ():
        number = getattr(cause, "errno", None)
        if number in _FULL or (number in _REFUSED and write and (cause is error or _fails(write))):
            where = getattr(cause, "filename", None)
            remedy = _REMEDIES.get(number) or remedy_of(number) or "look at the disk and its connection"
            name = f"{where}: " if where else ""
            return MachineFault(f"{name}{getattr(cause, 'strerror', None) or cause}; {remedy}; {_AGAIN}")
        if type(cause).__name__ in _OF_XLA and any(word in str(cause) for word in _LOST) and not out_of_memory(cause):
            return MachineFault(f"a device is lost ({line(cause)}); see to it, or choose another; {_AGAIN}")
    return None


def _fails(write: Callable[[], None]) -> bool:
    try:
        write()
    except OSError:
        return True
    return False


def short_of_memory(reason: str) -> MachineFault:
    """Out of memory, where it is not one item's: the worker's end."""
    remedy = "end what else uses it, or give --t5_cpu, a smaller --batch_size, a smaller --size_bucket"
    return MachineFault(f"out of memory ({reason}); {remedy}; {_AGAIN}")


def line(error: BaseException) -> str:
    """An error as one line for people."""
    text = " ".join(str(error).partition("\n")[0].split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".rstrip(": ")
