"""Checksums of the files of a folder, kept in it, so that what a disk has changed is told and not used.

A list has a line for each file, its CRC-32 and its path in the folder, and a last line with the CRC-32 of the lines
above. A JSON file that stands alone has its CRC-32 in itself. (One core of an EPYC makes the CRC-32 of 5.7 GB/s, the
SHA-256 of 1.9; zlib 1.2.13.)
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from talkverse_jax.core.paths import json_text, replacing, sync

_PIECE = 1024**2  # bytes of a file in memory at once
_AT_ONCE = 4  # files
_STAMP = "crc32"


def crc32(path: Path) -> int:
    """Of a file's contents."""
    piece, value = memoryview(bytearray(min(_PIECE, path.stat().st_size + 1))), 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            value = zlib.crc32(piece[:count], value)
    return value


def record(listing: Path, files: Iterable[Path]) -> None:
    """Write the list of some files of its folder. Files, folders and list are on the disk when this returns.

    Raises:
      OSError: one cannot be read or written.
    """
    root, paths = listing.parent, sorted(files)
    for path in paths:
        sync(path)
    for folder in {folder for path in paths for folder in path.parents if folder.is_relative_to(root)}:
        sync(folder)
    with replacing(listing) as partial:
        partial.write_text(lines(root, paths), encoding="utf-8")


def lines(root: Path, files: Iterable[Path]) -> str:
    """The list of some files of a folder."""
    paths = sorted(files)
    text = "".join(f"{value:08x}  {path.relative_to(root).as_posix()}\n" for path, value in zip(paths, _sums(paths)))
    return f"{text}{zlib.crc32(text.encode()):08x}\n"


def check(listing: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Make sure that the files of a list are as they were written.

    Args:
      wanted: whether a file is looked at, by its path in the folder.

    Raises:
      ValueError: one is not, or the list itself is damaged.
      OSError: one cannot be read.
    """
    names = {name: value for name, value in _read(listing).items() if wanted(name)}
    for name, found in zip(names, _sums([listing.parent / name for name in names])):
        if found != names[name]:
            raise ValueError(f"{listing.parent / name}: not as it was written")


def stamped(values: dict[str, Any]) -> dict[str, Any]:
    """Plain values with the CRC-32 of their JSON, for a file that stands alone."""
    return values | {_STAMP: _of_values(values)}


def unstamped(values: dict[str, Any]) -> dict[str, Any]:
    """The values without their CRC-32, which older versions did not write.

    Raises:
      ValueError: they are not as they were written.
    """
    rest = {name: value for name, value in values.items() if name != _STAMP}
    if _STAMP in values and values[_STAMP] != _of_values(rest):
        raise ValueError("not as it was written")
    return rest


def _of_values(values: dict[str, Any]) -> str:
    return f"{zlib.crc32(json_text(values).encode()):08x}"


def _read(listing: Path) -> Mapping[str, int]:
    *files, last = listing.read_bytes().splitlines(keepends=True) or [b""]
    if last != b"%08x\n" % zlib.crc32(b"".join(files)):
        raise ValueError(f"{listing}: not as it was written")
    return {name: int(value, 16) for value, name in (line.decode().rstrip("\n").split("  ", 1) for line in files)}


def _sums(paths: list[Path]) -> list[int]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(crc32, paths))
