"""beartype, for annotations of arrays alone: shapes and dtypes are checked at every call, other types by pyright."""

import functools
import operator
import types
import typing
from collections.abc import Callable
from typing import Any

import jax
import jaxtyping
import numpy as np
from beartype import beartype


def check(function: Callable) -> Callable:
    """The function, which raises where an argument or its result is not the array that it is annotated as.

    An array of numpy may stand for one of JAX, which whatever is compiled takes alike.
    """
    of_arrays = {name: _of_either(hint) for name, hint in function.__annotations__.items() if _of_array(hint)}
    if not of_arrays:
        return function
    function.__annotations__ = of_arrays
    return beartype(function)


def _of_array(hint: Any) -> bool:
    return _is_array(hint) or any(_of_array(part) for part in typing.get_args(hint))


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


def _of_either(hint: Any) -> Any:
    if _is_array(hint) and hint.array_type is jax.Array:
        return hint.dtype[jax.Array | np.ndarray, hint.dim_str]
    parts = tuple(_of_either(part) for part in typing.get_args(hint))
    if parts and typing.get_origin(hint) in (types.UnionType, typing.Union):
        return functools.reduce(operator.or_, parts)
    return typing.get_origin(hint)[parts] if parts and typing.get_origin(hint) is tuple else hint
