"""Arrays of a pytree whose logical axes are known by the names of their fields."""

from collections.abc import Mapping
from typing import Any

import jax

# By the name of a field, its array's logical axes behind those of stacked layers.
FieldAxes = Mapping[str, tuple[str | None, ...]]


def axes_at(path: Any, x: Any, axes: FieldAxes) -> tuple[str | None, ...]:
    """The logical axes of the array at a path of `jax.tree_util`."""
    own = axes[path[-1].name]
    return (None,) * (x.ndim - len(own)) + own


def first_rows(made: Any, rows: int, axes: FieldAxes) -> Any:
    """The first rows of each batch; what has none stays whole."""

    def cut(path: Any, x: Any) -> Any:
        names = axes_at(path, x, axes)
        return jax.lax.slice_in_dim(x, 0, rows, axis=names.index("batch")) if "batch" in names else x

    return jax.tree_util.tree_map_with_path(cut, made)
