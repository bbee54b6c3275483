"""Arrays by path in an Orbax checkpoint: written by blocks of rows, read into any dtype and sharding.

What is written is an ordinary Orbax checkpoint (OCDBT, Zarr 3, nested dicts of arrays) that Orbax alone reads
back. Orbax's own way of writing takes whole arrays and copies them: 9 GB for 6 GB of mapped files.

Each chunk has a CRC-32C, which TensorStore compares when it reads the chunk: a sixth more of its processor time (1 GiB
in the page cache, chunks of 512 KiB, two cores, TensorStore 0.1.86: 0.84 s instead of 0.71).
"""

import asyncio
import functools
import gc
import itertools
import logging
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from orbax.checkpoint import type_handlers

from talkverse_jax.core import heap
from talkverse_jax.core.tree import Flat
from talkverse_jax.weights.lazy import LazyTensor

# A chunk is the least that can be read. Small ones let a device read its shard, by rows or by columns,
# without its neighbours'; too small, their number costs more than they save.
CHUNK_BYTES = 512 * 1024
_SMALL_BYTES = 16 * 1024  # not cut further for the sake of shards
_LONG = 16  # a shorter axis is not one that models are sharded by
_BLOCK_BYTES = 32 * 1024**2  # computed at once
_IN_FLIGHT_BYTES = 256 * 1024**2  # computed, but not on the disk yet
_GROUP_BYTES = 256 * 1024**2  # read at once at most


def write(path: str | Path, leaves: Mapping[str, LazyTensor], progress: Callable[[int], Any] | None = None) -> None:
    """Write a checkpoint to the new folder `path`, which appears when it is complete.

    Args:
      leaves: by slash-separated path, in the order they are to be read in.
      progress: called with the number of bytes written since the last call.
    """
    writer = _LazyTensorHandler({id(leaf): place for place, leaf in enumerate(leaves.values())}, progress)
    registry = type_handlers.create_type_handler_registry(
        (jax.Array, type_handlers.ArrayHandler()), (LazyTensor, writer)
    )
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=True, use_zarr3=True, use_compression=False, type_handler_registry=registry
    )
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(Path(path).resolve(), args=ocp.args.PyTreeSave(_nest(leaves)))


