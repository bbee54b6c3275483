"""Make a live video: a picture answers a sound while it comes, for as long as it comes.

The sound comes on standard input, from a file at its own speed, or from a microphone; the video goes to a file that
plays while it grows, or to standard output (docs/live.md).
"""

import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from talkverse_jax.cli.families import FamilyChoice, family_named, with_settings_of
from talkverse_jax.cli.flags import read
from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.options import Groups
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.live.options import MICROPHONE, PIPE, Keeping, StreamOptions


def groups(family: str) -> Groups:
    """The options, where a model of that family makes the video."""
    return {
        "weights": Weights,
        "choice": FamilyChoice,
        "stream": StreamOptions,
        "settings": registry.settings_of(family).Settings,
        "keeping": Keeping,
        "machine": Machine,
    }


def main(argv: Sequence[str] | None, prog: str) -> None:
    family = family_named(argv)
    given = read(groups(family), prog, __doc__ or "", argv)
    weights: Weights = given.build({"weights": Weights})["weights"]
    given.build({"choice": FamilyChoice})["choice"].check(weights.weights)
    made = with_settings_of(weights.weights, given).build(groups(family))
    options: StreamOptions = made["stream"]
    _check_pipes(options)

    from talkverse_jax.cli.progress import say
    from talkverse_jax.core import compile_cache
    from talkverse_jax.core.options import build
    from talkverse_jax.media.live_writer import Mp4Writer, RawWriter
    from talkverse_jax.pipeline.encoders import SAMPLE_RATE
    from talkverse_jax.pipeline.events import Events
    from talkverse_jax.pipeline.job import Job
    from talkverse_jax.run.live.stream import stream

    class Said(Events):
        def notice(self, text: str) -> None:
            say(text)

    module, settings = registry.settings_of(family), made["settings"]
    person = module.of_person(options.image, options.sound, settings.prompt)
    named = {field: person[field] for field in module.Files.__dataclass_fields__ if field in person}
    files = build({"files": module.Files}, named, prog)["files"]
    blocks = _source(options, made["machine"])
    compile_cache.enable()
    job = Job.make(family, made["weights"], made["machine"], files, settings, options.output)
    pipeline = registry.find(family).load_pipeline(made["weights"], made["machine"], settings=settings)

    with _opened(options.output) as sink, _reporting(options.report) as report:

        def writer(size: tuple[int, int]) -> Mp4Writer | RawWriter:
            return RawWriter(sink) if options.format == "rgb24" else Mp4Writer(sink, size, SAMPLE_RATE)

        try:
            stream(pipeline, job, blocks, writer, made["keeping"], Said(), report)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"the video so far is whole in {options.output}") from None
        except BrokenPipeError:
            raise UserError("nobody reads the video any more", field="output") from None


def _check_pipes(options: StreamOptions) -> None:
    """Raises UserError where a terminal stands for a pipe."""
    if options.sound == PIPE and sys.stdin.isatty():
        raise UserError("nothing is piped in; pipe samples or a wav, or give a file or microphone", field="sound")
    if options.output == PIPE and sys.stdout.isatty():
        raise UserError("a terminal shows no video; pipe it on, or give a file", field="output")


def _source(options: StreamOptions, machine: Machine) -> Callable[[], Iterator[Any]]:
    """Gives the sound as it comes.

    Raises:
      UserError: the file cannot be used.
    """
    from talkverse_jax.media import live_source
    from talkverse_jax.pipeline.encoders import SAMPLE_RATE

    if options.sound == PIPE:
        pipe = io.FileIO(sys.stdin.fileno(), "rb", closefd=False)
        return lambda: live_source.pipe_sound(pipe, options.rate, SAMPLE_RATE)
    kind, _, device = options.sound.partition(":")
    if kind == MICROPHONE:
        return lambda: live_source.microphone_sound(SAMPLE_RATE, device or None)
    return live_source.paced_sound(options.sound, SAMPLE_RATE, machine.walls)


@contextmanager
def _opened(output: str) -> Iterator[Any]:
    """Where the bytes go, at once."""
    if output == PIPE:
        yield io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
        return
    with naming(output), open(output, "wb", buffering=0) as file:
        yield file


@contextmanager
def _reporting(path: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Appends each report to a file as a line of JSON."""
    if path is None:
        yield lambda figures: None
        return
    with naming(path), open(path, "a", encoding="utf-8", buffering=1) as file:
        yield lambda figures: print(json.dumps(figures), file=file)
