"""Does a mouth rest while its person says nothing? How fast it moves then, beside how fast it moves in speech."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from talkverse_jax.evaluate.sound import speaking

_QUIET = 0.15  # of the loudest: what hums in a room's background is below
_REST = 10  # frames that a silence lasts at least
_MARGIN = 3  # frames at its ends, in which a mouth may still shut or already open
_LEAST = 10  # frames that tell something

Mouth = tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]  # opening, and loudness of its person's sound


def silent(loud: Float[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
    """The frames within silences that last."""
    chosen, at = np.zeros(len(loud), bool), 0
    for quiet, frames in itertools.groupby(loud < _QUIET):
        end = at + len(list(frames))
        if quiet and end - at >= _REST:
            chosen[at + _MARGIN : end - _MARGIN] = True
        at = end
    return chosen


def movement_in_silence(mouth: Mouth, others: Sequence[Mouth] = ()) -> float | None:
    """How much a mouth moves from frame to frame in silence, as a share of what it does in speech; None where there is
    little of either.

    Args:
      others: mouths of the same picture, by which one is judged whose person never speaks.
    """
    opening, loud = mouth
    moves = _mean_move(opening, silent(loud))
    spoken = [_mean_move(each, speaking(heard) & ~silent(heard)) for each, heard in (mouth, *others)]
    known = [each for each in spoken if each]
    if moves is None or not known:
        return None
    return moves / (spoken[0] or float(np.mean(known)))


def _mean_move(opening: Float[np.ndarray, " T"], where: Bool[np.ndarray, " T"]) -> float | None:
    both = where[1:] & where[:-1]
    return float(np.abs(np.diff(opening))[both].mean()) if both.sum() >= _LEAST else None
