"""Long calls in threads of their own."""

import asyncio
import threading
import time

import pytest

from talkverse_jax.serve.http.aside import Aside


def test_results_and_errors_come_back():
    async def ask() -> int:
        aside = Aside(1)
        with pytest.raises(KeyError):
            await aside.run({}.__getitem__, "a")
        return await aside.run(max, 1, 2)

    assert asyncio.run(ask()) == 2


def test_few_run_at_once():
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    async def ask() -> None:
        aside = Aside(2)
        await asyncio.gather(*(aside.run(work) for _ in range(6)))

    asyncio.run(ask())
    assert most == 2


def test_the_end_waits_for_nobody():
    async def ask() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Aside(1).run(time.sleep, 5)

    began = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - began < 3
