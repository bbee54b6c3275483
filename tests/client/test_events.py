"""Following a video: events in their order, once each, whatever breaks."""

import dataclasses
import time

import pytest

from talkverse_jax.client import ApiError, Client, Event, VideoFailed
from tests.client.scripted import ID, LOST, Answer, event, refusal, stream, told

DONE = told(status="completed")


def test_events_in_their_order(server, client):
    progress = event("progress", {"status": "queued"})
    text = "retry: 10\n\n" + progress + event("queued", {"queue_position": 1}, 1) + ": heartbeat\n\n"
    server.will(stream(text + event("completed", DONE, 2)))
    assert list(client.events(ID)) == [
        Event(None, "progress", {"status": "queued"}),
        Event(1, "queued", {"queue_position": 1}),
        Event(2, "completed", DONE),
    ]
    assert server.lines == [f"GET /v1/videos/{ID}/events"]
    assert "last-event-id" not in server.asked[0].headers


@pytest.mark.parametrize(
    "between", [LOST, stream(": heartbeat\n\n"), refusal(503, "busy", Retry_After="0"), Answer(502, b"")]
)
def test_a_broken_connection_is_made_again_behind_the_last_event(server, client, between):
    begin = "retry: 10\n\n" + event("queued", {}, 1) + event("started", {}, 2)
    half = event("clip", {"clip": 1}, 3)[:-3]  # the connection breaks within an event
    server.will(stream(begin + half), between, stream(event("clip", {"clip": 1}, 3) + event("completed", DONE, 4)))
    assert [each.id for each in client.events(ID)] == [1, 2, 3, 4]
    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "2", "2"]


def test_events_behind_one(server, client):
    server.will(Answer(204))
    assert list(client.events(ID, last_event_id=5)) == []
    assert server.asked[0].headers["last-event-id"] == "5"


def test_a_restart_of_the_server_is_gone_over(server, client):
    server.will(stream(event("server", {"state": "draining"})), LOST, stream(event("deleted", {"id": ID}, 3)))
    assert [each.kind for each in client.events(ID)] == ["server", "deleted"]


def test_a_refusal_is_told(server, client):
    server.will(refusal(404, "video_not_found"))
    with pytest.raises(ApiError) as caught:
        list(client.events(ID))
    assert caught.value.status == 404


def test_lines_may_come_in_any_pieces():
    from talkverse_jax.client.events import _fields, _lines

    text = 'retry: 5\r\n\r\nid: 1\r\nevent: clip\r\ndata: {"ä":\r\ndata: 2}\r\n\r\n'.encode()
    for size in (1, 2, 3, 1000):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(_fields(_lines(pieces))) == [("retry", "5"), ("event", Event(1, "clip", {"ä": 2}))]


def test_waiting(server, client):
    seen = []
    server.will(stream(event("queued", {}, 1), event("completed", DONE, 2)))
    assert client.wait(ID, on_event=lambda each: seen.append(each.kind)).status == "completed"
    assert seen == ["queued", "completed"] and len(server.asked) == 1
    server.will(Answer(204), DONE)  # nothing is kept any more
    assert client.wait(ID).status == "completed"


def test_waiting_for_what_fails_or_is_removed(server, client):
    server.will(stream(event("failed", told(status="failed", error={"code": "cancelled", "message": "was"}), 2)))
    with pytest.raises(VideoFailed) as caught:
        client.wait(ID)
    assert caught.value.video.error["code"] == "cancelled"
    server.will(stream(event("deleted", {"id": ID}, 2)), refusal(404, "video_not_found"))
    with pytest.raises(ApiError):
        client.wait(ID)


def test_waiting_ends_in_time(server, client):
    server.will(dataclasses.replace(stream(": heartbeat\n\n"), stays_open=9))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="still being made"):
        client.wait(ID, timeout=0.5)
    assert 0.4 < time.monotonic() - began < 3


def test_a_server_that_never_comes_back_is_told(monkeypatch):
    from talkverse_jax.client import events

    monkeypatch.setattr(events, "_PAUSE", 0.01)
    monkeypatch.setattr(events, "_PATIENCE", 0.1)
    with Client("http://127.0.0.1:9") as client, pytest.raises(ConnectionError):
        list(client.events(ID))
