"""Tile sizes of splash attention for each TPU generation, and how they bend to a length.

One step of the kernel computes a tile of float32 scores, queries by keys, in VMEM. Large tiles use the matrix
units best; blocks that do not divide a length pad it, and padding costs time in both directions.
"""

import dataclasses
import math

LANES = 128  # a block of keys is a multiple of this
ROWS = 16  # of a tile of 16-bit numbers
WASTE = 1.03  # computed scores over wanted ones, where any blocks can keep to it


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Rows and columns of a tile of scores, for 16-bit inputs and heads of 128 channels."""

    queries: int
    keys: int


# By `device_kind`. None was timed by this project.
#
# TPU v6: the example for it in MaxDiffusion's page on attention (block_q 2048, block_kv and block_kv_compute
#   1024). Its Wan configurations go to 3,024 rows, for clips of 75,600 tokens and with a raised limit of VMEM.
# TPU 7x: as v6. On both even 3,840 x 1,024 compiles under the default limit of VMEM for one kernel.
# TPU v5e, v5p: of XLA:TPU's 16 MiB for one kernel there, 2,048 x 1,024 fits and 2,560 x 1,024 does not (libtpu
#   0.0.51). Three quarters of the first leave room for the quarter that `fit` may add.
TILES = {
    "TPU v5 lite": Tiles(queries=1536, keys=1024),
    "TPU v5": Tiles(queries=1536, keys=1024),
    "TPU v6 lite": Tiles(queries=2048, keys=1024),
    "TPU7x": Tiles(queries=2048, keys=1024),
}


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Block sizes for given lengths, and the lengths padded to whole blocks."""

    queries: int
    keys: int
    padded_queries: int
    padded_keys: int


def fit(tiles: Tiles, queries: int, keys: int, query_multiple: int = LANES) -> Blocks:
    """Blocks for so many queries and keys, as near to `tiles` as a padding of at most `WASTE` allows; where
    none keep to it, those of least padding.

    Args:
      query_multiple: what a block of queries is a multiple of.
    """
    even = math.sqrt(WASTE)
    key_block, padded_keys = _block(tiles.keys, 2 * tiles.keys, keys, LANES, even)
    # a wider tile has fewer rows; what the keys take of the allowance is not left for the queries
    rows = min(tiles.queries, tiles.queries * tiles.keys // key_block)
    left = min(even, WASTE * keys / padded_keys)
    query_block, padded_queries = _block(rows, rows * 5 // 4, queries, query_multiple, left)
    return Blocks(query_block, key_block, padded_queries, padded_keys)


def _block(wanted: int, largest: int, length: int, multiple: int, allowed: float) -> tuple[int, int]:
    """Block size, a quarter of the wanted one at least, and padded length."""
    whole = round_up(length, multiple)
    sizes = range(min(whole, round_up(wanted // 4, multiple)), min(max(largest, multiple), whole) + 1, multiple)
    least = min(round_up(length, size) for size in sizes)
    fitting = [size for size in sizes if round_up(length, size) <= max(least, allowed * length)]
    size = min(fitting, key=lambda size: abs(math.log(size / wanted)))
    return size, round_up(length, size)


def round_up(length: int, multiple: int) -> int:
    """The next multiple at or above a length."""
    return -(-length // multiple) * multiple


def even(length: int, wanted: int, multiple: int) -> int:
    """The rows of a block: as near to what is wanted as equal blocks allow, a multiple of `multiple`."""
    count = max(1, round(length / wanted))
    return round_up(-(-length // count), multiple)
