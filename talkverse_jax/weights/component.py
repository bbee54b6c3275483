"""A model that has weights of its own: what loading, converting and exporting need to know of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.sharding.layout import Layout, ParameterAxes
from talkverse_jax.sharding.rules import ENCODING, Rules
from talkverse_jax.weights import match
from talkverse_jax.weights.lazy import Tensor
from talkverse_jax.weights.rule import Rule, find_rule


@dataclasses.dataclass(frozen=True)
class Home:
    """Where a tensor of PyTorch's goes in a model.

    Attributes:
      path: our parameter's.
      shape: that it must have, in PyTorch's layout.
    """

    path: str
    rule: Rule
    shape: tuple[int, ...]


@runtime_checkable
class Quantisable(Protocol):
    """A layer of an (abstract) model whose kernel may be int8, with a parameter `scale` beside it."""

    def quantise(self, products: Any) -> None:
        """Make it so."""
        ...


@dataclasses.dataclass(frozen=True)
class Component:
    """One of the models that a folder of converted weights holds.

    Attributes:
      name: of its folder, and on the command line.
      config_type: its frozen config.
      model_type: called as `model_type(config, rngs=, dtype=, param_dtype=, layout=)`.
      rules: its weight table.
      axes: the logical axes of its parameters.
      ignored: shell patterns of names in its files that the model is known not to use.
      ignored_at: more of them, for a config.
      real_size: the published size.
      dtype: what its parameters are converted to unless told otherwise.
      split: how it is split over devices when videos are made: an encoder by its layers, a transformer by its
        sequence (`SAMPLING`); None: by its pictures, on a mesh of its own.
      to_published: the published name of a layer or tensor by its name in diffusers' files; others stay.
      prefixes: what its names begin with in files of several models.
      widths: published models of this kind by the width of their layers, for messages.
      int8: shell patterns of the kernels, by our path, of linear layers that also compute with int8.
      adapt: (its tensors by published name, a config) -> those of that size, where published ones do more.
      optional: weights are whole without it.
    """

    name: str
    config_type: type
    model_type: type[nnx.Module]
    rules: tuple[Rule, ...]
    axes: ParameterAxes
    ignored: tuple[str, ...]
    real_size: Callable[[], Any]
    dtype: str
    split: Rules | None = ENCODING
    to_published: Callable[[str], str] = lambda name: name
    prefixes: tuple[str, ...] = ()
    widths: Mapping[int, str] = dataclasses.field(default_factory=dict)
    int8: tuple[str, ...] = ()
    ignored_at: Callable[[Any], tuple[str, ...]] = lambda config: ()
    adapt: Callable[[Mapping[str, Tensor], Any], Mapping[str, Tensor]] = lambda tensors, config: tensors
    optional: bool = False

    def unused(self, config: Any) -> tuple[str, ...]:
        """Shell patterns of all names in its files that a model of this size does not use."""
        return self.ignored + self.ignored_at(config)

    def abstract(
        self,
        config: Any,
        param_dtype: Any = jnp.float32,
        dtype: Any = None,
        layout: Layout = Layout(),
        int8_products: str | None = None,
        **options: Any,
    ) -> nnx.Module:
        """The model with shapes in place of arrays.

        Args:
          dtype: of its matrix products; by default that of its parameters.
          layout: how its arrays are split.
          int8_products: of layers whose kernels are int8, of all that can be (`ops.names.Products`); None: none is.
          options: what this model alone takes.
        """
        dtype = param_dtype if dtype is None else dtype
        kwargs = dict(dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(param_dtype), layout=layout, **options)
        module = tree.abstract(self.model_type, config, **kwargs)
        if int8_products is not None:
            for _, layer in nnx.iter_graph(module):
                if isinstance(layer, Quantisable):
                    layer.quantise(int8_products)
        return module

    def torch_shapes(self, config: Any) -> dict[str, tuple[int, ...]]:
        """The PyTorch names and shapes that a model of this size has in its published files."""
        return match.torch_shapes(tree.abstract_parameters(self.abstract(config)), self.rules)

    def homes(self, parameters: tree.Flat) -> dict[str, Home]:
        """Where tensors go, by PyTorch name.

        Args:
          parameters: the model's, or their shapes, by our path.
        """
        return {
            name: Home(path, rule, match.torch_shape(rule, leaf.shape))
            for path, leaf in parameters.items()
            for rule, names in [find_rule(self.rules, path)]
            for name in names
        }
