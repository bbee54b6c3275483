"""What can be asked of a job: its object, list, bytes, its end."""

import httpx
import pytest

from tests.serve.http.finished import completed, waiting
from tests.serve.http.serving import fault

NONE = "video_" + 32 * "0"
KEYS = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "expires_at",
    "status",
    "progress",
    "model",
    "prompt",
    "seconds",
    "size",
    "error",
    "remixed_from_video_id",
    "seed",
    "fps",
    "num_frames",
    "clips",
    "clips_done",
    "ready_seconds",
    "queue_position",
    "phase",
    "clip",
    "step",
    "steps",
    "eta_seconds",
    "started_at",
    "attempt",
    "original_prompt",
    "notices",
    "settings",
    "inputs",
    "timings",
]


@pytest.fixture
def get(clean):
    return lambda path, **headers: clean.client.get(f"/v1/videos/{path}", headers=headers)


def test_a_waiting_video(clean, get):
    job = waiting(clean.jobs)
    answer = get(job)
    video = answer.json()
    assert list(video) == KEYS and answer.headers["cache-control"] == "no-store"
    assert (video["status"], video["progress"], video["queue_position"], video["seconds"]) == ("queued", 0, 1, "4.84")
    assert 500 <= int(answer.headers["openai-poll-after-ms"]) <= 10_000
    assert fault(get(f"{job}/content")) == (409, "video_not_ready", None)
    assert fault(get(f"{job}/stream")) == (409, "video_not_ready", None)
    assert get(f"{job}/content").headers["x-should-retry"] == "false"


def test_a_completed_video(clean, get):
    answer = get(completed(clean.jobs))
    video = answer.json()
    assert (video["status"], video["progress"], video["clips_done"], video["ready_seconds"]) == (
        "completed",
        100,
        2,
        4.8,
    )
    assert video["completed_at"] and video["expires_at"] > video["completed_at"] and video["queue_position"] is None
    assert "openai-poll-after-ms" not in answer.headers and video["timings"] == {"denoising": 1.0}


def test_content(clean, get):
    job = completed(clean.jobs)
    answer = get(f"{job}/content")
    etag = answer.headers["etag"]
    assert answer.content == b"0123456789" and answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == f'inline; filename="{job}.mp4"'
    assert answer.headers["cache-control"] == "private, no-cache" and answer.headers["accept-ranges"] == "bytes"
    assert len(etag) == 66 and answer.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    head = clean.client.head(f"/v1/videos/{job}/content")
    assert head.headers["content-length"] == "10" and head.content == b"" and head.headers["etag"] == etag
    for variant, kind in (("thumbnail", "image/webp"), ("spritesheet", "image/jpeg"), ("video", "video/mp4")):
        assert get(f"{job}/content?variant={variant}").headers["content-type"] == kind
    assert fault(get(f"{job}/content?variant=audio")) == (400, "invalid_value", "variant")
    assert get(f"{job}/content", **{"If-None-Match": f'W/{etag}, "x"'}).status_code == 304
    output = clean.client.get(f"/static/outputs/{job}.mp4")
    assert output.content == b"0123456789" and output.headers["etag"] == etag


@pytest.mark.parametrize(
    "range, content",
    [
        ("bytes=2-4", b"234"),
        ("bytes=7-", b"789"),
        ("bytes=-3", b"789"),
        ("bytes=-30", b"0123456789"),
        ("bytes=8-100", b"89"),
        ("bytes=1-2,4-5", None),
        ("bytes=5-4", None),
        ("items=1-2", None),
    ],
)
def test_ranges(clean, get, range, content):
    answer = get(f"{completed(clean.jobs)}/content", Range=range)
    if content is None:
        assert answer.status_code == 200 and answer.content == b"0123456789"
        return
    first = b"0123456789".find(content)
    assert answer.status_code == 206 and answer.content == content
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(content) - 1}/10"


def test_ranges_outside_and_of_other_bytes(clean, get):
    job = completed(clean.jobs)
    for range in ("bytes=10-", "bytes=-0"):
        answer = get(f"{job}/content", Range=range)
        assert fault(answer) == (416, "range_not_satisfiable", None) and answer.headers["content-range"] == "bytes */10"
    etag, time = get(f"{job}/content").headers["etag"], "Tue, 14 Nov 2023 22:13:20 GMT"
    for same, status in ((etag, 206), (time, 206), ('"other"', 200), ("Tue, 14 Nov 2023 22:13:21 GMT", 200)):
        assert get(f"{job}/content", Range="bytes=1-2", **{"If-Range": same}).status_code == status


def test_lists(clean):
    jobs = [waiting(clean.jobs) for _ in range(5)]

    def listed(**query) -> dict:
        return clean.client.get("/v1/videos", params=query).json()

    first = listed(limit=2)
    assert [video["id"] for video in first["data"]] == jobs[:2:-1] and first["has_more"] is True
    assert (first["object"], first["first_id"], first["last_id"]) == ("list", jobs[4], jobs[3])
    rest = listed(after=first["last_id"])
    assert [video["id"] for video in rest["data"]] == jobs[2::-1] and rest["has_more"] is False
    assert [video["id"] for video in listed(order="asc", after=jobs[3])["data"]] == jobs[4:]
    for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"order": "up"}, {"after": NONE}, {"after": "../x"}):
        answer = clean.client.get("/v1/videos", params=query)
        assert fault(answer) == (400, "invalid_value", next(iter(query)))
    assert fault(clean.client.get("/v1/videos?page=2")) == (400, "unknown_parameter", "page")


def test_an_empty_list(clean):
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert clean.client.get("/v1/videos").json() == empty


def test_deleting(clean, get):
    for job in (waiting(clean.jobs), completed(clean.jobs)):
        answer = clean.client.delete(f"/v1/videos/{job}", headers={"Content-Type": "application/json"})
        assert answer.json() == {"id": job, "object": "video.deleted", "deleted": True}
        for route in (job, f"{job}/content", f"{job}/stream", f"{job}/events"):
            assert fault(get(route)) == (404, "video_not_found", None)
        assert fault(clean.client.delete(f"/v1/videos/{job}")) == (404, "video_not_found", None)


def test_cancelling(clean):
    def cancel(job: str) -> httpx.Response:
        return clean.client.post(f"/v1/videos/{job}/cancel")

    job = waiting(clean.jobs)
    video = cancel(job).json()
    assert video["status"] == "failed" and video["error"]["code"] == "cancelled" and video["progress"] < 100
    assert fault(cancel(job)) == (409, "video_ended", None)
    assert fault(cancel(completed(clean.jobs))) == (409, "video_ended", None)
    assert fault(cancel(NONE)) == (404, "video_not_found", None)


@pytest.mark.parametrize("job", [NONE, "video_" + 32 * "A", "..%2f..%2fetc", "x", "video_", f"{NONE}%0a"])
@pytest.mark.parametrize("route", ["", "/content", "/events", "/stream"])
def test_ids_that_are_none(clean, get, job, route):
    assert fault(get(job + route))[0] == 404
