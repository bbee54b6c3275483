"""The folder of a batch, which workers on several machines share: on a disk or in a bucket.

Everything a worker does to it is one atomic step: a file is there whole or not at all, and of those who create the
same file one is told that it did. On a disk that is a rename and a hard link, in a bucket (`gs://`, `s3://`,
through fsspec) a put, and a put on the condition that nothing is there.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import fsspec

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import is_remote
from talkverse_jax.core.paths import expanded, new_folder


class Store(Protocol):
    """Files by name; names may have one folder in them."""

    def scratch(self, name: str) -> Path:
        """A folder on a disk of this machine, for files that are about to be published."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that must not be there; False where it is."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file or replace it."""
        ...

    def publish(self, file: Path, name: str) -> None:
        """Move a finished file from the scratch folder here, or replace what is here."""
        ...

    def read(self, name: str) -> bytes | None:
        """What is in a file; None where there is none."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """The files in a folder, without its name."""
        ...

    def remove(self, folder: str) -> None:
        """Remove a folder and all in it, as far as it is there."""


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
        self._root = root

    def scratch(self, name: str) -> Path:
        return new_folder(self._root / name)

    def create(self, name: str, data: bytes) -> bool:
        target, whole = self._root / name, self._whole(name, data)
        try:
            os.link(whole, target)
            return True
        except FileExistsError:
            return False
        finally:
            whole.unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> None:
        os.replace(self._whole(name, data), self._root / name)

    def _whole(self, name: str, data: bytes) -> Path:
        """The file under a name of its own, where its folder is."""
        folder = (self._root / name).parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".new-", delete=False) as file:
            file.write(data)
        os.chmod(file.name, 0o644)
        return Path(file.name)

    def publish(self, file: Path, name: str) -> None:
        os.replace(file, self._root / name)

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return (self._root / name).read_bytes()

    def names(self, folder: str = "") -> list[str]:
        with suppress(FileNotFoundError):
            return [name for name in os.listdir(self._root / folder) if not name.startswith(".new-")]
        return []

    def remove(self, folder: str) -> None:
        shutil.rmtree(self._root / folder, ignore_errors=True)


class _Bucket:
    def __init__(self, system: fsspec.AbstractFileSystem, root: str):
        self._system, self._root = system, root.rstrip("/")

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

    def publish(self, file: Path, name: str) -> None:
        with suppress(FileExistsError):  # another worker's, with the same bytes
            self._system.put_file(str(file), f"{self._root}/{name}", mode="create")
        file.unlink()

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return self._system.cat_file(f"{self._root}/{name}")  # pyright: ignore[reportReturnType]  # bytes of a file

    def names(self, folder: str = "") -> list[str]:
        self._system.invalidate_cache()
        with suppress(FileNotFoundError):
            paths = self._system.ls(f"{self._root}/{folder}".rstrip("/"), detail=False)
            return [path.rstrip("/").rpartition("/")[2] for path in paths]
        return []

    def remove(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            self._system.rm(f"{self._root}/{folder}", recursive=True)
