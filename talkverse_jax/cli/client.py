"""Have a server make a talking video, and fetch it.

Any other --FIELD VALUE is a field of the server's, such as --seed 7, --num_clip 2, --size_bucket NAME; docs/serving.md
lists them. One that is an object is written as JSON: --speakers '{"1": {"audio": "ann.wav"}}'. The key of a server that
asks for one is read from the environment's TALKVERSE_API_KEY. Ctrl-C stops the video. Exit code 2: the server refused
it; 1: it failed, or the server does not answer.
"""

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkverse_jax.cli.command import run_command
from talkverse_jax.cli.flags import parse
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, option
from talkverse_jax.core.paths import check_apart, expanded

if TYPE_CHECKING:  # httpx takes a third of a second, which --help need not
    from talkverse_jax.client import Client, Event

_PROG = "talkverse-jax-client"  # where only the client is installed
_OFTEN = 5.0  # seconds between two lines that tell steps


@dataclasses.dataclass(frozen=True)
class ClientOptions:
    """A video to be made by a server."""

    image: str = option("the picture, or a video to dub", group="video", metavar="FILE")
    prompt: str = option("what is seen", group="video", metavar="TEXT")
    output: str = option("the video to write (.mp4)", group="video", metavar="FILE")
    audio: str | None = option("the sound, or a video's sound", group="video", metavar="FILE", default=None)
    tts_text: str | None = option(
        "a text that the server speaks, in place of --audio", group="video", metavar="TEXT", default=None
    )
    server: str = option("the server's address", group="server", metavar="URL", default="http://127.0.0.1:8765")


def groups(family: str) -> Groups:
    return {"client": ClientOptions}


def main(argv: Sequence[str] | None, prog: str) -> None:
    words, fields = _parted(sys.argv[1:] if argv is None else argv)
    options = parse(groups(""), prog, __doc__ or "", words, config=False)["client"]
    output = _writable(options)
    try:
        from talkverse_jax.client import ApiError, Client, VideoFailed
    except ImportError:
        raise UserError("httpx is missing; type: pip install 'talkverse_jax[client]'") from None

    try:
        client = Client(options.server)
    except ValueError as error:
        raise UserError(str(error), field="server") from None
    try:
        with client:
            _make(client, options, fields, output)
    except ApiError as error:
        where = f"{error.param}: " if error.param and error.param not in error.message else ""
        raise UserError(f"{where}{error.message}") from None
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file") from None
    except (VideoFailed, ConnectionError) as error:
        _say(f"error: {error}")
        sys.exit(1)


def script() -> None:
    """The command of the wheel that holds nothing but the client."""
    run_command(lambda: main(sys.argv[1:], _PROG))


def _parted(argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The words of our own flags, and the server's fields that the others give.

    Raises:
      UserError: a field is given twice, or its object is no JSON.
    """
    own, words, fields = {field.name for field in dataclasses.fields(ClientOptions)}, [], {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        values = []
        while rest and not rest[0].startswith("--") and rest[0] != "-h":
            values.append(rest.pop(0))
        name, joined, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name in own or name == "help":
            words += [word, *values]
            continue
        if name in fields:
            raise UserError("is given twice; give it once", field=name)
        fields[name] = _field(name, [value] * bool(joined) + values)
    return words, fields


def _field(name: str, texts: list[str]) -> Any:
    """A field's value: one text, or several; an object where it is JSON; true where a flag stands alone."""
    if len(texts) == 1 and texts[0].startswith("{"):
        try:
            return json.loads(texts[0])
        except ValueError as error:
            raise UserError(f"is no JSON ({error})", field=name) from None
    return texts if len(texts) > 1 else "".join(texts) if texts else "true"


def _writable(options: ClientOptions) -> Path:
    """Where the video will be, before the server works for it.

    Raises:
      UserError: nothing can be written there.
    """
    output = expanded(options.output).absolute()
    if output.suffix.lower() != ".mp4" or output.is_dir():
        raise UserError(f"{options.output}: give the name of a video, which ends in .mp4", field="output")
    read = [("--image", options.image), ("--audio", options.audio or options.image)]
    check_apart([output], read, "give another --output")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        reason = f"{options.output}: cannot be written ({error.strerror}); choose another folder"
        raise UserError(reason, field="output") from None
    return output


def _make(client: "Client", options: ClientOptions, fields: dict[str, Any], output: Path) -> None:
    lines = _Lines()
    video = client.create(options.image, options.audio, prompt=options.prompt, tts_text=options.tts_text, **fields)
    for notice in video.notices:
        _say(notice)
    try:
        video = client.wait(video.id, lines.tell)
        client.download(video.id, output)
    except KeyboardInterrupt:
        client.delete(video.id)
        raise KeyboardInterrupt(f"{video.id} is stopped and removed") from None
    _say(f"{options.output}: {video.seconds} s of {video.size}, seed {video.seed}")


class _Lines:
    """What a person reads of a video's events."""

    def __init__(self) -> None:
        self._place, self._said, self._begun = None, "", 0.0

    def tell(self, event: "Event") -> None:
        """Say what is new, and of steps not each."""
        data = event.data
        if event.kind == "notice":
            _say(data["message"])
        elif event.kind == "requeued":
            _say(f"waits again ({data['reason']})")
        elif event.kind == "server":
            _say("the server ends; the video goes on when it is started again")
        elif event.kind == "progress":
            place, line = (data["status"], data["phase"], data["clip"], data["queue_position"]), _line(data)
            if line != self._said and (place != self._place or time.monotonic() - self._begun > _OFTEN):
                self._place, self._said, self._begun = place, line, time.monotonic()
                _say(line)


def _line(data: Any) -> str:
    if data["status"] == "queued":
        return f"waits, number {data['queue_position']}"
    line = data["phase"] or data["status"].replace("_", " ")
    if data["clip"]:
        line += f", clip {data['clip']} of {data['clips']}"
    if data["phase"] == "denoising" and data["step"]:
        line += f", step {data['step']} of {data['steps']}"
    return line + (f", {data['eta_seconds']} s left" if data["eta_seconds"] else "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
