"""Make the videos of servers that share a database: any number of workers, on any machines.

Options are those of the servers; a config of sample or serve may be given as it is.
"""

import dataclasses
import sys
from collections.abc import Sequence

from talkverse_jax.cli import serve
from talkverse_jax.cli.families import FamilyChoice, family_named
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine, Weights
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
    of_servers = serve.groups(family)
    _, made, usual = serve.read_service(family, groups(family), prog, __doc__ or "", argv, of_servers)
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
