"""What `plan`, `warm` and `plan-table` can be told, and what they read. Imports no JAX."""

import dataclasses
from pathlib import Path
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, check_bounds, option
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.options import BatchOptions, Output
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.process_options import ProcessOptions


def _size_option(group: str) -> Any:
    return option(
        "pixels: a size that the config's bucket and fit allow (default: the bucket's usual one, such as 640x640)",
        group=group,
        metavar="WxH",
        default=None,
    )


def _programs_option(group: str) -> Any:
    return option(
        "only these programs, such as: step 'decode*' (all kinds of decode)",
        group=group,
        metavar="NAME",
        default=(),
    )


def _model_option() -> Any:
    return option(
        "TOML file of the models' sizes (default: the published ones)", group="model", metavar="FILE", default=None
    )


def _weights_option() -> Any:
    return option(
        "folder of converted weights to take the sizes from instead", group="model", metavar="DIR", default=None
    )


def _int8_option() -> Any:
    return option(
        "the transformer's kernels are int8, as --dtype int8 converts them (default: as --weights has them)",
        group="model",
        default=False,
    )


def _family_option(default: str) -> Any:
    return option(f"family of the models (default: {default})", group="model", metavar="NAME", default=None)


def _check_one_model(options: Any) -> None:
    """Raises UserError where the sizes are given twice."""
    if options.model and options.weights:
        raise UserError("cannot be given with --model; choose one", field="weights")


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
    size: str | None = _size_option("plan")
    programs: tuple[str, ...] = _programs_option("plan")
    model: str | None = _model_option()
    weights: str | None = _weights_option()
    int8: bool = _int8_option()
    family: str | None = _family_option("that of the config or of --weights")
    json: str | None = option("also write the plan to this JSON file", group="output", metavar="FILE", default=None)
    compare: str | None = option(
        "JSON file of an earlier plan: also say what is different now", group="output", metavar="FILE", default=None
    )

    def __post_init__(self):
        if self.config and self.train:
            raise UserError("cannot be given with --config; choose one", field="train")
        if not self.config and not self.train:
            raise UserError("or --train is missing; give the options of a run", field="config")
        _check_one_model(self)
        if self.json and not Path(self.json).resolve().parent.is_dir():
            raise UserError(f"{self.json}: there is no such folder; make it or give another path", field="json")
        if self.mesh is not None:
            MeshConfig.read(self.mesh)


@dataclasses.dataclass(frozen=True)
class WarmOptions:
    """Which programs are compiled, and for what."""

    topology: str | None = option(
        "machine to compile for, such as v6e-8; a TPU's needs libtpu, but no TPU (default: this machine)",
        group="warm",
        metavar="NAME",
        default=None,
    )
    size: str | None = _size_option("warm")
    batch_size: int = option(
        "videos that are denoised together, as of a batch", group="warm", metavar="N", default=1, least=1
    )
    programs: tuple[str, ...] = _programs_option("warm")
    model: str | None = _model_option()
    weights: str | None = _weights_option()
    int8: bool = _int8_option()
    family: str | None = _family_option("that of --weights or of the config")

    def __post_init__(self):
        check_bounds(self)
        _check_one_model(self)


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
