"""One process at a time: locks of files and folders, which end with the process that holds them, however it ends."""

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from talkverse_jax.core.errors import UserError, naming

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # of file systems that have none


@contextmanager
def locked(path: Path, held: str) -> Iterator[None]:
    """Hold a lock file while the block lasts. It is removed afterwards; one that a killed process left is taken over.

    On a file system without locks the block runs unprotected.

    Args:
      path: of the lock file; its folder is there.
      held: the message where another process has it: what that one does, and what to do.

    Raises:
      UserError: another process has it; with `held`, and its number and machine where they are known. Or something
        else than a file stands there.
    """
    handle = _take(path, held)
    try:
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock ends, or the file could be the next one's
        os.close(handle)


def _take(path: Path, held: str) -> int:
    while True:
        with naming(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise UserError(f"{path}: a pipe or a device stands where a file will be written; remove it")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return handle
            holder = os.pread(handle, 1000, 0)
            os.close(handle)
            if not isinstance(error, BlockingIOError):
                raise OSError(error.errno, error.strerror, str(path)) from None
            raise UserError(f"{held}{_who(holder)}") from None
        if _is_it(handle, path):
            return handle
        os.close(handle)  # whoever had it has just removed the file


def _is_it(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _who(holder: bytes) -> str:
    try:
        told = json.loads(holder)
        return f" (process {int(told['pid'])} on {told['host']})"
    except (ValueError, KeyError, TypeError):
        return ""
