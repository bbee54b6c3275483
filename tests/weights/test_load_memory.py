"""What a process allocates to load its part of a model that two of them share."""

import dataclasses
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.core.config import to_dict
from talkverse_jax.core.paths import write_json
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights import manifest, orbax_io, store
from talkverse_jax.weights.lazy import LazyTensor
from tests.processes import free_address, run_together
from tests.tiny import TINY

CONFIG = dataclasses.replace(  # 190 million parameters
    TINY,
    trunk=dataclasses.replace(
        TINY.trunk, dim=1024, ffn_dim=4096, freq_dim=256, text_dim=512, num_heads=8, num_layers=8
    ),
    audio_dim=64,
    audio_layers=5,
    audio_inject_layers=(0, 4),
)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(scope="module")
def wide_weights(tmp_path_factory) -> Path:
    """A folder of converted weights with a transformer of some 380 MB in it: the same numbers over and over."""
    folder, component = tmp_path_factory.mktemp("wide"), COMPONENTS["dit"]
    numbers = np.random.default_rng(0).standard_normal(2**22, np.float32).astype(BFLOAT16)

    def repeated(shape: tuple[int, ...]) -> LazyTensor:
        return LazyTensor(shape, BFLOAT16, lambda rows: np.resize(numbers, (rows.stop - rows.start, *shape[1:])))

    leaves = tree.abstract_parameters(component.abstract(CONFIG))
    with store.staging(folder, "dit") as staged:
        orbax_io.write(staged / store.PARAMETERS, {path: repeated(leaf.shape) for path, leaf in leaves.items()})
        write_json(staged / manifest.CONFIG, to_dict(CONFIG))
        size = 2 * sum(leaf.size for leaf in leaves.values())
        store.commit(folder, "dit", manifest.Entry("bfloat16", size, (), None, "test"), "talkverse")
    return folder


def anonymous() -> int:
    """Bytes of memory that this process has allocated and touched."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])


@contextmanager
def peak() -> Iterator[list[int]]:
    """The growth of `anonymous` within the block at its highest; in the list when the block is done."""
    start, samples, done = anonymous(), [], threading.Event()

    def sample() -> None:
        while not done.wait(0.002):
            samples.append(anonymous())

    thread, result = threading.Thread(target=sample), []
    thread.start()
    try:
        yield result
    finally:
        done.set()
        thread.join()
        result.append(max(samples) - start)


PROGRAM = """
import sys
from talkverse_jax.sharding import distributed
from tests.weights.test_load_memory import load

address, folder, scan, me = sys.argv[1:]
with distributed.session(address, 2, int(me), heartbeat_timeout=60):
    load(folder, scan == "True")
"""


def load(folder: str, scan: bool) -> None:
    """Load the transformer on eight devices and print what this process allocated, and what it holds."""
    layout = Layout(make_mesh(MeshConfig(fsdp=8), jax.devices(), CONFIG.trunk.num_heads))
    jax.block_until_ready(jax.jit(lambda x: x + 1)(layout.put(np.zeros(8))))
    with peak() as allocated:
        model = store.load_module(folder, COMPONENTS["dit"], layout=layout, scan=scan)
        jax.block_until_ready(jax.tree.leaves(model))
    held = sum(shard.data.nbytes for leaf in jax.tree.leaves(model) for shard in leaf.addressable_shards)
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(model))
    print(json.dumps({"allocated": allocated[0], "held": held, "all": parameters}))


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_process_allocates_little_more_than_it_holds(wide_weights, scan):
    address = free_address()
    outputs = run_together(PROGRAM, *([address, wide_weights, scan, me] for me in (0, 1)), within=120)
    for output in outputs:
        found = json.loads(output.splitlines()[-1])
        assert found["held"] < 0.53 * found["all"]  # vectors are whole on every device
        # what is read ahead comes and goes: 1.2 as a rule, 1.31 seen; the whole model would be 2
        assert found["held"] < found["allocated"] <= 1.5 * found["held"], found
