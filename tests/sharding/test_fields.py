from typing import NamedTuple

import numpy as np
from jax.tree_util import GetAttrKey

from talkverse_jax.sharding.fields import axes_at, first_rows


class Made(NamedTuple):
    keys: np.ndarray
    table: np.ndarray


AXES = {"keys": ("batch", None), "table": ("tokens", None)}


def test_rows_are_cut_behind_the_axis_of_stacked_layers():
    made = Made(np.arange(24).reshape(4, 3, 2), np.ones((3, 2)))
    found = first_rows({"a": made, "b": made._replace(keys=made.keys[0])}, 2, AXES)
    np.testing.assert_array_equal(found["a"].keys, made.keys[:, :2])
    np.testing.assert_array_equal(found["b"].keys, made.keys[0, :2])
    np.testing.assert_array_equal(found["a"].table, made.table)


def test_stacked_layers_have_no_name():
    assert axes_at((GetAttrKey("keys"),), np.ones((4, 3, 2)), AXES) == (None, "batch", None)
