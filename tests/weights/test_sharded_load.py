"""LoRA pairs and a trained file on weights that are loaded in parts, by one process and by two."""

from pathlib import Path

import jax
import numpy as np
import pytest

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights import store
from talkverse_jax.weights.asked import TrainedFile
from tests.processes import free_address, run_together

DIT = COMPONENTS["dit"]
PAIRS = 4 * 8  # of every block q, k and o twice, and both layers of the feed-forward


def check(folder: str | Path, trained: str | Path, mesh: str) -> None:
    """Make sure that every shard is that of the whole transformer, pairs and a trained file added to both."""
    layout = Layout(make_mesh(MeshConfig.parse(mesh), jax.devices(), heads=2))
    files = [TrainedFile(trained, rank=128, alpha=64.0)]

    def load(**options) -> tree.Flat:
        return tree.parameters(store.load_module(folder, DIT, **options))

    plain, whole, split = load(with_lora=False), load(trained=files), load(trained=files, layout=layout)
    place, changed = layout.parameter_sharding(DIT.axes), 0
    for path, leaf in split.items():
        assert leaf.sharding == place(path, leaf.shape)
        for shard in leaf.addressable_shards:
            np.testing.assert_allclose(shard.data, whole[path][shard.index], rtol=1e-5, atol=1e-6, err_msg=path)
        changed += not np.array_equal(whole[path], plain[path])
    assert changed == PAIRS


PROGRAM = """
import sys
from talkverse_jax.sharding import distributed
from tests.weights.test_sharded_load import check

address, me, *arguments = sys.argv[1:]
with distributed.session(address, 2, int(me), heartbeat_timeout=60):
    check(*arguments)
"""


@pytest.mark.parametrize("mesh", ["fsdp=8", "fsdp=4,tensor=2"])
def test_pairs_and_a_trained_file(tiny_pairs_apart, tiny_checkpoint, mesh):
    check(tiny_pairs_apart, tiny_checkpoint["lora_ckpt"], mesh)


@pytest.mark.slow
def test_pairs_and_a_trained_file_in_two_processes(tiny_pairs_apart, tiny_checkpoint):
    own = [tiny_pairs_apart, tiny_checkpoint["lora_ckpt"], "fsdp=4,tensor=2"]
    address = free_address()
    run_together(PROGRAM, *([address, me, *own] for me in (0, 1)), within=100)
