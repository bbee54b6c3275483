"""Files of a data set, on a disk or in a bucket (`gs://`, `s3://`: through etils' epath)."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from etils import epath

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import expanded, on_disk


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether the path has a scheme, such as gs://."""
    return "://" in str(path)


def join(base: str, path: str) -> str:
    """The path below `base`, unless it is absolute or has a scheme; where there is no such file, with the \\ of
    Windows as /.
    """
    joined = _joined(base, path)
    if "\\" in path and not is_remote(joined) and not os.path.lexists(on_disk(joined)):
        return _joined(base, path.replace("\\", "/"))
    return joined


def _joined(base: str, path: str) -> str:
    if not base or is_remote(path):
        return path
    return str(expanded(base) / path) if not is_remote(base) else f"{base.rstrip('/')}/{path.lstrip('/')}"


def exists(path: str) -> bool:
    """Whether there is such a file.

    Raises:
      UserError: the store cannot be asked, or there is no such user's home.
    """
    with _errors(path, "the file"):
        return _place(path).exists()


@contextmanager
def open_file(path: str | Path, what: str) -> Iterator[IO[bytes]]:
    """Open a file for reading.

    Args:
      what: what the file should hold, for the message: "a metadata CSV".

    Raises:
      UserError: no such file, or it cannot be read.
    """
    with _errors(str(path), what):
        file = _place(path).open("rb")
    with file:
        yield file


def regular_file(path: str | Path, what: str) -> Path:
    """The path, from the root, of a file on a disk that is no named pipe, device or socket: those may wait for ever.

    Args:
      what: what the file should hold, for the message: "a picture", "a sound".

    Raises:
      UserError: there is no such file, or it is a folder, empty, or no file at all.
    """
    file = on_disk(expanded(path).absolute())
    try:
        found = file.stat()
    except (OSError, ValueError):  # also for a name that is too long
        raise UserError(f"{path}: no such file; give the file of {what}") from None
    if (kind := stat.S_IFMT(found.st_mode)) != stat.S_IFREG:
        raise UserError(f"{path}: is {_NO_FILES.get(kind, 'no file')}; give the file of {what}")
    if not found.st_size:
        raise UserError(f"{path}: the file is empty; give the file of {what}")
    return file


_NO_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | Path, what: str) -> io.FileIO:
    """Open a `regular_file` for reading, unbuffered.

    Raises:
      UserError: as of `regular_file`, or it may not be read.
    """
    file = regular_file(path, what)
    try:
        opened = io.FileIO(file, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except OSError as error:
        why = "check its permissions" if isinstance(error, PermissionError) else error.strerror
        raise UserError(f"{path}: may not be read; {why}") from None
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):  # another has taken its name since
        opened.close()
        raise UserError(f"{path}: is no file any more; give the file of {what}")
    return opened


def _place(path: str | Path) -> epath.Path:
    """Where the file is.

    Raises:
      UserError: no program knows such addresses, or there is no such user's home.
    """
    if not is_remote(path):
        return epath.Path(on_disk(expanded(path)))
    try:
        return epath.Path(path)
    except KeyError:  # of epath's schemes
        scheme = str(path).partition("://")[0]
        raise UserError(f"{path}: {scheme}:// is no kind of store; give a path, or gs:// or s3://") from None


@contextmanager
def _errors(path: str, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the file of {what}") from None
    except ImportError as error:  # fsspec names the package
        raise UserError(f"{path}: files of this kind need another package ({error}); install it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as {what} ({error})") from None
