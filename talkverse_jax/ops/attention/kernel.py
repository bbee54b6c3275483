"""What every attention kernel is: a function of the arrays of one device.

Shapes: B batch, L queries, S keys, N heads, K head width. Scale 1/sqrt(K), softmax in float32, result in the
dtype of the queries.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Array, Float, Int

# The score of a key that a query must not see, and the log-sum-exp of a query that sees none: finite, so that
# such a query gets some average of the values instead of NaN.
MASKED = float(-0.7 * np.finfo(np.float32).max)


class Segments(NamedTuple):
    """Which keys a query sees: those of its own number. The same for every row of a batch."""

    queries: Int[Array, " L"]
    keys: Int[Array, " S"]


class Kernel(Protocol):
    """Attention on one device."""

    def __call__(
        self,
        q: Float[Array, "B L N K"],
        k: Float[Array, "B S N K"],
        v: Float[Array, "B S N K"],
        segments: Segments | None = None,
        *,
        logsumexp: bool = False,
    ) -> Any:
        """The result [B, L, N, K], which has a gradient; with `logsumexp` a pair: the result, and the log-sum-exp of
        each query's scaled scores [B, L, N] in float32."""
        ...
