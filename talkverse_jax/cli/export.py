"""Write models back as safetensors files, under the names of the original.

Of converted weights, the files they were made from come out bit for bit, into a folder; they must have been converted
with --lora_merge false --dtype keep. With --output_path, what a training run has learned becomes one file.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Literal

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, option
from talkverse_jax.pipeline import registry


@dataclasses.dataclass(frozen=True)
class ExportCommand:
    """What is written, and where."""

    weights: str = option("folder of converted weights; of a run, those it began with", group="input", metavar="DIR")
    output: str = option("folder for the files; of a run, the file (.safetensors)", group="output", metavar="DIR")
    output_path: str | None = option("the run's folder, as train has it", group="run", metavar="DIR", default=None)
    checkpoint_path: str | None = option(
        "its checkpoints, where they are elsewhere (default: OUTPUT_PATH/checkpoints)",
        group="run",
        metavar="DIR",
        default=None,
    )
    export_step: int | None = option(
        "step of the checkpoint (default: the last)", group="run", metavar="N", default=None
    )
    export_dtype: Literal["float32", "bfloat16"] = option(
        "number type of the exported tensors", group="run", default="float32"
    )

    def __post_init__(self):
        if self.output_path is None and (self.checkpoint_path or self.export_step is not None):
            raise UserError("is missing; give the folder of the run", field="output_path")


def groups(family: str) -> Groups:
    """The options."""
    return {"export": ExportCommand}


def main(argv: Sequence[str] | None, prog: str) -> None:
    asked = parse(groups(""), prog, __doc__ or "", argv, config=False)["export"]
    family = registry.family_of(asked.weights)

    from talkverse_jax.cli.progress import TerminalReporter

    if asked.output_path is None:
        from talkverse_jax.convert.export import export
        from talkverse_jax.convert.options import ConvertOptions

        export(
            registry.find(family),
            ConvertOptions(output=asked.weights, export=asked.output),
            TerminalReporter(sys.stdout),
        )
        return

    from talkverse_jax.training.loop import train
    from talkverse_jax.training.options import TrainOptions

    names = ("weights", "output_path", "checkpoint_path", "export_step", "export_dtype")
    values = {name: getattr(asked, name) for name in names} | {"export": asked.output}
    train(TrainOptions.build(registry.settings_of(family), values, prog), TerminalReporter())
