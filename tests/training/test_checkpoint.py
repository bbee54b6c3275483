"""Checkpoints: which are kept, what is never picked up, and on which mesh they come back."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from talkverse_jax.cli.progress import TerminalReporter
from talkverse_jax.core.errors import UserError
from talkverse_jax.training.checkpoint import Checkpoints, RunRecord, flatten
from talkverse_jax.training.state import TrainState
from tests.disk import flipped, note_order, untold
from tests.processes import ROOT

RUN = {"--seed": 0, "--batch_size": 4}


def state(value: float = 0.0, size: int = 16) -> TrainState:
    """A state like those of training, with this value everywhere."""
    value = float(value)
    params = {"head/linear/kernel": jnp.full((size, size), value), "token_kind": jnp.full((3,), value)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)).init(params)
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(params, jax.tree.map(lambda x: x + jnp.asarray(value, x.dtype), optimizer), jnp.int32(7), ema)


def record(step: int, **changes) -> RunRecord:
    values = dict(batch=2 * step, run=RUN, norms=(1.0, 2.5), options={"x": [1, None]}, versions={"jax": "0"})
    return RunRecord(step, **values | changes)


def abstract(like: TrainState, place=lambda leaf: None) -> TrainState:
    where = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place(leaf) or leaf.sharding)  # noqa: E731
    return jax.tree.map(where, like)


def write(folder: Path, steps, **options) -> Checkpoints:
    checkpoints = Checkpoints(folder, **{"keep": 10, "reporter": TerminalReporter()} | options)
    for step in steps:
        checkpoints.save(state(step), record(step))
    checkpoints.wait()
    return checkpoints


def same(a: TrainState, b: TrainState) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y) and x.dtype == y.dtype, a, b)))


def test_what_is_saved_comes_back(tmp_path):
    checkpoints = write(tmp_path, [3])
    found, read = Checkpoints(tmp_path).latest(abstract(state()), RUN)
    assert same(found, state(3)) and jax.tree.structure(found) == jax.tree.structure(state())
    assert read == record(3)
    checkpoints.close()


def test_a_state_may_change_while_it_is_saved(tmp_path):
    add = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    values, checkpoints = state(5, 1024), Checkpoints(tmp_path)
    checkpoints.save(values, record(1))
    for _ in range(3):
        values = add(values)
    jax.block_until_ready(values)
    checkpoints.wait()
    assert same(checkpoints.latest(abstract(state(0, 1024)), RUN)[0], state(5, 1024))


def test_the_last_and_every_mth_are_kept(tmp_path):
    assert write(tmp_path, range(1, 8), keep=2, keep_every=3).steps() == [3, 6, 7]


def test_a_checkpoint_comes_back_on_another_mesh(tmp_path):
    devices = np.array(jax.devices())

    def spread(axes: int):
        mesh = Mesh(devices[:axes], ("x",))
        return lambda leaf: NamedSharding(mesh, PartitionSpec("x") if leaf.ndim == 2 else PartitionSpec())

    for source, target in ((2, 8), (8, 1)):
        values = state(source)
        values = jax.device_put(values, jax.tree.map(spread(source), values))
        checkpoints = Checkpoints(tmp_path / str(source))
        checkpoints.save(values, record(1))
        checkpoints.wait()
        found, _ = checkpoints.latest(abstract(state(), spread(target)), RUN)
        assert same(found, values)
        assert len(found.params["head/linear/kernel"].addressable_shards) == target


@pytest.mark.parametrize("victims", ["state/manifest.ocdbt", "state/d/*", "state/ocdbt.process_0/d/*", "meta/metadata"])
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_damaged_one_is_set_aside_and_the_one_before_taken(tmp_path, capsys, victims, harm):
    checkpoints = write(tmp_path, [1, 2])
    paths = list((tmp_path / "2").glob(victims))
    assert paths
    for path in paths:
        os.truncate(path, path.stat().st_size // 2) if harm == "cut" else path.unlink()
    assert checkpoints.last_record().step == (1 if victims.startswith("meta") else 2)
    found, read = checkpoints.latest(abstract(state()), RUN)
    assert read.step == 1 and same(found, state(1))
    [line] = capsys.readouterr().err.splitlines()
    assert "2: damaged (" in line and "now damaged-2" in line
    checkpoints.save(state(2), record(2))  # its number is free again
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2] and (tmp_path / "damaged-2").is_dir()


def test_all_damaged(tmp_path):
    checkpoints = write(tmp_path, [1])
    (tmp_path / "1" / "meta" / "metadata").write_text("{")
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        checkpoints.latest(abstract(state()), RUN)


_UNREAD = ("commit_success.txt", "_CHECKPOINT_METADATA")  # Orbax's own notes


@pytest.mark.parametrize("count", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_a_bit_that_is_another_one_is_told(tmp_path, capsys, count):
    write(tmp_path, [1]).close()
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name not in _UNREAD)
    assert len(files) >= 10
    checkpoints = Checkpoints(tmp_path, reporter=TerminalReporter())

    def told(path: Path) -> bool:
        with pytest.raises(UserError, match="every checkpoint is damaged"):
            checkpoints.latest(abstract(state()), RUN)
        (tmp_path / "damaged-1").rename(tmp_path / "1")
        [line] = capsys.readouterr().err.splitlines()
        return line.startswith(f"{tmp_path}/1: damaged ({path}: not as it was written)") or "checksums: " in line

    assert untold(files, count, told) == []
    assert checkpoints.latest(abstract(state()), RUN)[1] == record(1)


def test_notes_that_nobody_reads_may_be_damaged(tmp_path):
    checkpoints = write(tmp_path, [1])
    for path in (path for path in tmp_path.rglob("*") if path.name in _UNREAD):
        path.write_bytes(b"")
    assert same(checkpoints.latest(abstract(state()), RUN)[0], state(1))


def test_one_of_an_older_version_has_no_checksums_and_says_so(tmp_path, capsys):
    checkpoints = write(tmp_path, [1])
    for path in (tmp_path / "1").rglob("checksums*"):
        path.unlink()
    assert same(checkpoints.latest(abstract(state()), RUN)[0], state(1))
    assert "1: an older version wrote it, without checksums; damage in it is not seen" in capsys.readouterr().err


def test_a_damaged_one_is_not_exported(tmp_path):
    checkpoints = write(tmp_path, [1])
    with flipped(tmp_path / "1" / "meta" / "metadata", 80), pytest.raises(UserError, match="1: damaged .*; delete it"):
        checkpoints.verify(1)
    checkpoints.verify(1)


def test_files_are_on_the_disk_before_the_checkpoint_has_its_name(tmp_path, monkeypatch):
    order = note_order(monkeypatch)
    write(tmp_path, [1]).close()
    named = order.index(("name", str(tmp_path / "1")))
    synced = {path.replace(".orbax-checkpoint-tmp", "") for done, path in order[:named] if done == "sync"}
    listings = {path.with_name(f"{path.name}.partial") for path in tmp_path.rglob("checksums*")}
    files = {path for path in tmp_path.rglob("*") if path.name not in _UNREAD} - set(tmp_path.rglob("checksums*"))
    assert len(listings) == 3 and {str(path) for path in (files | listings) - {tmp_path / "1"}} <= synced
    assert ("sync", str(tmp_path)) in order[named:]


def test_another_run_is_told_by_all_that_differs(tmp_path):
    checkpoints = write(tmp_path, [1])
    with pytest.raises(UserError, match=r"--batch_size was 4, now 8; --seed was 0, now 1\).*--output_path"):
        checkpoints.latest(abstract(state()), {"--seed": 1, "--batch_size": 8})
    other = state()._replace(ema=None, params={"head/linear/kernel": jnp.zeros((8, 8))})
    with pytest.raises(UserError, match=r"params/head/linear/kernel is \(16, 16\), not \(8, 8\)"):
        checkpoints.latest(abstract(other), RUN)


def test_a_part_of_a_state_can_be_read(tmp_path):
    checkpoints = write(tmp_path, [4])
    wanted = {"ema": {"token_kind": jax.ShapeDtypeStruct((3,), np.float32, sharding=None)}}
    assert np.array_equal(checkpoints.read_state(4, wanted)["ema"]["token_kind"], np.full(3, 4, np.float32))
    assert flatten(state()).keys() == checkpoints.arrays(4).keys()


def in_another_process(body: str, folder: Path, **options) -> subprocess.Popen:
    program = textwrap.dedent(body)
    environ = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    return subprocess.Popen([sys.executable, "-c", program, str(folder)], env=environ, text=True, **options)


def test_one_torn_by_kill_is_never_picked_up(tmp_path):
    """Killed between the beginning and the end of the second save: its folder has a temporary name."""
    process = in_another_process(
        """
        import os, signal, sys
        from tests.training.test_checkpoint import record, state
        from talkverse_jax.training.checkpoint import Checkpoints
        checkpoints = Checkpoints(sys.argv[1], keep=5)
        checkpoints.save(state(1, 4), record(1))
        checkpoints.wait()
        checkpoints.save(state(2, 6000), record(2))
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert process.wait(timeout=120) == -signal.SIGKILL
    assert any(name.startswith("2.") for name in os.listdir(tmp_path))
    checkpoints = Checkpoints(tmp_path, keep=5)
    assert checkpoints.steps() == [1]
    assert same(checkpoints.latest(abstract(state(0, 4)), RUN)[0], state(1, 4))
    checkpoints.save(state(3, 4), record(3))  # what was torn is cleared away
    checkpoints.wait()
    assert sorted(os.listdir(tmp_path)) == ["1", "3"]


