import numpy as np
import pytest

from talkverse_jax.families.multitalk.teacache import FIRST_STEPS, make_skips


def modulation(changes) -> np.ndarray:
    """Vectors each of which is that share larger than the one before."""
    return np.cumprod(1 + np.array([0.0, *changes]))[:, None, None] * np.ones((1, 6, 8))


def test_steps_are_left_out_until_the_differences_add_up():
    # a change of 0 counts 0.1325...: one may be left out below 0.2, the second reaches 0.265
    skips = make_skips(modulation([0.0] * 11), 0.2, is_720=False)
    assert skips == [False] * FIRST_STEPS + [True, False] * 3 + [True]
    assert make_skips(modulation([0.0] * 11), 0.1, is_720=False) == [False] * 12


def test_a_large_change_is_run_and_the_count_begins_again():
    changes = [0.0] * 11
    changes[7] = 0.2  # from step 7 to step 8
    found = make_skips(modulation(changes), 0.3, is_720=False)
    assert found == [False] * 5 + [True, True, False, False, True, True, False]


def test_each_table_of_sizes_has_its_own_polynomial():
    steady = modulation([0.05] * 20)
    for is_720, per_step in ((False, 0.132517977 - 13.5890334 * 0.05 + 1402.86849 * 0.05**2 - 35422.9917 * 0.05**3
                              + 257151.496 * 0.05**4),
                             (True, -0.0417769401 + 16.6203073 * 0.05 - 372.934672 * 0.05**2 + 2133.93892 * 0.05**3
                              + 8107.0546 * 0.05**4)):  # fmt: skip
        skips = make_skips(steady, 2.5 * per_step, is_720)
        assert per_step > 0 and skips[FIRST_STEPS:] == ([True, True, False] * 6)[: 21 - FIRST_STEPS]


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_the_first_steps_always_run(steps):
    assert make_skips(modulation([0.0] * (steps - 1)), 1e9, is_720=False) == [False] * steps
