"""The one exception that a command turns into one line and exit code 2."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkverse_jax.core import memory

_LONGEST_SHOWN = 200  # characters
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # of an `OSError`: the disk, or a person's share of it, is full
_OF_XLA = ("JaxRuntimeError", "XlaRuntimeError")  # by name: what imports this file need not import JAX
_REMEDIES = {
    errno.ENOSPC: "make room or choose another place",
    errno.EDQUOT: "make room or choose another place",
    errno.EROFS: "choose another place",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
    errno.ENOTDIR: "a file stands where a folder should be; give another path",
    errno.EISDIR: "a folder stands where a file should be; give another path",
    errno.EEXIST: "a file stands where a folder should be; give another path",
    errno.ELOOP: "a link stands where a file will be written; remove it",
    errno.ENAMETOOLONG: "give a shorter name",
}


class UserError(Exception):
    """Something the user gave cannot be used.

    The message is one line: the file or flag, what is wrong with it, and what to do. Where tensors do not fit a
    model, a list of them follows.

    Attributes:
      reason: what is wrong and what to do.
      field: the option that is wrong, where it is one: a command shows it as a flag, a server as a parameter.
      where: the file or call that the option's value came from; None where it was a flag.
    """

    def __init__(self, reason: str, *, field: str | None = None, where: str | None = None):
        if where is not None:
            line = f"{where}: {field}: {reason}" if field else f"{where}: {reason}"
        else:
            line = f"--{field} {reason}" if field else reason
        super().__init__(line)
        self.reason, self.field, self.where = reason, field, where


def brief(value: Any) -> str:
    """A value of the user's as a message shows it: on one line, and not at any length."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def remedy_of(number: int | None) -> str | None:
    """What a person can do about an `OSError` of that number; None where nobody can."""
    return _REMEDIES.get(number or 0)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An `OSError` in the block gets the file's name: that of a full disk, raised in a write, has none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised for, also where that is not to be shown."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def disk_is_full(error: BaseException) -> bool:
    """Whether an error came of a full disk, however it was told."""
    return any(isinstance(cause, OSError) and cause.errno in NO_ROOM for cause in causes(error))


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that the machine's memory or a device's was too small, however it was raised.

    A full disk is none of it, nor a kernel that asks for more of a core's own memory than there is.
    """
    return _lack_of_memory(error) is not None


def _lack_of_memory(error: BaseException | None) -> BaseException | None:
    """The error that says so, which may be the cause of another."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return error
    if error is None or isinstance(error, UserError):  # whoever raised that one knew the cause
        return None
    text = str(error)
    exhausted = type(error).__name__ in _OF_XLA and "RESOURCE_EXHAUSTED" in text and "vmem" not in text
    return error if exhausted else _lack_of_memory(error.__cause__)


def explain(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code with which a command ends; None where the error is the program's own."""
    if isinstance(error, UserError):
        return f"error: {error}", 2
    if isinstance(error, KeyboardInterrupt):
        return ": ".join(["interrupted", *map(str, error.args)]), 130
    if isinstance(error, OSError) and error.filename and error.errno in _REMEDIES:
        return f"error: {error.filename}: {error.strerror}; {_REMEDIES[error.errno]}", 2
    if lack := _lack_of_memory(error):
        return f"error: {memory.too_small(lack)}", 2
    return None
