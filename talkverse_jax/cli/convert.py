"""Convert published PyTorch weights into a folder of weights for the other commands."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.cli.flags import parse
from talkverse_jax.core import presets
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, option
from talkverse_jax.pipeline import registry


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """What is converted, how, and where to."""

    download: str | None = option(
        "first fetch the files from the Hugging Face hub (or HF_ENDPOINT) into DIR; what is there stays",
        group="from",
        metavar="DIR",
        default=None,
    )
    output: str | None = option(
        "folder of converted weights; a component that is there already, made from the same files with the same "
        "settings, is skipped",
        group="to",
        metavar="DIR",
        default=None,
    )
    export: str | None = option(
        "write the transformer in --output back as safetensors files into DIR, bit for bit (it must have been "
        "converted with --lora_merge false --dtype keep)",
        group="to",
        metavar="DIR",
        default=None,
    )
    components: tuple[str, ...] = option(
        "which models, separated by commas", group="how", metavar="LIST", default=("dit", "vae", "text", "audio")
    )
    dtype: Literal["auto", "bfloat16", "float32", "keep"] = option(
        "of the parameters; auto: dit and text bfloat16, vae and audio float32; keep: as they are in the files",
        group="how",
        default="auto",
    )
    config: str | None = option(
        "TOML file or preset with other sizes, a table for each component (default: the published sizes)",
        group="how",
        metavar="FILE",
        default=None,
    )
    lora_rank: int = option("rank of the pairs in --lora_ckpt", group="how", metavar="N", default=128)
    lora_alpha: float = option("alpha of the pairs in --lora_ckpt", group="how", metavar="X", default=128.0)
    lora_merge: bool = option(
        "add the pairs to the kernels; false: store them beside, to be added on loading", group="how", default=True
    )

    def __post_init__(self):
        if self.lora_rank < 1:
            raise UserError(f"{self.lora_rank}: give 1 or more", field="lora_rank")
        if not self.output and (self.export or not self.download):
            raise UserError("is missing; give the folder of converted weights", field="output")


def groups(family: str) -> Groups:
    """The options, where the weights are of that family."""
    return {"sources": registry.settings_of(family).Sources, "choice": FamilyChoice, "convert": ConvertOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    made = parse(groups(family_named(argv)), prog, __doc__ or "", argv, config=False)
    asked = made["convert"]

    from talkverse_jax.convert import convert, export, hub
    from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs

    for name in asked.components:
        if name not in COMPONENTS:
            raise UserError(f"{name!r} is none of {', '.join(COMPONENTS)}", field="components")
    sources = dataclasses.asdict(made["sources"])
    if asked.download:
        fetched = hub.download(asked.download, asked.components)
        sources = {name: given or fetched.get(name) for name, given in sources.items()}
    if asked.output and (any(sources.values()) or not asked.export):
        configs = ModelConfigs.from_toml(presets.find(asked.config)) if asked.config else ModelConfigs.real_size()
        settings = convert.Settings(asked.dtype, asked.lora_rank, asked.lora_alpha, asked.lora_merge)
        convert.convert(asked.output, asked.components, configs, settings, **sources)
    if asked.export:
        export.export(asked.output, asked.export)