def test_a_full_disk_leaves_the_last_good_one(tmp_path):
    process = in_another_process(
        """
        import resource, sys
        from talkverse_jax.cli.command import run_command
        from tests.training.test_checkpoint import record, state
        from talkverse_jax.training.checkpoint import Checkpoints

        def main():
            checkpoints = Checkpoints(sys.argv[1], keep=5)
            checkpoints.save(state(1, 4), record(1))
            checkpoints.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
            try:
                checkpoints.save(state(2, 1000), record(2))
                checkpoints.wait()
            finally:
                checkpoints.close()

        run_command(main)
        """,
        tmp_path,
        stderr=subprocess.PIPE,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    said = f"error: {tmp_path}: a checkpoint cannot be written (File too large); make room"
    assert errors.startswith(said), errors
    assert errors.count("\n") == 1, errors
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [1]
    assert same(checkpoints.latest(abstract(state(0, 4)), RUN)[0], state(1, 4))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_reading_leaves_a_save_under_way_alone(tmp_path):
    writer = write(tmp_path, [1])
    writer.save(state(2, 4000), record(2))
    assert Checkpoints(tmp_path, read_only=True).steps() in ([1], [1, 2])
    writer.wait()
    assert writer.steps() == [1, 2]
    assert Checkpoints(tmp_path / "none", read_only=True).steps() == []
    assert not (tmp_path / "none").exists()
