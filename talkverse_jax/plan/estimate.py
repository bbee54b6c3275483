"""What a program needs and costs where nothing can be compiled for it: a GPU, from the models' sizes alone.

Products are shared evenly, nothing is wasted, every weight is read once. Intermediate results are reckoned as a few
arrays of the widest kind; against XLA:TPU on one chip that is right to about a third (docs/benchmarks.md).
"""

import math

import jax.numpy as jnp
from jax.sharding import AbstractMesh

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.ops.attention.xla import SCORE_BYTES
from talkverse_jax.plan.compile import Planned, bounds
from talkverse_jax.plan.hlo_cost import Cost
from talkverse_jax.plan.sampling import Job, Work, sampling_work
from talkverse_jax.run.sample_options import SampleOptions
from talkverse_jax.sharding.layout import Layout, parameter_axes
from talkverse_jax.sharding.mesh_config import AXES, MeshSizes
from talkverse_jax.sharding.rules import ENCODING, SAMPLING
from talkverse_jax.sharding.topologies import Topology


def estimate(
    configs: ModelConfigs, options: SampleOptions, job: Job, topology: Topology, sizes: MeshSizes
) -> list[Planned]:
    """The programs of a job, as they would be at best."""
    layouts = {"dit": Layout(AbstractMesh(sizes.shape, AXES), SAMPLING), "vae": None}
    layouts["text"] = layouts["audio"] = Layout(AbstractMesh(sizes.shape, AXES), ENCODING)
    weights = {name: _weights(configs, name, options.dtypes[name], layouts[name]) for name in COMPONENTS}
    devices = math.prod(sizes.shape)
    planned = []
    for work in sampling_work(configs, options, job):
        share = work.flops / devices
        cost = Cost(share, share, {}, float(weights[work.component]))
        planned.append(
            Planned(
                name=work.name,
                times=work.times,
                when=work.when,
                estimated=True,
                devices=devices,
                weights=weights[work.component],
                inputs=0,
                temporaries=_intermediate(configs, options, job, work) // devices,
                outputs=0,
                beside={name: weights[name] for name in work.beside},
                limit=topology.generation.hbm,
                model_flops=work.flops,
                cost=cost,
                **bounds(topology, cost, work.float32),
            )
        )
    return planned


def _weights(configs: ModelConfigs, name: str, dtype: str, layout: Layout | None) -> int:
    """Bytes of a component's parameters on one device; whole without a layout."""
    component = COMPONENTS[name]
    model = component.abstract(getattr(configs, name), jnp.dtype(dtype))
    total = 0
    for path, x in tree.abstract_parameters(model).items():
        names = parameter_axes(component.axes, path, len(x.shape))
        parts = layout.fitting_parts(x.shape, names) if layout else 1
        total += math.prod(x.shape) * jnp.dtype(x.dtype).itemsize // parts
    return total


def _intermediate(configs: ModelConfigs, options: SampleOptions, job: Job, work: Work) -> int:
    """Bytes of the widest intermediate results, on all devices together."""
    trunk, text, pixels = configs.dit.trunk, configs.text, job.height * job.width // 4
    itemsize = {"dit": jnp.dtype(options.dtype).itemsize, "vae": jnp.dtype(options.vae_dtype).itemsize}
    if work.component == "dit":
        return work.tokens * (4 * 4 * trunk.dim + 2 * itemsize["dit"] * trunk.ffn_dim)
    if work.component == "vae":
        width = configs.vae.dec_dim if work.name == "decode" else configs.vae.dim
        return 10 * configs.vae.time_stride * pixels * 2 * width * itemsize["vae"]
    if work.component == "text":
        return 2 * trunk.text_len * (4 * 4 * text.dim + 2 * itemsize["dit"] * text.dim_ffn)
    return 2 * SCORE_BYTES
