"""Train a tiny decoder for the VAE of some weights, on videos; then measure it on others.

It is written as tiny decoders are published: convert --components tiny_decoder --tiny_decoder FILE adds it to the
weights, and sample --decoder tiny shows clips by it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups
from talkverse_jax.training.decoder.options import DecoderOptions


def groups(family: str) -> Groups:
    """The options."""
    return {"decoder": DecoderOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv)["decoder"]

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.core import compile_cache
    from talkverse_jax.evaluate.decoders import measure, table
    from talkverse_jax.training.decoder.run import train_decoder

    compile_cache.enable()
    reporter = TerminalReporter()
    file = train_decoder(options, reporter)
    if file is None:
        reporter.say("interrupted: saved; the same command goes on from there")
        return
    reporter.say(f"{file}: under the published names; to add it, talkverse-jax convert --tiny_decoder")
    if options.held_out:
        found = measure(options, file, reporter)
        Path(options.output_path, "measures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(table(found))
