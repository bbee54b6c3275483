"""Stops a run whose loss or gradient makes no sense, and says by which samples it came.

An update whose samples all had weight 0 has a norm of 0, which tells nothing of what is usual.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import write_json

_TIMES = 100.0  # the median: a norm above that is not believed
_WINDOW = 100  # updates whose median it is
_ENOUGH = 10  # updates that make a median


class Watch:
    """Follows the norms of the gradient: of each update that of the group with the largest.

    Args:
      norms: those before, where a run goes on.
    """

    def __init__(self, norms: Iterable[float] = ()):
        self._norms = deque((norm for norm in norms if norm > 0), maxlen=_WINDOW)

    @property
    def norms(self) -> tuple[float, ...]:
        """Those that the median is of."""
        return tuple(self._norms)

    @property
    def limit(self) -> float:
        """The largest norm that is believed; infinite while there are too few to tell."""
        return _TIMES * statistics.median(self._norms) if len(self._norms) >= _ENOUGH else math.inf

    def see(self, norms: dict[str, float]) -> None:
        """Take in the norms of an update that was made, by group."""
        if (largest := max(norms.values())) > 0:
            self._norms.append(largest)


def refuse(
    folder: Path, step: int, loss: float, norms: dict[str, float], limit: float, batches: Sequence[dict[str, Any]]
) -> UserError:
    """The error of an update that was not made; the batches it came of are in a file beside.

    Args:
      batches: of each its number and its samples' names, epochs, numbers, timesteps and losses.
    """
    path = folder / f"stopped-{step}.json"
    values = {"step": step, "loss": loss, "norms": norms, "limit": limit, "batches": list(batches)}
    write_json(path, _plain(values))
    worst = max(norms, key=lambda group: (not math.isfinite(norms[group]), norms[group]))
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif not math.isfinite(norms[worst]):
        what = f"the gradient of {worst} is {norms[worst]}"
    else:
        what = f"the gradient of {worst} has norm {norms[worst]:.3g}, {_TIMES:g} times the usual is {limit:.3g}"
    return UserError(
        f"step {step}: {what}; the update was not made; {path} names the samples: look at them, or go on from the "
        "last checkpoint with a lower --learning_rate"
    )


def _plain(value: Any) -> Any:
    """Numbers that JSON has no word for, as text."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
