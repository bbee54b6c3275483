"""Show a page of Gradio that makes talking videos with a server, for Spaces and notebooks.

A server has a page of its own, at its address; this one is for where only Gradio can be shown. The key of a server that
asks for one is read from the environment's TALKVERSE_API_KEY: whoever sees the page makes videos with it.
"""

import dataclasses
from collections.abc import Sequence

from talkverse_jax.cli.flags import parse
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, option


@dataclasses.dataclass(frozen=True)
class GradioOptions:
    """Where the page is, and the server behind it."""

    server: str = option("the server's address", group="page", metavar="URL", default="http://127.0.0.1:8765")
    host: str = option("where the page listens", group="page", metavar="HOST", default="127.0.0.1")
    port: int = option("where the page listens", group="page", metavar="N", default=7860)

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise UserError(f"{self.port}: give 1 to 65535", field="port")


def groups(family: str) -> Groups:
    return {"gradio": GradioOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    options = parse(groups(""), prog, __doc__ or "", argv, config=False)["gradio"]
    try:
        from gradio.themes import Soft  # pyright: ignore[reportMissingImports]  # of an extra

        from talkverse_jax.client import ApiError, Client
        from talkverse_jax.client.gradio_page import gradio_page
    except ImportError:
        raise UserError("gradio is missing; type: pip install 'talkverse_jax[gradio]'") from None

    try:
        page = gradio_page(Client(options.server))
    except (ApiError, ConnectionError, ValueError) as error:
        raise UserError(str(error), field="server") from None
    plain = Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        page.launch(server_name=options.host, server_port=options.port, theme=plain, ssr_mode=False, show_error=True)
    except OSError as error:
        raise UserError(f"{options.port}: {error}; give another", field="port") from None
