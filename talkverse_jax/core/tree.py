"""Parameters by path: an NNX state as a flat dict `"blocks/0/self_attn/q/kernel" -> leaf`, and back."""

from typing import Any

import jax
from flax import nnx

Flat = dict[str, Any]


def flatten(state: nnx.State) -> Flat:
    """Every array (or `jax.ShapeDtypeStruct`) of an NNX state by its slash-separated path."""
    return {
        "/".join(map(str, path)): leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf
        for path, leaf in nnx.to_flat_state(state)
    }


def abstract_parameters(graph: nnx.Module) -> Flat:
    """Shapes and dtypes of a module's parameters by path; works on an abstract module too."""
    return {
        path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for path, leaf in flatten(nnx.state(graph, nnx.Param)).items()
    }


def with_parameters(graph: nnx.Module, parameters: Flat) -> nnx.Module:
    """The module with its parameters replaced by `parameters` (same paths; no array is copied).

    Raises:
      KeyError: a path is missing or unknown. Loaders report that to the user before they come here.
    """
    graphdef, state = nnx.split(graph, nnx.Param)
    flat = nnx.to_flat_state(state)
    paths = {"/".join(map(str, path)) for path, _ in flat}
    if paths != parameters.keys():
        raise KeyError(f"parameters differ from the module's: {sorted(paths ^ parameters.keys())[:5]}")
    new = [(path, leaf.replace(parameters["/".join(map(str, path))])) for path, leaf in flat]
    return nnx.merge(graphdef, nnx.from_flat_state(new))
