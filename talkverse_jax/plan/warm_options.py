"""What `warm` can be told. Imports no JAX."""

import dataclasses

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option


@dataclasses.dataclass(frozen=True)
class WarmOptions:
    """Which programs are compiled, and for what."""

    topology: str | None = option(
        "machine to compile for, such as v6e-8; a TPU's needs libtpu, but no TPU (default: this machine)",
        group="warm",
        metavar="NAME",
        default=None,
    )
    size: str | None = option(
        "pixels: a size that the config's bucket and fit allow (default: the bucket's usual one, such as 640x640)",
        group="warm",
        metavar="WxH",
        default=None,
    )
    batch_size: int = option(
        "videos that are denoised together, as of a batch", group="warm", metavar="N", default=1, least=1
    )
    programs: tuple[str, ...] = option(
        "only these programs, such as: step decode", group="warm", metavar="NAME", default=()
    )
    model: str | None = option(
        "TOML file of the models' sizes (default: the published ones)", group="model", metavar="FILE", default=None
    )
    weights: str | None = option(
        "folder of converted weights to take the sizes from instead", group="model", metavar="DIR", default=None
    )
    int8: bool = option(
        "the transformer's kernels are int8, as --dtype int8 converts them (default: as --weights has them)",
        group="model",
        default=False,
    )
    family: str | None = option(
        "family of the models (default: that of --weights or of the config)",
        group="model",
        metavar="NAME",
        default=None,
    )

    def __post_init__(self):
        check_bounds(self)
        if self.model and self.weights:
            raise UserError("cannot be given with --model; choose one", field="weights")
