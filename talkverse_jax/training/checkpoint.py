"""Checkpoints of a run: written while training goes on, found again whole or not at all.

`FOLDER/<step>/` holds two Orbax items: `state`, the arrays of the state (see `state.stored`) one by one, each in
parts as devices held them; and `meta`, a JSON file with everything else. A folder gets its name when it is complete.
Damage of its files is told by their checksums (see `checkpoint_files`).
"""

import dataclasses
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.files import is_remote
from talkverse_jax.core.paths import sync
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.sharding.distributed import from_main, is_main
from talkverse_jax.training.checkpoint_files import (
    META,
    STATE,
    check_record,
    check_state,
    has_checksums,
    state_handler,
    writers,
)
from talkverse_jax.weights.orbax_io import alone, quieten_orbax

_UNTOLD = {"--optimizer": "adamw"}  # of a run that an older version began
# By these Orbax and TensorStore tell what is wrong with files.
_TROUBLE = (OSError, ValueError, LookupError, TypeError)


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What is saved besides arrays.

    Attributes:
      step: updates made.
      batch: the number of the batch that comes next.
      run: by flag, what a run cannot change once it has begun.
      norms: gradient norms of the last updates of the network that is exported (see `watch`).
      norms_beside: of others, by their names.
      options: all options, for people.
      versions: of the programs that wrote it.
      data: names the file of its samples (see `history`); "" of an older program.
    """

    step: int
    batch: int
    run: dict
    norms: tuple[float, ...]
    options: dict
    versions: dict
    data: str = ""
    norms_beside: dict = dataclasses.field(default_factory=dict)

    def check_continues(self, run: dict[str, Any], where: str) -> None:
        """Make sure that a run can go on from here.

        Raises:
          UserError: it was begun with something else; the message names it all.
        """
        # as JSON gives it back
        wanted, before = _UNTOLD | to_dict(dataclasses.replace(self, run=run))["run"], _UNTOLD | self.run
        differ = [
            f"{name} was {before.get(name)}, now {wanted.get(name)}"
            for name in sorted(before.keys() | wanted.keys())
            if before.get(name) != wanted.get(name)
        ]
        if differ:
            raise UserError(
                f"{where}: holds another run ({'; '.join(differ)}); give what it was begun with, or another "
                "--output_path"
            )


class Checkpoints:
    """The checkpoints in a folder; close it when the run ends.

    Args:
      keep: how many of the last are kept.
      keep_every: besides these, all whose step is a multiple of it; 0: none.
      read_only: nothing is made, nor what a run that goes on has half written removed.
      reporter: is told of damaged ones.

    Raises:
      UserError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int = 1,
        keep_every: int = 0,
        read_only: bool = False,
        reporter: Reporter | None = None,
    ):
        quieten_orbax()
        self._reporter = reporter or Reporter()
        self.folder = epath.Path(folder)
        if "://" not in str(folder):
            self.folder = epath.Path(Path(folder).resolve())
        with self._telling("made"):
            self._manager: Any = ocp.CheckpointManager(
                self.folder,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=None if read_only else keep,
                    keep_period=keep_every or None,
                    save_interval_steps=0 if read_only else 1,
                    cleanup_tmp_directories=not read_only,
                    create=not read_only,
                    read_only=read_only,
                ),
                handler_registry=writers(),
            )

    def steps(self) -> list[int]:
        """Of the complete checkpoints, in order; the same in every process."""
        self._manager.reload()
        steps = from_main("checkpoints", ",".join(map(str, sorted(self._manager.all_steps()))))
        return [int(step) for step in filter(None, steps.split(","))]

    def save(self, state: Any, record: RunRecord) -> None:
        """Begin to write a checkpoint; the state may be changed as soon as this returns.

        Raises:
          UserError: this one or the one before it cannot be written.
        """
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(flatten(state)), meta=ocp.args.JsonSave(to_dict(record)))
        with self._telling("written"):
            self._manager.save(record.step, args=items, force=True)

    def check(self) -> None:
        """Raises UserError where the checkpoint under way cannot be written."""
        with self._telling("written"):
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Until the checkpoint under way is complete.

        Raises:
          UserError: it cannot be written.
        """
        with self._telling("written"):
            self._manager.wait_until_finished()
            if is_main() and not is_remote(self.folder):
                sync(Path(self.folder))  # its name, too

    def close(self) -> None:
        """Let the checkpoint under way come to its end, whatever it is."""
        try:
            self._manager.close()
        except _TROUBLE:
            self._manager = None  # `check` has told

    def check_continues(self, run: dict[str, Any]) -> None:
        """Make sure that the run here is this one, before anything large is loaded; see `RunRecord`."""
        if steps := self.steps():
            record, trouble = self._attempt(lambda: self.read_record(steps[-1]))
            if not trouble:
                record.check_continues(run, str(self.folder / str(steps[-1])))

    def last_record(self) -> RunRecord | None:
        """Of the last checkpoint whose description can be read; None where there is none."""
        for step in reversed(self.steps()):
            record, trouble = self._attempt(lambda step=step: self.read_record(step))
            if not trouble:
                return record
        return None

    def latest(self, abstract: Any, run: dict[str, Any]) -> tuple[Any, RunRecord] | None:
        """The last checkpoint that can be read, onto the mesh at hand; None where there is none.

        A damaged one is told of, renamed to `damaged-<step>`, and the one before it is taken.

        Args:
          abstract: shapes and shardings of the state.
          run: what the run must have been begun with.

        Raises:
          UserError: it was begun with something else, or all are damaged.
        """
        steps, state = self.steps(), None
        for step in reversed(steps):
            record, trouble = self._attempt(lambda step=step: self.read_record(step))
            if not trouble:
                record.check_continues(run, str(self.folder / str(step)))
                _, trouble = self._attempt(lambda step=step: self._check_files(step))
            if not trouble:
                state, trouble = self._attempt(lambda step=step: self.read_state(step, abstract))
            if not trouble:
                return state, record
            if is_main():
                self._reporter.say(f"{self.folder / str(step)}: damaged ({trouble}); now damaged-{step}")
                aside = self.folder / f"damaged-{step}"
                if aside.exists():
                    aside.rmtree()
                (self.folder / str(step)).rename(aside)
            from_main("damaged", "")  # no process goes on before that
            self._manager.reload()
        if steps:
            raise UserError(f"{self.folder}: every checkpoint is damaged; give another --output_path to begin anew")
        return None

    def verify(self, step: int) -> None:
        """Make sure that a checkpoint's files are as they were written.

        Raises:
          UserError: one is not.
        """
        _, trouble = self._attempt(lambda: self._check_files(step))
        if trouble:
            raise UserError(f"{self.folder / str(step)}: damaged ({trouble}); delete it and take another checkpoint")

    def _check_files(self, step: int) -> None:
        folder = self.folder / str(step)
        check_record(folder)
        check_state(folder)
        if is_main() and not has_checksums(folder):
            self._reporter.say(f"{folder}: an older version wrote it, without checksums; damage in it is not seen")

    def read_record(self, step: int) -> RunRecord:
        """What a checkpoint holds besides arrays.

        Raises:
          ValueError, OSError: it is damaged.
        """
        check_record(self.folder / str(step))
        path = self.folder / str(step) / META
        return from_dict(RunRecord, alone(ocp.JsonCheckpointHandler()).restore(path), str(path))

    def arrays(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a checkpoint's arrays, by the names that `flatten` gives."""
        stored = state_handler().metadata(self._state(step)).tree
        return {name: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype) for name, leaf in stored.items()}

    def _state(self, step: int) -> epath.Path:
        return self.folder / str(step) / STATE

    def read_state(self, step: int, abstract: Any) -> Any:
        """The arrays of a checkpoint that `abstract` has, with its shardings: it may have fewer than the whole
        state, or be of another mesh than they were written on.

        Raises:
          UserError: one is not there, or of another shape.
        """
        path, wanted = self._state(step), flatten(abstract)
        shapes = {name: leaf.shape for name, leaf in self.arrays(step).items()}
        for name, leaf in wanted.items():
            if shapes.get(name) != leaf.shape:
                raise UserError(
                    f"{path}: {name} is {shapes.get(name, 'missing')}, not {leaf.shape}; give the flags and the "
                    "weights that the run was begun with"
                )
        arguments = {name: _restore_args(leaf) for name, leaf in wanted.items()}
        read = alone(state_handler()).restore(
            path, args=ocp.args.PyTreeRestore(wanted, arguments, partial_restore=True)
        )
        return jax.tree.unflatten(jax.tree.structure(abstract), [read[name] for name in wanted])

    def _attempt(self, read) -> tuple[Any, str]:
        """What `read` gives, and, where it fails in any process, why."""
        value, trouble = None, ""
        try:
            value = read()
        except Exception as error:
            cause = error.__cause__ if type(error) is Exception else error  # Orbax has no type of its own for it
            if not isinstance(cause, _TROUBLE):
                raise
            trouble = _first_line(cause)
        if trouble:
            _forget_reads()
        if jax.process_count() > 1:
            failed = multihost_utils.process_allgather(np.int32(bool(trouble)))
            if failed.any() and not trouble:
                trouble = f"process {int(failed.argmax())} cannot read it"
        return value, trouble

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except _TROUBLE as error:
            raise UserError(
                f"{self.folder}: a checkpoint cannot be {what} ({_reason(error)}); make room or choose another "
                "place; the checkpoints before it are whole, and the same command goes on from the last"
            ) from error


def flatten(state: Any) -> dict[str, Any]:
    """Its leaves by path: `optimizer/inner_states/rest/.../mu/head/linear/kernel`."""
    leaves, _ = jax.tree.flatten_with_path(state)
    flat = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    assert len(flat) == len(leaves)
    return flat


def _restore_args(leaf: jax.ShapeDtypeStruct) -> ocp.RestoreArgs:
    if leaf.sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
    return ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)


def _forget_reads() -> None:
    """Orbax leaves the other reads of a failed one unfinished; Python would complain of each at its own end."""
    complain, sys.unraisablehook = sys.unraisablehook, lambda *_: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = complain


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _reason(error: BaseException) -> str:
    """The operating system's word for what is wrong, where it is in the message."""
    text = str(error)
    known = ("No space left on device", "Disk quota exceeded", "File too large", "Read-only file system")
    return next((word for word in known if word in text), _first_line(error))
