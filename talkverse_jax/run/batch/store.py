"""The folder of a batch, which workers on several machines share: on a disk or in a bucket.

Everything a worker does to it is one atomic step: a file is there whole or not at all, and of those who create the
same file one is told that it did. On a disk that is a rename and a hard link, in a bucket (`gs://`, `s3://`,
through fsspec) a put, and a put on the condition that nothing is there. On a disk a file is synced before it gets its
name, and its folder after that. What a worker that dies leaves unfinished lies in the folder of the work, never beside
the results.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import fsspec

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.files import is_remote
from talkverse_jax.core.paths import expanded, new_folder, publish, sync

_TRIES = 5  # while others remove the folder that is written to
_OLD = 3600.0  # seconds after which a file that an older version left unfinished is nobody's


class Store(Protocol):
    """Files by name; names may have folders in them.

    Attributes:
      work: the folder in it for what is there while work goes on.
    """

    work: str

    def scratch(self, name: str) -> Path:
        """A folder on a disk of this machine, for files that are about to be published."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that must not be there; False where it is."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file or replace it."""
        ...

    def publish(self, file: Path, name: str, instead: bool = False) -> bool:
        """Move a finished file from the scratch folder here; False, and it is removed, where one is here.

        Args:
          instead: replace what is here.
        """
        ...

    def read(self, name: str) -> bytes | None:
        """What is in a file; None where there is none."""
        ...

    def local(self, name: str) -> Path | None:
        """Where a file is on a disk of this machine; None in a bucket."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """The files in a folder, without its name."""
        ...

    def age(self, folder: str) -> float | None:
        """Seconds since anything in a folder changed; None where nobody can tell."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and all in it, as far as it is there; and the folder that this leaves empty."""
        ...

    def tidy(self) -> None:
        """Remove what writers of older versions have left unfinished beside the results."""
        ...

    def knows_case(self) -> bool:
        """Whether `a` and `A` are two files."""
        ...


def open_store(path: str) -> Store:
    """The store at a path or an address.

    Raises:
      UserError: it cannot be made, or the package for such addresses is missing.
    """
    if not is_remote(path):
        return _Disk(new_folder(expanded(path)))
    try:
        return _Bucket(*fsspec.core.url_to_fs(path))
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"--output_dir {path}: cannot be opened ({error})") from None


class _Disk:
    def __init__(self, root: Path):
        self._root, self.work = root, ".work"

    def scratch(self, name: str) -> Path:
        return new_folder(self._root / name)

    def create(self, name: str, data: bytes) -> bool:
        return self._placed(name, data, _link)

    def write(self, name: str, data: bytes) -> None:
        self._placed(name, data, _replace)

    def _placed(self, name: str, data: bytes, place: Callable[[Path, Path], bool]) -> bool:
        target = self._root / name
        for attempt in range(_TRIES):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with _unfinished(new_folder(self._root / self.work / "new")) as whole:
                    whole.write_bytes(data)
                    return place(whole, target)
            except FileNotFoundError:  # the last of the others has just removed the folder of the work
                if attempt + 1 == _TRIES:
                    raise
        raise AssertionError

    def publish(self, file: Path, name: str, instead: bool = False) -> bool:
        placed = (_replace if instead else _link)(file, self._root / name)
        file.unlink(missing_ok=True)
        return placed

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return (self._root / name).read_bytes()

    def local(self, name: str) -> Path | None:
        return self._root / name

    def size(self, name: str) -> int | None:
        with suppress(FileNotFoundError):
            return (self._root / name).stat().st_size

    def names(self, folder: str = "") -> list[str]:
        with suppress(FileNotFoundError):
            return [name for name in os.listdir(self._root / folder) if not name.startswith(".new-")]
        return []

    def age(self, folder: str) -> float | None:
        with suppress(FileNotFoundError):  # while its workers are at it
            changed = [path.lstat().st_mtime for path in (self._root / folder, *(self._root / folder).rglob("*"))]
            return time.time() - max(changed)

    def remove(self, name: str) -> None:
        path = self._root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if path.parent != self._root:
            with suppress(OSError):  # not the last
                path.parent.rmdir()

    def tidy(self) -> None:
        for file in self._root.glob(".new-*"):
            with suppress(OSError):  # another worker's look came first
                if time.time() - file.lstat().st_mtime > _OLD:
                    file.unlink()

    def knows_case(self) -> bool:
        name = f"{self.work}/case-a"
        self.write(name, b"")
        try:
            return not (self._root / self.work / "CASE-A").exists()
        finally:
            self.remove(name)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A name for a file that is being written."""
    handle, name = tempfile.mkstemp(dir=folder)
    os.fchmod(handle, 0o644)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _replace(whole: Path, target: Path) -> bool:
    with naming(target):
        publish(whole, target)
    return True


def _link(whole: Path, target: Path) -> bool:
    """As `publish`, where nothing stands under the name."""
    sync(whole)
    try:
        os.link(whole, target)
    except FileExistsError:
        return False
    sync(target.parent)
    return True


class _Bucket:
    def __init__(self, system: fsspec.AbstractFileSystem, root: str):
        self._system, self._root, self.work = system, root.rstrip("/"), ".work"

    def scratch(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix="talkverse_jax_"))

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._system.pipe_file(f"{self._root}/{name}", data, mode="create")
            return True
        except FileExistsError:
            return False

    def write(self, name: str, data: bytes) -> None:
        self._system.pipe_file(f"{self._root}/{name}", data)

    def publish(self, file: Path, name: str, instead: bool = False) -> bool:
        try:
            self._system.put_file(str(file), f"{self._root}/{name}", mode="overwrite" if instead else "create")
            return True
        except FileExistsError:
            return False
        finally:
            file.unlink()

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return self._system.cat_file(f"{self._root}/{name}")  # pyright: ignore[reportReturnType]  # bytes of a file

    def local(self, name: str) -> Path | None:
        return None

    def size(self, name: str) -> int | None:
        self._system.invalidate_cache()
        with suppress(FileNotFoundError):
            return self._system.size(f"{self._root}/{name}")

    def names(self, folder: str = "") -> list[str]:
        self._system.invalidate_cache()
        with suppress(FileNotFoundError):
            paths = self._system.ls(f"{self._root}/{folder}".rstrip("/"), detail=False)
            return [path.rstrip("/").rpartition("/")[2] for path in paths]
        return []

    def age(self, folder: str) -> float | None:
        return None  # stores tell it under many names

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._system.rm(f"{self._root}/{name}", recursive=True)

    def tidy(self) -> None:
        pass  # a put leaves nothing

    def knows_case(self) -> bool:
        return True
