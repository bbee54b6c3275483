"""Tile sizes of splash attention for each TPU generation, and how they bend to a length.

A kernel instance holds a block of queries and walks over blocks of keys: it keeps a tile of float32 scores
(queries x keys) beside them in VMEM. Big tiles use the matrix units best; blocks that do not divide a length
pad it, and padding costs time in both directions.
"""

import dataclasses
import math

LANES = 128  # a block of keys is a multiple of this
WASTE = 1.03  # allowed scores over real scores, where any choice of blocks keeps it


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Rows and columns of one tile of scores."""

    queries: int
    keys: int


# By `device_kind`.
TILES = {
    "TPU v5 lite": Tiles(queries=1024, keys=1024),
    "TPU v5": Tiles(queries=1024, keys=1024),
    "TPU v6 lite": Tiles(queries=1024, keys=1024),
    "TPU7x": Tiles(queries=1024, keys=1024),
}


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Block sizes for given lengths, and the lengths padded to them."""

    queries: int
    keys: int
    padded_queries: int
    padded_keys: int


def fit(tiles: Tiles, queries: int, keys: int, query_multiple: int = LANES) -> Blocks:
    """Blocks for this many queries and keys: as near to `tiles` as padding of at most `WASTE` allows, else those
    of least padding.

    Args:
      query_multiple: what a block of queries must be a multiple of.
    """
    block, padded_keys = _block(tiles.keys, keys, LANES, math.sqrt(WASTE))
    # what keys left of the allowance; and the tile keeps its area
    wanted = tiles.queries * tiles.keys // block
    allowed = max(math.sqrt(WASTE), WASTE * keys / padded_keys)
    query_block, padded_queries = _block(wanted, queries, query_multiple, allowed)
    return Blocks(query_block, block, padded_queries, padded_keys)


def _block(wanted: int, length: int, multiple: int, allowed: float) -> tuple[int, int]:
    """Block size and padded length."""
    largest = max(multiple, wanted + wanted // 4)
    sizes = range(multiple, min(largest, _up(length, multiple)) + 1, multiple)
    least = min(_up(length, size) for size in sizes)
    fitting = [size for size in sizes if _up(length, size) <= max(least, allowed * length)]
    size = min(fitting, key=lambda size: abs(math.log(size / wanted)))
    return size, _up(length, size)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
