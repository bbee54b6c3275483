"""What `plan` and `plan-table` can be told, and what they read. Imports no JAX."""

import dataclasses
from pathlib import Path

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, option
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.options import BatchOptions, Output
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.process_options import ProcessOptions


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """One plan, of sampling or of training."""

    topology: str = option(
        "machine, such as v6e-8 or H100-1; all: every machine that is known", group="plan", metavar="NAME"
    )
    config: str | None = option("TOML file of sample's options", group="plan", metavar="FILE", default=None)
    train: str | None = option(
        "TOML file of train's options, to plan training instead", group="plan", metavar="FILE", default=None
    )
    mesh: str | None = option(
        "as sample and train take it (default: as they choose it on that machine)",
        group="plan",
        metavar="AXES",
        default=None,
    )
    size: str | None = option(
        "pixels: a size that the config's bucket and fit allow (default: the bucket's usual one, such as 640x640)",
        group="plan",
        metavar="WxH",
        default=None,
    )
    programs: tuple[str, ...] = option(
        "only these programs, such as: step decode", group="plan", metavar="NAME", default=()
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
        "family of the models (default: that of the config or of --weights)",
        group="model",
        metavar="NAME",
        default=None,
    )
    json: str | None = option("also write the plan to this JSON file", group="output", metavar="FILE", default=None)

    compare: str | None = option(
        "JSON file of an earlier plan: also say what is different now", group="output", metavar="FILE", default=None
    )

    def __post_init__(self):
        if self.config and self.train:
            raise UserError("cannot be given with --config; choose one", field="train")
        if not self.config and not self.train:
            raise UserError("or --train is missing; give the options of a run", field="config")
        if self.model and self.weights:
            raise UserError("cannot be given with --model; choose one", field="weights")
        if self.json and not Path(self.json).resolve().parent.is_dir():
            raise UserError(f"{self.json}: there is no such folder; make it or give another path", field="json")
        if self.mesh is not None:
            MeshConfig.read(self.mesh)


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """The page of what fits where."""

    output: str = option("the page to write", group="output", metavar="FILE", default="docs/tpu.md", positional=True)
    only: tuple[str, ...] = option(
        "make only these rows anew and leave the others: rows of docs/tpu.json by name or by how it begins, such as "
        "v6e or 'v6e-8 sample_480'",
        group="output",
        metavar="NAME",
        default=(),
    )

    def __post_init__(self):
        if not Path(self.output).resolve().parent.is_dir():
            raise UserError(f"{self.output}: there is no such folder; make it or give another path", field="output")
        if self.rows_file == Path(self.output):
            raise UserError(f"{self.output}: here its rows are kept; give the page, docs/tpu.md", field="output")

    @property
    def rows_file(self) -> Path:
        """Where the rows are kept: beside the page."""
        return Path(self.output).with_suffix(".json")


def groups_of_sampling(family: str) -> Groups:
    """All that a config of sampling may hold."""
    module = registry.settings_of(family)
    return {
        "settings": module.Settings,
        "machine": Machine,
        "files": module.Files,
        "weights": Weights,
        "output": Output,
        "batch": BatchOptions,
        "processes": ProcessOptions,
    }
