"""What a program needs and costs where nothing can be compiled for it: a GPU, from the models' sizes alone.

Products are shared evenly, nothing is wasted, every weight is read once. Intermediate results are a few arrays of the
widest kind; against XLA:TPU on one chip that is right to about a third (docs/benchmarks.md).
"""

import math

from jax.sharding import AbstractMesh

from talkverse_jax.pipeline.programs import ComponentBytes
from talkverse_jax.plan.compile import Planned, bounds
from talkverse_jax.plan.hlo_cost import Cost
from talkverse_jax.plan.sampling import SamplingRun
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh_config import AXES, MeshSizes
from talkverse_jax.sharding.topologies import Topology


def estimate(run: SamplingRun, topology: Topology, sizes: MeshSizes) -> list[Planned]:
    """The programs of a run, as they would be at best."""
    weights, devices = _weights(run, sizes), math.prod(sizes.shape)
    planned = []
    for work in run.work:
        share, own = work.flops / devices, weights[work.component]
        cost = Cost(share, share, {}, float(own.device + own.host))
        planned.append(
            Planned(
                name=work.name,
                times=work.times,
                when=work.when,
                estimated=True,
                devices=devices,
                weights=own.device,
                inputs=0,
                temporaries=work.intermediate // devices + own.buffers,
                outputs=0,
                beside={name: weights[name].device for name in work.beside},
                limit=topology.generation.hbm,
                model_flops=work.flops,
                cost=cost,
                **bounds(topology, cost, work.float32)._asdict(),
                host=copy_seconds(topology, own.host),
            )
        )
    return planned


def copy_seconds(topology: Topology, nbytes: float) -> float | None:
    """Seconds in which a device copies so much from its host; None: unknown, or nothing to wait for."""
    rate = topology.generation.host_bandwidth
    return nbytes / rate if rate and nbytes else None


def _weights(run: SamplingRun, sizes: MeshSizes) -> dict[str, ComponentBytes]:
    """Each component's parameters on one device; of what is split by pictures each has all."""
    mesh, found = AbstractMesh(sizes.shape, AXES), {}
    for name, component in run.family.components.items():
        if getattr(run.configs, name) is None:  # an optional one
            continue
        rules = component.split
        layout = Layout(mesh, rules, run.machine.resident_blocks) if rules else None  # pyright: ignore[reportArgumentType]  # sizes alone matter
        found[name] = run.component_bytes(name, layout)
    return found
