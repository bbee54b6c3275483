"""Two nodes of Ray on this machine, one of which goes while both work."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from talkverse_jax.run.batch.store import open_store
from talkverse_jax.run.cluster.engine import BatchFolder, Keeper
from talkverse_jax.run.options import EngineOptions
from tests.processes import ROOT, free_address
from tests.run.batch.drawn import DrawnPipeline, Said, make
from tests.run.batch.test_disturbed import good_items, videos

COUNT = 16


@pytest.fixture
def cluster(monkeypatch):
    """A head that offers nothing, and the first node."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def _inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("good-*.mp4")}


@pytest.mark.slow
def test_a_node_that_goes_costs_nothing_but_time(cluster, tmp_path):
    from talkverse_jax.run.cluster.ray_hosts import RayHosts

    (tmp_path / "list.json").write_text(json.dumps(good_items(tmp_path)[:COUNT]))
    calm, out, said = tmp_path / "calm", tmp_path / "out", Said()
    assert make(DrawnPipeline(), str(tmp_path / "list.json"), str(calm), Said()) == 0
    lost, _ = (cluster.add_node(num_cpus=1, node_name=name) for name in ("one", "two"))
    seen: dict[str, int] = {}

    def disturb() -> None:
        while len(seen) < COUNT // 4:
            time.sleep(0.1)
            seen.update(_inodes(out))
        cluster.remove_node(lost, allow_graceful=False)

    hosts = RayHosts(cluster.address)
    worker = ["tests.run.batch.drawn", str(tmp_path / "list.json"), str(out), "10", "1"]
    folder = BatchFolder(open_store(str(out)), [f"good-{n}" for n in range(COUNT)])
    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    try:
        assert Keeper(hosts, folder, worker, EngineOptions(engine="ray"), said).run() == 0
    finally:
        hosts.close()
    thread.join()
    assert videos(out) == videos(calm) and len(videos(out)) == COUNT
    assert seen.items() <= _inodes(out).items()  # none was made again
    names = [f"good-{n}.{kind}" for n in range(COUNT) for kind in ("mp4", "json")]
    assert sorted(os.listdir(out)) == sorted([*names, "results.jsonl"])
    text = "\n".join(said.lines)
    assert text.count(f"{COUNT} videos, 0 of them done before") == 2  # both worked
    assert "is gone" in text or "died" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_a_slice_of_two_hosts_is_one_worker(cluster, tmp_path):
    """Its chips are made up, and its processes are told of each other as those of CPUs are."""
    from talkverse_jax.run.cluster.ray_hosts import RayHosts

    (tmp_path / "list.json").write_text(json.dumps(good_items(tmp_path)[:4]))
    calm, out, said, address = tmp_path / "calm", tmp_path / "out", Said(), free_address()
    assert make(DrawnPipeline(), str(tmp_path / "list.json"), str(calm), Said()) == 0
    for number in range(2):
        where = {"COORDINATOR_ADDRESS": address, "NUM_PROCESSES": "2", "PROCESS_ID": str(number)}
        of_slice = {"slice-name": "pod", "worker-id": str(number), "topology": "2x4"}
        cluster.add_node(
            num_cpus=1,
            resources={"TPU": 4, "pod": 1} | ({} if number else {"TPU-v5litepod-8-head": 1}),
            labels={f"ray.io/tpu-{key}": value for key, value in of_slice.items()},
            env_vars={f"JAX_{key}": value for key, value in where.items()},
        )
    hosts = RayHosts(cluster.address)
    worker = ["tests.run.batch.drawn", str(tmp_path / "list.json"), str(out), "10", "0"]
    folder = BatchFolder(open_store(str(out)), [f"good-{n}" for n in range(4)])
    try:
        assert Keeper(hosts, folder, worker, EngineOptions(engine="ray"), said).run() == 0
    finally:
        hosts.close()
    assert videos(out) == videos(calm) and len(videos(out)) == 4
    text = "\n".join(said.lines)
    assert text.count("pod: 4 videos, 0 of them done before") == 1, text
