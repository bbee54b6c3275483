"""Subscribers: every kept event once, progress the latest only."""

import asyncio

from talkverse_jax.serve.jobs.hub import Hub
from talkverse_jax.serve.jobs.job import JobEvent, Progress
from tests.serve.jobs.submissions import admit, open_jobs


def _progress(step: int) -> Progress:
    return Progress("x", "in_progress", step=step, steps=9)


def _listen(hub: Hub, *kept: JobEvent, after: int = 0):
    return hub.subscribe("x", after, lambda: [each for each in kept if each.number > after], lambda: _progress(0))


async def _all(subscription) -> list:
    return [each async for each in subscription]


def test_kept_events_come_first_and_once():
    hub, kept = Hub(), [JobEvent(1, "queued", {}), JobEvent(2, "started", {})]
    subscription = _listen(hub, *kept)
    hub.publish("x", kept[1])  # was read as it was published
    hub.publish("x", JobEvent(3, "completed", {}))
    found = asyncio.run(_all(subscription))
    assert [each.number for each in found if isinstance(each, JobEvent)] == [1, 2, 3]
    assert hub.listened() == []


def test_those_known_are_left_out():
    hub = Hub()
    subscription = _listen(hub, JobEvent(1, "queued", {}), JobEvent(2, "failed", {}), after=1)
    assert [each.number for each in asyncio.run(_all(subscription))] == [2]


def test_the_latest_progress_of_a_burst_is_sent():
    hub = Hub()

    async def listen():
        found = []
        async for each in _listen(hub):
            found.append(each.step if isinstance(each, Progress) else each.kind)
            if found == [0]:
                for step in range(1, 8):
                    hub.tell(_progress(step))
            if found[-1] == 7:
                await asyncio.to_thread(hub.publish, "x", JobEvent(1, "deleted", {}))
        return found

    assert asyncio.run(asyncio.wait_for(listen(), 5)) == [0, 7, "deleted"]


def test_who_does_not_read_is_let_go():
    hub = Hub()
    subscription = _listen(hub)
    for number in range(1, 300):
        hub.publish("x", JobEvent(number, "notice", {}))
    assert all(isinstance(each, Progress) for each in asyncio.run(_all(subscription)))


def test_a_job_is_followed_to_its_removal(tmp_path):
    jobs = open_jobs(tmp_path)
    job = admit(jobs).id

    async def follow():
        found = []
        async for each in jobs.subscribe(job):
            found.append(each.kind if isinstance(each, JobEvent) else each.queue_position)
            if found == ["queued", 1]:
                await asyncio.to_thread(jobs.delete, "anna", job)
        return found

    assert asyncio.run(asyncio.wait_for(follow(), 5)) == ["queued", 1, "deleted"]
