"""What a disk does: bits that turn over, and the order in which it is given things."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """A bit of a file is another one while the block lasts."""
    was = path.read_bytes()
    harmed = bytearray(was)
    harmed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(harmed)
    try:
        yield
    finally:
        path.write_bytes(was)


def untold(files: list[Path], count: int, told: Callable[[Path], bool]) -> list[tuple[Path, int]]:
    """Of so many flips, each anywhere in a file, which are not told. They are the same every time, in all files alike.

    Args:
      told: called with the file while one of its bits is another.
    """
    random, missed = np.random.default_rng(count), []
    assert files and all(path.stat().st_size for path in files)
    order = [place for _ in range(0, count, len(files)) for place in random.permutation(len(files))]
    for path in (files[place] for place in order[:count]):
        bit = int(random.integers(8 * path.stat().st_size))
        with flipped(path, bit):
            if not told(path):
                missed.append((path, bit))
    return missed


def note_order(monkeypatch) -> list[tuple[str, str]]:
    """From now on lists what is synced, `("sync", path)`, and what gets its name, `("name", path)`, in order."""
    done, fsync = [], os.fsync

    def note_sync(handle: int) -> None:
        done.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def noting(rename):
        def note_rename(source, target) -> None:
            done.append(("name", os.fspath(target)))
            rename(source, target)

        return note_rename

    monkeypatch.setattr(os, "fsync", note_sync)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    return done