def read(
    path: str | Path,
    leaves: Mapping[str, jax.ShapeDtypeStruct],
    finish: Callable[[str, Any], Any] = lambda _, array: array,
) -> Flat:
    """Read some arrays of a checkpoint; of each, the shards that this machine's devices hold.

    Args:
      leaves: by path the shape, the dtype to read into, and the sharding (None: numpy, in host memory).
      finish: called with each path and array soon after it is read; what it returns is kept instead.

    Raises:
      OSError, ValueError, LookupError: the checkpoint is damaged.
    """
    quieten_orbax()
    path, found = Path(path).resolve(), {}
    # A group is in memory twice: a tenth of what is read, but no smaller than pays (a read starts in 0.05 s).
    parts = list(groups(leaves, min(_GROUP_BYTES, max(_GROUP_BYTES // 8, _bytes(leaves) // 10))))
    with alone(ocp.PyTreeCheckpointHandler()) as checkpointer, _collecting(len(parts) > 1) as collect:
        for group in parts:
            arguments = {name: _restore_args(leaf) for name, leaf in group.items()}
            restore = ocp.args.PyTreeRestore(_nest(group), _nest(arguments), partial_restore=True)
            with _unwrapping():
                tree = checkpointer.restore(path, args=restore)
            found.update({name: finish(name, _find(tree, name)) for name in group})
            del tree
            collect()
    return found


def alone(handler: ocp.CheckpointHandler) -> ocp.Checkpointer:
    """A reader that waits for no other process: one that fails could not tell the others, and one may read where the
    others do not."""
    options = ocp.options.MultiprocessingOptions(
        primary_host=None, active_processes={jax.process_index()}, barrier_sync_key_prefix=str(jax.process_index())
    )
    return ocp.Checkpointer(handler, multiprocessing_options=options)


@functools.cache
def quieten_orbax() -> None:
    """Orbax logs a failure once for each of its threads, with all that led to it, asyncio those of its tasks that
    nobody waited for, and TensorStore calls back into event loops that have ended; what is wrong is told once, by
    us."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    complain = sys.unraisablehook

    def hook(ignored) -> None:
        if str(ignored.exc_value) != "Event loop is closed":
            complain(ignored)

    sys.unraisablehook = hook


@contextmanager
def _unwrapping() -> Iterator[None]:
    """What TensorStore raises: Orbax wraps it in an `Exception` with pages of text."""
    try:
        yield
    except Exception as error:
        if type(error) is Exception and error.__cause__ is not None:
            raise error.__cause__ from None
        raise


@contextmanager
def _collecting(much: bool) -> Iterator[Callable[[], None]]:
    """A function that gives back the memory of what was dropped since the block began: Orbax leaves cycles that
    hold its buffers, and without it memory is twice the arrays'. Where that is not much, it does nothing: to
    collect takes up to half a second."""
    if not much:
        yield lambda: None
        return

    def collect() -> None:
        gc.collect()
        heap.give_back()

    gc.collect()
    gc.freeze()  # what is there already is not searched each time
    try:
        yield collect
    finally:
        gc.unfreeze()


def _restore_args(leaf: jax.ShapeDtypeStruct) -> type_handlers.RestoreArgs:
    if leaf.sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
    return ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)


def shapes(path: str | Path) -> dict[str, jax.ShapeDtypeStruct]:
    """Every array's shape and dtype, by path.

    Raises:
      ValueError: the checkpoint is damaged.
    """
    with alone(ocp.PyTreeCheckpointHandler()) as checkpointer:
        metadata = checkpointer.metadata(Path(path).resolve()).item_metadata
    if metadata is None:
        raise ValueError(f"no list of arrays in {path}")
    leaves, _ = jax.tree.flatten_with_path(metadata.tree)
    return {"/".join(key.key for key in keys): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for keys, leaf in leaves}


def groups(leaves: Mapping[str, jax.ShapeDtypeStruct], nbytes: int) -> Iterator[dict[str, jax.ShapeDtypeStruct]]:
    """The leaves in runs of about `nbytes`, for those who cannot hold all of them at once."""
    total = itertools.accumulate(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves.values())
    for _, run in itertools.groupby(zip(leaves.items(), total), key=lambda pair: pair[1] // nbytes):
        yield dict(item for item, _ in run)


def _bytes(leaves: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves.values())


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The array is halved along its axes in turn until a chunk has at most `CHUNK_BYTES`, and on until every
    long axis is in eight parts, so that eight devices find the borders of their shards between chunks."""
    chunk, cuts = [max(1, length) for length in shape], [0] * len(shape)

    def cut(axes: list[int]) -> None:
        axis = min(axes, key=lambda axis: (chunk[axis] % 2, chunk[axis] < _LONG, cuts[axis], -chunk[axis]))
        chunk[axis], cuts[axis] = -(-chunk[axis] // 2), cuts[axis] + 1

    while math.prod(chunk) * itemsize > CHUNK_BYTES:
        cut([axis for axis, length in enumerate(chunk) if length > 1])
    while math.prod(chunk) * itemsize > _SMALL_BYTES and (
        whole := [axis for axis, length in enumerate(chunk) if length >= _LONG and cuts[axis] < 3]
    ):
        cut(whole)
    return tuple(chunk)


class _LazyTensorHandler(type_handlers.NumpyHandler):
    """Writes `LazyTensor` as Orbax writes numpy arrays, but a block at a time."""

    def __init__(self, order: Mapping[int, int], progress: Callable[[int], Any] | None):
        """`order`: the place of each leaf, by its identity; Orbax sorts them by name."""
        super().__init__(deepcopy_host_arrays=False)
        self._order, self._progress = order, progress

    async def serialize(  # pyright: ignore[reportIncompatibleMethodOverride]  # of another type than arrays
        self,
        values: Sequence[LazyTensor],
        infos: Sequence[type_handlers.ParamInfo],
        args: Sequence[type_handlers.SaveArgs] | None = None,
    ) -> list:
        for info in infos:
            await info.await_path_creation()
        # All arrays are made together: one by one, each would cost OCDBT a commit.
        arrays = await asyncio.gather(
            *(
                ts.open(_spec(value, info), create=True, open=True, context=info.ts_context)
                for value, info in zip(values, infos)
            )
        )
        in_flight: deque[tuple[ts.WriteFutures, int]] = deque()
        waiting = 0
        for value, array in sorted(zip(values, arrays), key=lambda pair: self._order[id(pair[0])]):
            for part in _parts(value):
                block = value.rows(part)
                target = array[part.start : part.start + len(block)] if block.ndim else array
                written = target.write(block, can_reference_source_data_indefinitely=True)
                in_flight.append((written, block.nbytes))
                waiting += block.nbytes
                while waiting > _IN_FLIGHT_BYTES:
                    waiting -= await self._finish(*in_flight.popleft())
        while in_flight:
            await self._finish(*in_flight.popleft())
        return []

    async def _finish(self, write: ts.WriteFutures, nbytes: int) -> int:
        await write
        if self._progress:
            self._progress(nbytes)
        return nbytes


def _spec(value: LazyTensor, info: type_handlers.ParamInfo) -> ts.Spec:
    """Orbax's own place for the array, and chunks of our size."""
    spec = type_handlers.get_json_tspec_write(
        info,
        use_ocdbt=bool(info.is_ocdbt_checkpoint),
        global_shape=value.shape,
        local_shape=value.shape,
        dtype=value.dtype,
        process_index=jax.process_index(),
    )
    chunk = chunk_shape(value.shape, value.dtype.itemsize)
    spec["metadata"] = {
        "shape": value.shape,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    }
    return ts.Spec(spec)


def _parts(value: LazyTensor) -> Iterator[slice]:
    """Slices of whole chunks of rows, about `_BLOCK_BYTES` each."""
    if not value.shape:
        yield slice(0, 0)
        return
    rows, chunk = value.shape[0], chunk_shape(value.shape, value.dtype.itemsize)[0]
    step = max(1, _BLOCK_BYTES * rows // max(1, value.nbytes) // chunk) * chunk
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, leaf in flat.items():
        *folders, name = path.split("/")
        table = nested
        for folder in folders:
            table = table.setdefault(folder, {})
        table[name] = leaf
    return nested


def _find(tree: dict[str, Any], path: str) -> Any:
    for key in path.split("/"):
        tree = tree[key]
    return tree
