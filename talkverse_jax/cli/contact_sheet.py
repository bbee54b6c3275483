"""Show a talking video on one page: rows of frames, with the sound of that stretch under each."""

import dataclasses
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.options import Groups, option


@dataclasses.dataclass(frozen=True)
class ContactSheetOptions:
    """A video, and its page."""

    video: str = option("a video file", group="files", metavar="VIDEO", positional=True)
    output: str = option("the page to write (.png)", group="files", metavar="OUT.png", positional=True)
    title: str | None = option("the heading (default: the video's name)", group="page", metavar="TEXT", default=None)
    note: str | None = option("a line set apart under the heading", group="page", metavar="TEXT", default=None)


def groups(family: str) -> Groups:
    return {"page": ContactSheetOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    page = parse(groups(""), prog, __doc__ or "", argv, config=False)["page"]

    from talkverse_jax.media.contact_sheet import contact_sheet

    contact_sheet(page.video, page.output, title=page.title, note=page.note)
