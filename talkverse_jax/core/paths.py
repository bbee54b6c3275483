"""Files and folders that the user names, checked before they are opened; files that are whole or not there."""

import errno
import json
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError, naming

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # of file systems that sync no folders


def existing_file(path: str | Path, what: str) -> Path:
    """The path of a file.

    Args:
      what: what the file should hold, for the message: "a .safetensors file".

    Raises:
      UserError: there is no such file, or it is a folder.
    """
    file = on_disk(path)
    if os.path.isdir(file):
        raise UserError(f"{path}: is a folder; give the path of {what}")
    if not os.path.isfile(file):
        raise UserError(f"{path}: no such file; give the path of {what}")
    return file


def same_name(name: str) -> str:
    """A name in the form in which names are compared: an `é` is one character or two (macOS writes two)."""
    return unicodedata.normalize("NFC", name)


def expanded(path: str | Path) -> Path:
    """The path with `~` resolved.

    Raises:
      UserError: there is no such user's home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: no such user; give the path in full") from None


def on_disk(path: str | Path) -> Path:
    """The path, with each name in it in the form that the disk has (see `same_name`), as far as there is any."""
    given = Path(path)
    if str(given).isascii() or os.path.lexists(given):
        return given
    found = Path(given.anchor)
    for part in given.parts[1 if given.anchor else 0 :]:
        forms = [found / unicodedata.normalize(form, part) for form in ("NFC", "NFD")]
        found = next((each for each in (found / part, *forms) if os.path.lexists(each)), found / part)
    return found


def check_apart(written: Iterable[Path], read: Iterable[tuple[str, str | Path]], remedy: str) -> None:
    """Make sure that no file that will be written is one that is read, by whatever name: a link, a hard link, another
    spelling.

    Args:
      read: files, and folders with all that is in them, each with what names it: `("--image", "a.png")`.
      remedy: what to do, for the message: "give another --output".

    Raises:
      UserError: one is.
    """
    targets = {identity: path for path in written if (identity := identity_of(path)) is not None}
    for what, given in read if targets else ():
        for file in _files_in(given):
            if (identity := identity_of(file)) and (target := targets.get(identity)):
                raise UserError(f"{target}: is read too ({what} {given}); {remedy}")


def identity_of(path: str | Path) -> tuple[int, int] | None:
    """What tells a file from all others on this machine; None where there is none."""
    try:
        status = os.stat(on_disk(expanded(path)))
    except (OSError, ValueError, UserError):
        return None
    return status.st_dev, status.st_ino


def _files_in(given: str | Path) -> Iterator[str | Path]:
    if not os.path.isdir(folder := on_disk(expanded(given))):
        yield given
    for inside, _, names in os.walk(folder, followlinks=True):
        yield from (os.path.join(inside, name) for name in names)


def is_plain(path: Path) -> bool:
    """Whether a file stands there: no link to one, no folder, no pipe."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def clear(path: Path) -> None:
    """Free a name that is to be written under; of a link the link goes, not the file that it leads to.

    Raises:
      UserError: a folder stands there.
    """
    if path.is_dir() and not path.is_symlink():
        raise UserError(f"{path}: a folder stands where a file will be written; remove it, or give another --output")
    path.unlink(missing_ok=True)


def new_folder(path: str | Path) -> Path:
    """Make a folder for output, and those above it.

    Raises:
      UserError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if os.path.isfile(path) else f"cannot be made ({error.strerror})"
        raise UserError(f"{path}: {reason}; give another folder") from None
    return Path(path)


def json_text(values: Any) -> str:
    """JSON as our files have it."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file; an old one stays whole until the new one is."""
    with replacing(path) as partial:
        partial.write_text(json_text(values), encoding="utf-8")


def partial_of(path: Path) -> Path:
    """What `replacing` writes to."""
    return path.with_name(path.name + ".partial")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends, and is removed when the block fails.

    After a power cut the old file is there or the new one, whole (see `publish`). What stands under the partial name is
    removed first: a link there is not followed.

    Raises:
      OSError: with the name of the file that was to be.
    """
    partial = partial_of(path)
    try:
        with naming(path):
            partial.unlink(missing_ok=True)
            yield partial
            publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def publish(finished: Path, path: Path) -> None:
    """Give a file its final name, in a folder of the same disk. Its contents are on the disk before the name is, and
    the name is when this returns.

    Raises:
      OSError: the disk says that it could not write.
    """
    sync(finished)
    os.replace(finished, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file's contents, or a folder's names, on the disk.

    Raises:
      OSError: the disk says that it could not write.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (error.errno in _NO_SYNC and path.is_dir()):
            raise
    finally:
        os.close(handle)
