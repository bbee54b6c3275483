"""What blocks in host memory take of a device and of its link, by the models' sizes."""

import dataclasses

import pytest

from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.config import MultiTalkConfig
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.models.wan.flops import block_flops
from talkverse_jax.pipeline.programs import component_bytes
from talkverse_jax.plan import plan as tool
from talkverse_jax.plan.estimate import copy_seconds
from talkverse_jax.plan.report import report
from talkverse_jax.plan.sampling import SamplingRun, sampling_options
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.topologies import find

CONFIG = MultiTalkConfig.multitalk_14b()


def test_the_14b_model_of_int8_streamed_to_a_card_of_24_gb():
    """40 blocks of 18.88e9 parameters less what stands around them and their vectors, a byte each; sequence
    and branches as for 480p with 81 frames."""
    whole = component_bytes(COMPONENTS["dit"], CONFIG, "bfloat16", None, int8=True)
    assert whole.host == whole.buffers == 0
    none, some = (component_bytes(COMPONENTS["dit"], CONFIG, "bfloat16", Layout(resident=n), True) for n in (0, 10))
    assert none.device + none.host == some.device + some.host == whole.device
    assert some.host == none.host * 30 // 40 and none.buffers == none.host // 20
    assert (none.host / 1e9, none.device / 1e9) == pytest.approx((18.560, 0.659), rel=1e-3)
    card = find("RTX4090-1")
    copied, rate = copy_seconds(card, none.host), card.generation.flops
    assert rate is not None and copied == pytest.approx(0.7425, rel=1e-3)
    computed = 3 * 40 * block_flops(CONFIG.trunk, 33_000, 512 + 257) / rate
    assert computed == pytest.approx(30.9, rel=0.01)  # to copy is little beside it


def test_an_estimate_counts_the_copies():
    settings, machine = sampling_options("talkverse", "sample_480")
    made = {}
    for resident in (None, 0):
        asked = dataclasses.replace(machine, resident_blocks=resident)
        run = SamplingRun(FAMILY, FAMILY.real_size(), settings, asked, (640, 640))
        made[resident] = tool.plan(find("H100-1"), MeshConfig(), run, ("step",))
    (whole, *_), (streamed, *_) = made[None].programs, made[0].programs
    assert whole.host is None and streamed.host == pytest.approx((whole.weights - streamed.weights) / 51.9e9)
    assert streamed.total < whole.total - 8e9
    assert streamed.best == max(streamed.compute, streamed.memory, streamed.host)
    assert "host" in report(made[0]) and "host" not in report(made[None])
