"""A Postgres, a bucket, and a front of both."""

from collections.abc import Iterator

import pytest

from tests.serve.machines.bucket import bucket
from tests.serve.machines.cluster import Cluster, remove_all
from tests.serve.machines.postgres import postgres
from tests.serve.processes import ServerProcess


@pytest.fixture(scope="package")
def cluster(tmp_path_factory, tiny_weights) -> Iterator[Cluster]:
    with postgres() as database, bucket() as store:
        yield Cluster(tmp_path_factory.mktemp("cluster"), tiny_weights, database, store)


@pytest.fixture
def front(cluster) -> Iterator[ServerProcess]:
    with cluster.front() as made:
        yield made
        if made.alive:
            remove_all(cluster, made)
