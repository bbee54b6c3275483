"""What `parity` can be told. Imports no JAX."""

import dataclasses

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
        "family of the models (default: the one that the bundle names)",
        group="compare",
        metavar="NAME",
        default=None,
    )

    def __post_init__(self):
        if self.mesh is not None:
            MeshConfig.read(self.mesh)
