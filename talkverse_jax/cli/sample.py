"""Make a talking video of a picture, a sound and a prompt, or the videos of a list of these.

With --batch the list names the files and the prompts.
"""

import dataclasses
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from talkverse_jax.cli.families import FamilyChoice, family_named, with_settings_of
from talkverse_jax.cli.flags import Given, read
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, blanks, describe
from talkverse_jax.helpers.options import GROUPS as OF_HELP
from talkverse_jax.helpers.options import HelpOptions
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.roles import roles_of
from talkverse_jax.run.options import BatchOptions, EngineOptions, Output
from talkverse_jax.sharding.process_options import ProcessOptions

if TYPE_CHECKING:
    from talkverse_jax.run.batch.items import Base

_OF_A_JOB = ("files", "settings")
_NOT_SPOKEN_YET = "the speech"  # stands for its file, while other options are checked


def groups(family: str) -> Groups:
    """The options, where a model of that family makes the video."""
    module = registry.settings_of(family)
    return {
        "weights": Weights,
        "choice": FamilyChoice,
        "files": module.Files,
        "settings": module.Settings,
        **OF_HELP,
        "output": Output,
        "batch": BatchOptions,
        "engine": EngineOptions,
        "machine": Machine,
        "processes": ProcessOptions,
    }


def main(argv: Sequence[str] | None, prog: str) -> None:
    family = family_named(argv)
    given = read(groups(family), prog, __doc__ or "", argv)
    made = given.build({name: cls for name, cls in groups(family).items() if name not in (*_OF_A_JOB, "help")})
    made["choice"].check(made["weights"].weights)
    given = with_settings_of(made["weights"].weights, given)
    if made["batch"].batch is None:
        if made["engine"].engine == "ray":
            raise UserError("ray is for --batch", field="engine")
        _one(made, family, given)
    else:
        _many(made, family, given, sys.argv[1:] if argv is None else argv)


def _one(made: dict, family: str, given: Given) -> None:
    from talkverse_jax.cli.progress import TerminalEvents
    from talkverse_jax.core import compile_cache
    from talkverse_jax.media.video_writer import check_output
    from talkverse_jax.pipeline.job import Job
    from talkverse_jax.run.resume import left_behind
    from talkverse_jax.run.worker import make_video
    from talkverse_jax.sharding import distributed

    weights, machine, output = made["weights"], made["machine"], made["output"]
    with distributed.session(**made["processes"].session), _helped(made, family, given) as (given, helped):
        compile_cache.enable()
        files, settings = given.build({name: groups(family)[name] for name in _OF_A_JOB}).values()
        job = Job.make(family, weights, machine, files, settings, output.output, helped)
        pipeline = registry.find(family).load_pipeline(weights, machine, settings=settings)
        try:
            with TerminalEvents() as events:
                make_video(pipeline, job, events, resume=output.resume)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(left_behind(check_output(job.output))) from None


@contextmanager
def _helped(made: dict, family: str, given: Given) -> Iterator[tuple[Given, dict[str, Any] | None]]:
    """What was given, with the prompt improved and the text spoken, where that is asked for; and how."""
    roles = roles_of(family)
    made = made | {"help": _wish(given.build({"help": HelpOptions})["help"], given, roles.sound)}
    if not (made["help"].use_prompt_extend or made["help"].tts_text):
        yield given, None
        return
    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.helpers.video_help import VideoHelp, Wish
    from talkverse_jax.pipeline.job import Job
    from talkverse_jax.run.helped import helped

    machine, output = made["machine"], made["output"]
    standing_in = given.giving(roles.sounds([_NOT_SPOKEN_YET]) if made["help"].tts_text else {})
    files, settings = standing_in.build({name: groups(family)[name] for name in _OF_A_JOB}).values()
    read = Job.make(family, made["weights"], machine, files, settings, output.output).files_read()
    read = [(flag, path) for flag, path in read if path != _NOT_SPOKEN_YET]
    if example := made["help"].tts_prompt_audio:
        read.append(("--tts_prompt_audio", example))
    picture, prompt = getattr(files, roles.picture), getattr(settings, roles.prompt)
    wanted = Wish(picture, prompt, roles.people, **{name: made[name] for name in OF_HELP})
    helpers = VideoHelp(machine.walls, TerminalReporter().say)
    with helped(output.output, wanted, helpers, roles, read, output.resume) as (options, note):
        yield given.giving(options), note


