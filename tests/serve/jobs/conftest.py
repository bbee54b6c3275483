import threading
from types import SimpleNamespace

import pytest

from talkverse_jax.serve.jobs import shop as shop_module
from talkverse_jax.serve.jobs.shop import Shop
from tests.serve.jobs.acting import Acting
from tests.serve.jobs.submissions import open_jobs


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Begins a shop on the same folder, with `pack` seats, whose worker acts."""
    acting = Acting()
    monkeypatch.setattr(shop_module, "WorkerProcess", acting)
    opened = []

    def begin(pack=1, **options):
        jobs = open_jobs(tmp_path, **options)
        jobs.recover()
        broken = threading.Event()
        shop = Shop(jobs, SimpleNamespace(pack=pack), broken=lambda why: broken.set())
        opened.append(shop)
        return SimpleNamespace(jobs=jobs, shop=shop, acting=acting, broken=broken)

    yield begin
    acting.held.set()
    for shop in opened:
        shop.close()
