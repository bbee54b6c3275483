"""Makes a talking video of a picture, a sound and a prompt, or the videos of a list of these."""

import sys

from talkverse_jax.cli.progress import TerminalEvents, TerminalReporter
from talkverse_jax.core import options
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.options import BatchOptions, Output
from talkverse_jax.sharding.process_options import ProcessOptions


def main(argv: list[str] | None = None) -> None:
    groups = {"weights": Weights, "machine": Machine, "output": Output, "batch": BatchOptions}
    groups |= {"processes": ProcessOptions}
    module = registry.settings_of(registry.DEFAULT)
    own = {"files": module.Files, "settings": module.Settings}
    values = options.read({**groups, **own}, "sample.py", __doc__, argv)
    names = options.names(own)
    job_values = {name: value for name, value in values.items() if name in names}
    given = options.build(groups, {k: v for k, v in values.items() if k not in names}, "sample.py")
    weights, machine, batch, processes = (given[name] for name in ("weights", "machine", "batch", "processes"))
    family = registry.family_of(weights.weights)
    if batch.batch is None:
        made = options.build(own, job_values, "sample.py")
    elif any(value is not None for value in processes.processes):
        raise UserError(": its workers are independent; start each alone, without --coordinator_address", field="batch")
    elif given["output"].resume:
        raise UserError(": is for single videos; a batch given again makes what is missing", field="resume")

    from talkverse_jax.core import compile_cache
    from talkverse_jax.pipeline.job import Job
    from talkverse_jax.run.batch.items import Base
    from talkverse_jax.run.batch.worker import run_batch
    from talkverse_jax.run.worker import make_video
    from talkverse_jax.sharding import distributed

    load = registry.find(family).load_pipeline
    if batch.batch is not None:  # its workers are processes of their own, also where others could be met
        compile_cache.enable()
        guided = job_values.get("sample_guide_scale", 4.5) > 1
        pipeline = load(weights, machine, guided=guided, pack=batch.batch_size, keep_encoders=True)
        job_values = {
            name: value for name, value in job_values.items() if name not in options.names({"": module.Files})
        }
        base = Base(family, weights, machine, job_values)
        sys.exit(1 if run_batch(pipeline, base, batch, TerminalReporter()) else 0)
    with distributed.session(*processes.processes, heartbeat_timeout=processes.heartbeat_timeout):
        compile_cache.enable()
        job = Job.make(family, weights, machine, made["files"], made["settings"], given["output"].output)
        pipeline = load(weights, machine, guided=made["settings"].guided)
        with TerminalEvents() as events:
            make_video(pipeline, job, events, resume=given["output"].resume)
