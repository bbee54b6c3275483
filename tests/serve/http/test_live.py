"""Events and fragments as they come."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from talkverse_jax.serve.http import events
from talkverse_jax.serve.http.stream import codecs_of
from talkverse_jax.serve.jobs.job import JobFailure
from tests.serve.http.finished import complete, completed, waiting, write_partial
from tests.serve.http.serving import fault


def _events(server, job: str, last: str | None = None) -> list[dict]:
    """All events of a stream, to its end; a comment is an event too."""
    headers = {} if last is None else {"Last-Event-ID": last}
    found = []
    with server.client.stream("GET", f"/v1/videos/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no" and answer.headers["cache-control"] == "no-store"
        text = answer.read().decode()
    for block in text.strip().split("\n\n"):
        found.append(dict(line.split(": ", 1) if line[0] != ":" else ("comment", line) for line in block.split("\n")))
    return found


def test_events_of_a_completed_job(clean):
    job = completed(clean.jobs)
    first, *events = _events(clean, job)
    assert first == {"retry": "2000"}
    kept = [(event["id"], event["event"]) for event in events if "id" in event]
    names = ["queued", "started", "clip", "clip", "completed"]
    assert kept == [(str(number), name) for number, name in enumerate(names, 1)]
    data = [json.loads(event["data"]) for event in events if "id" in event]
    assert data[0] == {"queue_position": 1} and data[1] == {"attempt": 0}
    assert data[2] == {"clip": 1, "clips": 2, "frames": 60, "seconds": 2.4}
    assert data[-1]["id"] == job and data[-1]["status"] == "completed"
    assert [event.get("id") for event in _events(clean, job, "4")][1:] == ["5"]
    again = clean.client.get(f"/v1/videos/{job}/events", headers={"Last-Event-ID": "5"})
    assert again.status_code == 204 and again.content == b""
    assert clean.client.get(f"/v1/videos/{job}/events?last_event_id=5").status_code == 204
    wrong = clean.client.get(f"/v1/videos/{job}/events?last_event_id=x")
    assert fault(wrong) == (400, "invalid_value", "last_event_id")


@pytest.mark.parametrize("end", ["completed", "failed", "deleted"])
def test_events_as_they_come(clean, end):
    job = waiting(clean.jobs)

    def work() -> None:
        time.sleep(0.5)  # a heartbeat
        clean.jobs.life.start(job)
        clean.jobs.life.clip(job, 1, 60, 4)
        if end == "completed":
            complete(clean.jobs, job, b"x")
        elif end == "failed":
            clean.jobs.life.fail(job, JobFailure("not_finite", "no numbers"))
        else:
            clean.jobs.delete("anonymous", job)

    thread = threading.Thread(target=work)
    thread.start()
    events = _events(clean, job)
    thread.join()
    assert {"comment": ": heartbeat"} in events
    progress = [json.loads(event["data"]) for event in events if event.get("event") == "progress"]
    keys = [
        "id",
        "status",
        "phase",
        "queue_position",
        "clip",
        "clips",
        "step",
        "steps",
        "fraction",
        "progress",
        "eta_seconds",
    ]
    assert list(progress[0]) == keys and progress[0]["queue_position"] == 1
    assert events[-1]["event"] == end and [event["id"] for event in events if "id" in event] == ["1", "2", "3", "4"]


def test_fragments_as_they_come(clean):
    job = waiting(clean.jobs)
    clean.jobs.life.start(job)
    write_partial(clean.jobs, job, b"avcC\x01\x64\x00\x1f....mp4a----half")
    clean.jobs.life.clip(job, 1, 60, 20)

    def work() -> None:
        time.sleep(0.3)
        path = write_partial(clean.jobs, job, b" whole")
        clean.jobs.life.clip(job, 2, 120, 26)
        time.sleep(0.5)
        write_partial(clean.jobs, job, b" trailer")
        Path(path).unlink()
        complete(clean.jobs, job, b"the finished file")

    thread = threading.Thread(target=work)
    thread.start()
    with clean.client.stream("GET", f"/v1/videos/{job}/stream") as answer:
        assert answer.headers["content-type"] == 'video/mp4; codecs="avc1.64001f, mp4a.40.2"'
        assert answer.headers["cache-control"] == "no-store"
        content = answer.read()
    thread.join()
    assert content == b"avcC\x01\x64\x00\x1f....mp4a----half whole trailer"
    assert clean.client.get(f"/v1/videos/{job}/stream").content == b"the finished file"


def test_fragments_of_a_job_that_fails(clean):
    job = waiting(clean.jobs)
    clean.jobs.life.start(job)
    write_partial(clean.jobs, job, b"whole half")
    clean.jobs.life.clip(job, 1, 60, 5)
    clean.client.post(f"/v1/videos/{job}/cancel")
    assert clean.client.get(f"/v1/videos/{job}/stream").content == b"whole"


def test_codecs():
    assert codecs_of(b"...") == "avc1" and codecs_of(b"avcC\x01\x42\xc0\x1e") == "avc1.42c01e"


def test_who_does_not_read_is_left(clean, monkeypatch, caplog):
    monkeypatch.setattr(events, "_UNREAD", 0.3)
    job = waiting(clean.jobs)
    clean.jobs.life.start(job)
    write_partial(clean.jobs, job, bytes(30_000_000))
    clean.jobs.life.clip(job, 1, 60, 30_000_000)
    with socket.create_connection(("127.0.0.1", int(clean.url.rpartition(":")[2])), timeout=10) as slow:
        slow.sendall(f"GET /v1/videos/{job}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(1)
        total = 0
        while piece := slow.recv(1 << 20):
            total += len(piece)
    assert 0 < total < 30_000_000 and "failed" not in caplog.text
