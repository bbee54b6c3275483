"""What `parity` can be told. Imports no JAX."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.sharding.mesh_config import MeshConfig


@dataclasses.dataclass(frozen=True)
class ParityOptions:
    """Bundles to compare with."""

    bundles: tuple[str, ...] = option(
        "reference bundles (.safetensors)", group="input", metavar="FILE", positional=True
    )
    taps: bool = option(
        "compare intermediate values too, and name the first that differs", group="compare", default=False
    )
    mesh: str | None = option(
        "split the models over all devices, such as data=2,context=-1, or a file of configs/mesh",
        group="compare",
        metavar="AXES",
        default=None,
    )
    family: str | None = option(
        "family of the models (default: the one that the bundle names, or the first that has such a component)",
        group="compare",
        metavar="NAME",
        default=None,
    )
    weights: str | None = option(
        "a checkpoint of the component, in any form that convert reads, to run instead of the bundle's weights",
        group="input",
        metavar="FILE",
        default=None,
    )
    map: str | None = option(
        "the map of a quantised --weights (default: the one beside it)",
        group="input",
        metavar="FILE",
        default=None,
    )
    expected: str | None = option(
        "a safetensors file with outputs/... to compare with, instead of the bundle's",
        group="compare",
        metavar="FILE",
        default=None,
    )

    def __post_init__(self):
        for name in ("weights", "expected"):
            if getattr(self, name) and len(self.bundles) != 1:
                raise UserError(f"{len(self.bundles)} bundles are given; give the one that it is for", field=name)
        if self.map and not self.weights:
            raise UserError("is of a file that --weights names; give that too", field="map")
        if self.mesh is not None:
            MeshConfig.read(self.mesh)
