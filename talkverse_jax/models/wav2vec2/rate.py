"""The features of a sound at another rate: between the two neighbours in time, the first on the first, the last on the
last.

Shapes: B batch, T vectors, R rows, C channels.
"""

import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32


def positions(
    vectors: int, rows: int, wanted: Int[np.ndarray, " R"]
) -> tuple[Int[np.ndarray, " R"], Float32[np.ndarray, " R"]]:
    """Where the wanted of `rows` rows lie among a sound's vectors: the vector before each, and the next one's share."""
    index, rest = np.divmod(wanted.astype(np.int64) * (vectors - 1), max(1, rows - 1))  # exact, at any length
    return index, (rest / max(1, rows - 1)).astype(np.float32)


def between(
    features: Float[Array, "B T C"], index: Int32[Array, " R"], share: Float32[Array, " R"]
) -> Float[Array, "B R C"]:
    """The rows at such positions."""
    before, after = features[:, index], features[:, index + 1]
    return before + (after - before) * share[:, None]
