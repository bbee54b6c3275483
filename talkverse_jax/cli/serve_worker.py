"""Make the videos of servers that share a database: any number of workers, on any machines.

Options are those of the servers; a config of sample or serve may be given as it is.
"""

import dataclasses
import sys
from collections.abc import Sequence

from talkverse_jax.cli import serve
from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.cli.flags import read
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, blanks, describe
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.options import BatchOptions, Output
from talkverse_jax.serve.options import ServeOptions, SharedOptions
from talkverse_jax.sharding.process_options import ProcessOptions


def groups(family: str) -> Groups:
    """The options, where a model of that family makes the videos."""
    return {
        "weights": Weights,
        "choice": FamilyChoice,
        "defaults": serve.request_defaults(registry.settings_of(family).Settings),
        "machine": Machine,
        "processes": ProcessOptions,
        "shared": SharedOptions,
    }


def main(argv: Sequence[str] | None, prog: str) -> None:
    family = family_named(argv)
    module = registry.settings_of(family)
    every = groups(family)
    of_a_job = {"files": module.Files, "settings": module.Settings, "output": Output, "batch": BatchOptions}
    elsewhere = describe(of_a_job) + [each for each in describe(serve.groups(family))]
    known = {each.name for each in describe(every)}
    given = read(every, prog, __doc__ or "", argv, ignored=[each.name for each in elsewhere if each.name not in known])
    made = given.build(every)
    made["choice"].check(made["weights"].weights)
    settings = {"settings": module.Settings}
    usual = given.having(blanks(settings)).build(settings)["settings"]
    if made["shared"].database is None:
        raise UserError("is missing; give the database of the servers", field="database")
    serve.check_packages()
    from talkverse_jax.serve.work import WorkerService, work

    sys.exit(
        work(
            WorkerService(
                family=registry.family_of(made["weights"].weights),
                weights=made["weights"],
                machine=made["machine"],
                usual=usual,
                options=ServeOptions(**dataclasses.asdict(made["shared"])),
                processes=made["processes"],
                modules=registry.others(),
            )
        )
    )
