import numpy as np
import pytest

from talkverse_jax.evaluate.silence import movement_in_silence, silent


def talk(rng, loud, share):
    """A mouth that moves where it is loud, and in silence by that share of it."""
    moves = np.where(silent(loud), share, 1.0) * rng.choice([-1.0, 1.0], len(loud))
    return np.cumsum(moves), loud


def test_silences_that_last():
    loud = np.ones(60)
    loud[10:15] = 0  # a consonant
    loud[30:50] = 0.1  # what hums in the background
    assert np.flatnonzero(silent(loud)).tolist() == list(range(33, 47))
    assert silent(np.zeros(30)).sum() == 24


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_mouth_that_moves_while_nothing_is_said(share):
    rng = np.random.default_rng(0)
    loud = np.repeat([1.0, 0.0, 1.0], 40)
    speaker = talk(rng, loud, share)
    assert movement_in_silence(speaker) == pytest.approx(share)
    listener = talk(rng, np.zeros(120), share)
    assert movement_in_silence(listener) is None  # nobody to compare with
    assert movement_in_silence(listener, [speaker]) == pytest.approx(share)
    assert movement_in_silence((speaker[0], np.ones(120))) is None  # never silent