def _wish(wish: HelpOptions, given: Given, sound: str) -> HelpOptions:
    """Without a text to speak where a flag gives a sound, and the config the text.

    Raises:
      UserError: both are given in one way.
    """
    if not wish.tts_text or not given.values.get(sound) or "tts_text" in given.flags and sound not in given.flags:
        return wish
    if "tts_text" not in given.flags and sound in given.flags:
        return dataclasses.replace(wish, tts_text=None, enable_tts=False, tts_prompt_audio=None, tts_prompt_text=None)
    raise UserError(f"is given, and --{sound} too; give one of them", field="tts_text")


def _many(made: dict, family: str, given: Given, argv: Sequence[str]) -> None:
    """Be one of a batch's workers, which are processes of their own, also where others could be met, unless they are
    one worker together; or place them."""
    weights, machine, batch, engine = (made[name] for name in ("weights", "machine", "batch", "engine"))
    processes: ProcessOptions = made["processes"]
    if any(value is not None for value in processes.place) and not batch.together:
        raise UserError(
            "starts workers that are independent; start each without --coordinator_address, or give --together",
            field="batch",
        )
    if made["output"].resume:
        raise UserError("is for single videos; a batch given again makes what is missing", field="resume")

    from talkverse_jax.run.batch.items import Base

    of_all = {"settings": registry.settings_of(family).Settings}
    values, for_help = (
        {each.name: given.values[each.name] for each in describe(found) if each.name in given.values}
        for found in (of_all, OF_HELP)
    )
    usual = given.having(blanks(of_all)).build(of_all)["settings"]
    base = Base(family, weights, machine, values)
    try:
        if engine.engine == "ray":
            code = _by_ray(base, batch, engine, argv)
        elif batch.together:
            from talkverse_jax.sharding import distributed

            with distributed.session(**processes.session):
                code = _worker(base, batch, usual, for_help)
        else:
            code = _worker(base, batch, usual, for_help)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the finished videos are kept; the same command makes the others") from None
    sys.exit(code)


def _worker(base: "Base", batch: BatchOptions, usual: Any, for_help: dict[str, Any]) -> int:
    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.core import compile_cache
    from talkverse_jax.helpers.video_help import VideoHelp
    from talkverse_jax.run.batch.helped import ItemHelp
    from talkverse_jax.run.batch.store import open_store
    from talkverse_jax.run.batch.together import run_together
    from talkverse_jax.run.batch.worker import run_batch
    from talkverse_jax.sharding.distributed import process_count

    assert batch.output_dir  # what BatchOptions sees to
    folder = batch.output_dir
    compile_cache.enable()
    load = registry.find(base.family).load_pipeline
    pipeline = load(base.weights, base.machine, settings=usual, pack=batch.batch_size, keep_encoders=True)
    reporter = TerminalReporter()
    helpers = VideoHelp(base.machine.walls, reporter.say)
    help = ItemHelp(lambda: open_store(folder), helpers, for_help, roles_of(base.family))
    base = dataclasses.replace(base, help=help)
    run = run_together if process_count() > 1 else run_batch
    return 1 if run(pipeline, base, batch, reporter) else 0


def _by_ray(base: "Base", batch: BatchOptions, engine: EngineOptions, argv: Sequence[str]) -> int:
    """Run the same command, without the engine, on the hosts of a cluster."""
    if importlib.util.find_spec("ray") is None:
        raise UserError("ray is missing; type: pip install 'talkverse_jax[ray]'")

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.run.cluster.engine import run_on_hosts

    return run_on_hosts(["talkverse_jax", "sample", *argv, "--engine", "none"], base, batch, engine, TerminalReporter())
