"""Compile the programs of sampling before there is a run, for this machine or a TPU that is not there, and keep them.

A run with the same options then loads them from the folder of compiled programs (docs/launch.md). Exit codes: 0 all are
there; 1 one cannot be compiled; 2 bad input.
"""

import sys
from collections.abc import Sequence

from talkverse_jax.cli.families import family_named
from talkverse_jax.cli.flags import read
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import Groups, describe
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.plan.options import WarmOptions, groups_of_sampling


def groups(family: str) -> Groups:
    """The options, besides `--config`."""
    return {"warm": WarmOptions, "machine": Machine}


def main(argv: Sequence[str] | None, prog: str) -> None:
    family = family_named(argv)
    mine, all_names = groups(family), {each.name for each in describe(groups_of_sampling(family))}
    given = read(mine, prog, __doc__ or "", argv, ignored=all_names - {each.name for each in describe(mine)})
    if given.config is None:
        raise UserError(f"{prog}: --config missing; give the options of a run, such as sample_480")
    made = given.build(mine)

    from talkverse_jax.core import compile_cache
    from talkverse_jax.plan.sampling import sampling_options
    from talkverse_jax.plan.warm import warm

    settings, _ = sampling_options(family, given.config)
    folder, failed = compile_cache.enable(), False
    if folder is None:
        raise UserError("programs are not kept; give a folder that can be written as JAX_COMPILATION_CACHE_DIR")
    for program in warm(registry.find(family), settings, made["machine"], made["warm"]):
        print(program, flush=True)
        failed |= program.complaint is not None
    print(f"kept in {folder}")
    sys.exit(1 if failed else 0)
