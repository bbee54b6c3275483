"""Make a talking video of a picture, a sound and a prompt, or the videos of a list of these.

With --batch the list names the files and the prompts.
"""

import sys
from collections.abc import Sequence

from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.cli.flags import Given, read
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, blanks, describe
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.options import BatchOptions, Output
from talkverse_jax.sharding.process_options import ProcessOptions

_OF_A_JOB = ("files", "settings")


def groups(family: str) -> Groups:
    """The options, where a model of that family makes the video."""
    module = registry.settings_of(family)
    return {
        "weights": Weights,
        "choice": FamilyChoice,
        "files": module.Files,
        "settings": module.Settings,
        "output": Output,
        "batch": BatchOptions,
        "machine": Machine,
        "processes": ProcessOptions,
    }


def main(argv: Sequence[str] | None, prog: str) -> None:
    family = family_named(argv)
    given = read(groups(family), prog, __doc__ or "", argv)
    made = given.build({name: cls for name, cls in groups(family).items() if name not in _OF_A_JOB})
    made["choice"].check(made["weights"].weights)
    if made["batch"].batch is None:
        _one(made | given.build({name: groups(family)[name] for name in _OF_A_JOB}), family)
    else:
        _many(made, family, given)


def _one(made: dict, family: str) -> None:
    from talkverse_jax.cli.progress import TerminalEvents
    from talkverse_jax.core import compile_cache
    from talkverse_jax.media.video_writer import check_output
    from talkverse_jax.pipeline.job import Job
    from talkverse_jax.run.resume import left_behind
    from talkverse_jax.run.worker import make_video
    from talkverse_jax.sharding import distributed

    weights, machine, settings, processes = (made[name] for name in ("weights", "machine", "settings", "processes"))
    with distributed.session(**processes.session):
        compile_cache.enable()
        job = Job.make(family, weights, machine, made["files"], settings, made["output"].output)
        pipeline = registry.find(family).load_pipeline(weights, machine, settings=settings)
        try:
            with TerminalEvents() as events:
                make_video(pipeline, job, events, resume=made["output"].resume)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(left_behind(check_output(job.output))) from None


def _many(made: dict, family: str, given: Given) -> None:
    """Be one of a batch's workers, which are processes of their own, also where others could be met."""
    weights, machine, batch = made["weights"], made["machine"], made["batch"]
    if any(value is not None for value in made["processes"].place):
        raise UserError("starts workers that are independent; start each without --coordinator_address", field="batch")
    if made["output"].resume:
        raise UserError("is for single videos; a batch given again makes what is missing", field="resume")

    from talkverse_jax.cli.progress import TerminalReporter
    from talkverse_jax.core import compile_cache
    from talkverse_jax.run.batch.items import Base
    from talkverse_jax.run.batch.worker import run_batch

    of_all = {"settings": registry.settings_of(family).Settings}
    values = {each.name: given.values[each.name] for each in describe(of_all) if each.name in given.values}
    usual = given.having(blanks(of_all)).build(of_all)["settings"]
    compile_cache.enable()
    load = registry.find(family).load_pipeline
    pipeline = load(weights, machine, settings=usual, pack=batch.batch_size, keep_encoders=True)
    try:
        failed = run_batch(pipeline, Base(family, weights, machine, values), batch, TerminalReporter())
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the finished videos are kept; the same command makes the others") from None
    sys.exit(1 if failed else 0)
