"""The files of a checkpoint as Orbax writes them, and their checksums.

Each item of a checkpoint has `checksums`, which the main process wrote; the state has a `checksums.process_N` besides
for the arrays that a process wrote. All is on the disk before the checkpoint gets its name. A bucket has its own
checksums. To look at them takes a sixth of the processor time of reading a checkpoint that the page cache holds.
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.future import ChainedFuture

from talkverse_jax.core import checksums
from talkverse_jax.core.files import is_remote

STATE, META = "state", "meta"
_LIST, _PROCESS = "checksums", "ocdbt.process_"  # of what one process writes, by Orbax's name


def state_handler(kind: type = ocp.PyTreeCheckpointHandler) -> Any:
    """Arrays one by one, each in parts as devices hold them."""
    return kind(use_ocdbt=True, use_zarr3=True, use_compression=False)


def writers() -> ocp.handlers.CheckpointHandlerRegistry:
    """What writes the items of a checkpoint."""
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    registry.add(STATE, ocp.args.PyTreeSave, state_handler(_StateWriter))
    registry.add(META, ocp.args.JsonSave, _MetaWriter())
    return registry


def has_checksums(checkpoint: epath.Path) -> bool:
    """Whether damage of a checkpoint's files would be told: older programs kept no checksums."""
    return is_remote(checkpoint) or any((checkpoint / item / _LIST).exists() for item in (STATE, META))


def check_record(checkpoint: epath.Path) -> None:
    """Make sure that the file of `META` is as it was written.

    Raises:
      ValueError, OSError: it is not.
    """
    if not is_remote(checkpoint) and has_checksums(checkpoint):
        checksums.check(Path(checkpoint / META / _LIST))


def check_state(checkpoint: epath.Path) -> None:
    """Make sure that the files of `STATE` are as they were written. Each process looks at a part of them: where there
    are as many as wrote it, at its own.

    Raises:
      ValueError, OSError: one is not.
    """
    if is_remote(checkpoint) or not has_checksums(checkpoint):
        return
    folder = Path(checkpoint / STATE)
    if jax.process_index() == 0:
        checksums.check(folder / _LIST)
    for listing in folder.glob(f"{_LIST}.process_*"):
        if int(listing.name.rpartition("_")[2]) % jax.process_count() == jax.process_index():
            checksums.check(listing)


class _StateWriter(ocp.PyTreeCheckpointHandler):
    @classmethod
    def typestr(cls) -> str:
        """For Orbax: the type that reads it."""
        return ocp.PyTreeCheckpointHandler.typestr()

    async def async_save(self, directory, *args, **kwargs):
        """Every process lists its arrays when they are written: they are in its memory still, and nowhere else."""
        written = await super().async_save(directory, *args, **kwargs) or []
        return [ChainedFuture(written, lambda: self._list_own(directory))]

    def _list_own(self, directory: epath.Path) -> None:
        if not is_remote(directory):
            process = jax.process_index()
            own = Path(directory / f"{_PROCESS}{process}")
            checksums.record(Path(directory / f"{_LIST}.process_{process}"), filter(Path.is_file, own.rglob("*")))

    def finalize(self, directory):
        """The main process, when all have written."""
        super().finalize(directory)
        _list_common(directory)


class _MetaWriter(ocp.JsonCheckpointHandler):
    @classmethod
    def typestr(cls) -> str:
        """For Orbax: the type that reads it."""
        return ocp.JsonCheckpointHandler.typestr()

    def finalize(self, directory):
        super().finalize(directory)
        _list_common(directory)


def _list_common(directory: epath.Path) -> None:
    """List all but what processes have listed."""
    if not is_remote(directory):
        folder = Path(directory)
        files = [path for path in folder.rglob("*") if path.is_file()]
        common = [path for path in files if not path.relative_to(folder).parts[0].startswith(_PROCESS)]
        checksums.record(folder / _LIST, common)
