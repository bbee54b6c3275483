"""Compile what a run calls, before there is a run: into the folder of kept programs, where the run finds them.

A program is found by its code, its compiler options, the devices and the versions of jaxlib and the compiler. Those for
a TPU are written here without one; no machine without a TPU can load them.
"""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax

from talkverse_jax.core.checked_cache import AlreadyKept, CheckedCache
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.jax_private import opened_programs
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.pipeline.placement import choose_mesh
from talkverse_jax.pipeline.programs import Call
from talkverse_jax.plan.options import WarmOptions
from talkverse_jax.plan.plan import choose_size, configs_of, int8_of, programs_named
from talkverse_jax.plan.sampling import SamplingRun
from talkverse_jax.sharding import topologies
from talkverse_jax.sharding.layout import alone_on


class Warmed(NamedTuple):
    """One program.

    Attributes:
      seconds: of tracing and compiling; without compiling, of what was kept already.
      bytes: in the folder.
      compiled: now; else it was kept already.
      complaint: the compiler's, where it cannot be had.
    """

    name: str
    seconds: float
    bytes: int
    compiled: bool
    complaint: str | None = None

    def __str__(self) -> str:
        if self.complaint:
            return f"{self.name}: cannot be compiled: {self.complaint}"
        done = "compiled" if self.compiled else "is there"
        return f"{self.name}: {done}, {self.seconds:.1f} s, {self.bytes / 1e6:.1f} MB"


def warm(family: Family, settings: Any, machine: Machine, options: WarmOptions) -> Iterator[Warmed]:
    """Compile what runs with these settings call, one program after the other; programs must be kept already
    (`compile_cache.enable`).

    Raises:
      UserError: an option cannot be used, or does not fit the devices or the model.
    """
    if family.calls is None:
        raise UserError(f"{family.name}: this family does not tell what its runs call; its first run keeps it")
    configs = configs_of(family, options.weights, options.model)
    int8 = int8_of(family, options.weights, options.int8, machine)
    run = SamplingRun(family, configs, settings, machine, choose_size(family.sizes(settings), options.size), int8)
    found = topologies.find(options.topology) if options.topology else None
    described = topologies.devices(found, to_keep=True) if found else None
    rows, memory = run.rows * options.batch_size, found.generation.hbm if found else None
    mesh = choose_mesh(machine.mesh, run.heads, rows, lambda: run.denoiser_bytes, described, memory)
    first = (described or jax.devices())[0]
    cache = opened_programs(first)
    assert isinstance(cache, CheckedCache), "programs are kept already"
    with alone_on(first) if mesh is None else nullcontext(), jax.default_matmul_precision(run.matmul_precision):
        made = family.calls(configs, settings, machine, run.size, mesh, int8, options.batch_size).made
        for name in programs_named(options.programs, list(made)):
            yield _warmed(name, made[name](), cache)


def _warmed(name: str, call: Call, cache: CheckedCache) -> Warmed:
    settings: Any = jax.config  # its names are made at run time
    begin, before = time.perf_counter(), cache.written
    lowered = call.function.lower(*call.args, **call.static)
    raising, cache.only_ask = settings.jax_raise_persistent_cache_errors, True
    jax.config.update("jax_raise_persistent_cache_errors", True)
    try:
        lowered.compile()
    except AlreadyKept as kept:
        return Warmed(name, time.perf_counter() - begin, kept.args[0], False)
    except jax.errors.JaxRuntimeError as error:
        return Warmed(name, time.perf_counter() - begin, 0, True, str(error).splitlines()[0])
    except OSError as error:
        raise UserError(f"{error}; JAX_COMPILATION_CACHE_DIR names another folder") from None
    finally:
        cache.only_ask = False
        jax.config.update("jax_raise_persistent_cache_errors", raising)
    return Warmed(name, time.perf_counter() - begin, cache.written - before, True)
