"""Make the list of a batch from pictures and sounds, for `sample --batch`.

Pictures (or videos to dub) and sounds of the same name belong together. Where one side is a single file, it goes with
every file of the other. The text file NAME.txt beside a picture is its prompt.
"""

import dataclasses
import sys
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups, option
from talkverse_jax.pipeline import registry


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """What the list is made of."""

    pictures: str = option("folder of pictures or videos, or one file for all sounds", group="input", metavar="DIR")
    sounds: str = option("folder of sounds, or one file for all pictures", group="input", metavar="DIR")
    output: str = option("the list to write, JSON lines", group="output", metavar="FILE")
    prompt: str | None = option(
        "prompt of the pictures that have no NAME.txt", group="input", metavar="TEXT", default=None
    )
    family: str = option(
        "family of the models that make the videos", group="input", metavar="NAME", default=registry.DEFAULT
    )


def groups(family: str) -> Groups:
    return {"list": ListOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    asked = parse(groups(""), prog, __doc__ or "", argv, config=False)["list"]

    from talkverse_jax.run.batch.make_list import list_batch, write_list

    items = list_batch(asked.pictures, asked.sounds, asked.prompt, asked.output, asked.family)
    write_list(items, asked.output)
    print(f"{len(items)} videos in {asked.output}", file=sys.stderr)
