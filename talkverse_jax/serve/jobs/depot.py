"""The files of jobs where fronts and workers share a folder or a bucket (`s3://`, `gs://`: through fsspec).

Each process works in a scratch folder of its own, and copies what counts:

videos/ID/inputs/NAME   by the front, before the job's row is written
videos/ID/SHELF/NAME    by a worker, before the row says that a clip counts, and which shelf does

A shelf is of one try by one worker, so that nothing of a worker that died, or was thought to have, is ever taken for
what another made.
"""

import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import is_remote
from talkverse_jax.core.paths import expanded, new_folder, publish
from talkverse_jax.media.video_writer import partial_file
from talkverse_jax.serve.jobs.folders import FRAGMENTS, VIDEO, Folders
from talkverse_jax.serve.jobs.job import Playable, StoredFile

_PIECE = 1 << 18  # bytes that are read at a time
_INPUTS = "inputs"
_PARTIAL = partial_file(Path(VIDEO)).name


class Depot(Folders):
    """Files in a store, and a scratch folder.

    Args:
      address: of the store: a folder, or an address.
      scratch: a folder that nobody else has.

    Raises:
      UserError: the store cannot be used.
    """

    def __init__(self, address: str, scratch: Path):
        super().__init__(scratch)
        self._store = _open(address)
        self._kept: dict[str, dict[str, tuple[int, int]]] = {}  # by job and shelf: what lies there as it is here
        self._strange: set[str] = set()

    def accept(self, job: str) -> None:
        for file in _files(self.uploads / job):
            self._store.put(file, f"{job}/{_INPUTS}/{file.name}")
        self.refuse(job)

    def begin(self, job: str, kept: str | None, shelf: str | None) -> Path:
        folder = self._folder(job, shelf)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for part in (_INPUTS, kept):
            for name in self._store.names(f"{job}/{part}") if part else ():
                self._store.fetch(f"{job}/{part}/{name}", folder / name)
        return folder

    def _folder(self, job: str, shelf: str | None) -> Path:
        """In which a try makes a job."""
        return self.jobs / f"{job}.{shelf}"

    def keep(self, job: str, shelf: str, inputs: Collection[str]) -> None:
        kept = self._kept.setdefault(f"{job}/{shelf}", {})
        made = {file.name: file for file in _files(self._folder(job, shelf)) if file.name not in inputs}
        if (fragments := made.pop(FRAGMENTS, None)) is not None:
            made[_PARTIAL] = fragments
        # what speaks of other files comes behind them
        for name, file in sorted(made.items(), key=lambda each: not each[0].endswith(".mp4")):
            now = (file.stat().st_size, file.stat().st_mtime_ns)
            if kept.get(name) != now:
                self._store.put(file, f"{job}/{shelf}/{name}")
                kept[name] = now
        for name in kept.keys() - made.keys():
            self._store.remove(f"{job}/{shelf}/{name}")
            del kept[name]

    def done(self, job: str, shelf: str | None) -> None:
        shutil.rmtree(self._folder(job, shelf), ignore_errors=True)
        self._kept.pop(f"{job}/{shelf}", None)

    def remove(self, job: str) -> None:
        self._store.remove(job)

    def stored(self, job: str, shelf: str | None, name: str) -> StoredFile:
        return self._store.file(f"{job}/{shelf}/{name}")

    def size(self, job: str) -> int:
        return self._store.size(job)

    def playable(self, row: Mapping[Any, Any]) -> Playable | None:
        job, shelf = row["id"], row["shelf"]
        if row["status"] == "completed":
            return Playable(self.stored(job, shelf, VIDEO), row["variants"]["video"]["size"], True, True)
        if shelf is None or not row["playable"]:
            return None
        return Playable(self.stored(job, shelf, _PARTIAL), row["playable"], row["status"] == "failed")

    def tidy(self, known: Collection[str]) -> None:
        """Remove what is of no job that is known, and was of none when this was called last: a request that is being
        admitted is not known yet."""
        strange = {job for job in self._store.names("") if job not in known}
        for job in strange & self._strange:
            self._store.remove(job)
        self._strange = strange


class _Store:
    """Files by name; each is there whole or not at all."""

    def __init__(self, system: Any, root: str, local: bool):
        self._system, self._root, self._local = system, root.rstrip("/"), local

    def put(self, file: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        if not self._local:
            self._system.put_file(str(file), target)
            return
        unfinished = Path(f"{target}.new")
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, unfinished)
        publish(unfinished, Path(target))

    def fetch(self, name: str, path: Path) -> None:
        self._system.get_file(f"{self._root}/{name}", str(path))

    def names(self, folder: str) -> list[str]:
        self._system.invalidate_cache()
        with suppress(FileNotFoundError):
            found = self._system.ls(f"{self._root}/{folder}".rstrip("/"), detail=False)
            return [name for each in found if (name := each.rstrip("/").rpartition("/")[2])]
        return []

    def size(self, folder: str) -> int:
        self._system.invalidate_cache()
        with suppress(FileNotFoundError):
            return self._system.du(f"{self._root}/{folder}")
        return 0

    def remove(self, name: str) -> None:
        self._system.invalidate_cache()
        with suppress(FileNotFoundError):
            self._system.rm(f"{self._root}/{name}", recursive=True)

    def file(self, name: str) -> StoredFile:
        return _Kept(self._system, f"{self._root}/{name}")


class _Kept:
    """A file in a store."""

    def __init__(self, system: Any, path: str):
        self._system, self._path = system, path

    def open(self) -> BinaryIO:
        return self._system.open(self._path, "rb", block_size=_PIECE, cache_type="none")


def _open(address: str) -> _Store:
    """Raises:
    UserError: it cannot be used.
    """
    if not is_remote(address):
        folder = new_folder(expanded(address)).absolute()
        with suppress(PermissionError):  # another user's, who has let us in
            folder.chmod(0o700)
        return _Store(fsspec.filesystem("file"), str(new_folder(folder / "videos")), True)
    try:
        system, root = fsspec.core.url_to_fs(address.rstrip("/"), use_listings_cache=False)
        store = _Store(system, f"{root}/videos", False)
        store.names("")
    except Exception as error:  # of many kinds, by the kind of store
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{address}: cannot be used ({reason}); check the address and the rights", field="data_dir"
        ) from None
    return store


def _files(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_file() and not each.name.startswith(".")]
