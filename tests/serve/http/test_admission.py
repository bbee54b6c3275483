"""When a job is admitted: repeated requests, full queues and disks, servers that stop, and clients that wait."""

import threading
import time

import httpx
import pytest

from talkverse_jax.serve.jobs.job import JobFailure
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.options import ServeOptions
from tests.serve.http.finished import complete, waiting
from tests.serve.http.serving import data_url, fault, picture, serving, sound

FIELDS = {"prompt": "She talks.", "input_reference": data_url(picture()), "audio_reference": data_url(sound())}
FORM = {"input_reference": ("a.png", picture()), "audio_reference": ("a.wav", sound())}


class _Worker:
    """In a state, and idle."""

    def __init__(self, state: str):
        self.state = state

    def changed(self, job):
        pass

    def progress(self, job):
        return None

    def health(self):
        return self.state, 3


def test_the_same_key_makes_one_job(clean):
    first = clean.post(FIELDS, {"Idempotency-Key": "one"})
    again = clean.post(FIELDS, {"Idempotency-Key": "one"})
    form = clean.form({"prompt": FIELDS["prompt"]}, FORM, headers={"Idempotency-Key": "one"})
    assert first.status_code == again.status_code == form.status_code == 200, form.text
    assert first.json()["id"] == again.json()["id"] == form.json()["id"]
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    assert clean.post(FIELDS, {"Idempotency-Key": "two"}).json()["id"] != first.json()["id"]
    for other in ({"seed": 5}, {"prompt": "He talks."}, {"input_reference": data_url(picture(65, 64))}):
        answer = clean.post(FIELDS | other, {"Idempotency-Key": "one"})
        assert fault(answer) == (409, "idempotency_key_reused", None) and answer.headers["x-should-retry"] == "false"
    clean.jobs.delete("anonymous", first.json()["id"])
    assert fault(clean.post(FIELDS, {"Idempotency-Key": "one"})) == (404, "video_not_found", None)
    assert clean.left() == []


def test_a_key_is_free_again_after_a_refusal(clean):
    assert fault(clean.post(FIELDS | {"seed": -9}, {"Idempotency-Key": "three"}))[0] == 400
    assert clean.post(FIELDS, {"Idempotency-Key": "three"}).status_code == 200


def test_a_key_that_is_in_the_air(clean):
    clean.jobs.reserve("anonymous", "four")
    answer = clean.post(FIELDS, {"Idempotency-Key": "four"})
    assert fault(answer) == (409, "idempotency_in_progress", None)
    assert answer.headers["x-should-retry"] == "true" and answer.headers["retry-after"] == "1"
    clean.jobs.release("anonymous", "four")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_keys_that_are_none(server, key):
    assert fault(server.post(FIELDS, {"Idempotency-Key": key}))[:2] == (400, "invalid_value")


@pytest.mark.parametrize(
    "limits, expected",
    [
        ({"max_queue": 0}, (429, "queue_full")),
        ({"max_queue_per_key": 0}, (429, "too_many_jobs")),
        ({"min_free_bytes": 1 << 60}, (507, "disk_full")),
        ({"max_disk_bytes": 1}, (507, "quota_exceeded")),
    ],
)
def test_no_room(tmp_path, limits, expected):
    with serving(tmp_path, **limits) as full:
        if expected[1] == "quota_exceeded":
            waiting(Jobs(ServeOptions(data_dir=str(tmp_path), min_free_bytes=0)))
        answer = full.client.post("/v1/videos", content=b"no JSON", headers={"Content-Type": "application/json"})
        assert fault(answer) == (*expected, None) and full.left() == []
        if expected[0] == 429:
            assert 1 <= int(answer.headers["retry-after"]) <= 120
        else:
            assert answer.headers["x-should-retry"] == "false" and answer.json()["error"]["type"] == "server_error"


def test_a_server_that_stops(tmp_path):
    with serving(tmp_path) as server:
        assert server.client.get("/health").json()["state"] == "loading"
        server.jobs.attach(_Worker("ready"))
        health = server.client.get("/ready").json()
        told = {name: health[name] for name in ("ok", "state", "model", "device_id", "running", "queue_length")}
        expected = {"ok": True, "state": "ready", "model": "talkverse", "device_id": 3, "running": 0}
        assert told == expected | {"queue_length": 0}
        job = waiting(server.jobs)
        server.jobs.attach(_Worker("draining"))
        for path in ("/v1/videos", "/v1/videos/sync", "/infer", "/v1/audio/speech", "/v1/prompts/enhance"):
            answer = server.client.post(path, content=b"")
            assert fault(answer) == (503, "draining", None) and "retry-after" in answer.headers
        assert fault(server.client.get("/ready")) == (503, "not_ready", None)
        assert server.client.get("/health").json()["ok"] is False
        assert server.client.get(f"/v1/videos/{job}").status_code == 200


def _later(server, then) -> threading.Thread:
    """Do something with the one job, as soon as there is one."""

    def work() -> None:
        end = time.monotonic() + 60
        while not (found := server.jobs.list("anonymous", 1)[0]):
            assert time.monotonic() < end
            time.sleep(0.02)
        then(found[0].id)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_waiting_for_a_video(clean):
    thread = _later(clean, lambda job: (clean.jobs.life.start(job), complete(clean.jobs, job, b"the video")))
    answer = clean.client.post("/v1/videos/sync", json=FIELDS)
    thread.join()
    assert (
        answer.status_code == 200 and answer.content == b"the video" and answer.headers["content-type"] == "video/mp4"
    )
    [record] = clean.jobs.list("anonymous", 5)[0]
    assert answer.headers["x-video-id"] == record.id


def test_waiting_in_vain(clean):
    failure = JobFailure("out_of_memory", "too large", "size_bucket")
    thread = _later(clean, lambda job: clean.jobs.life.fail(job, failure))
    answer = clean.client.post("/v1/videos/sync", json=FIELDS)
    thread.join()
    assert fault(answer) == (500, "out_of_memory", "size_bucket") and answer.headers["x-should-retry"] == "false"


def test_a_client_that_waits_no_more(clean):
    with pytest.raises(httpx.TimeoutException):
        clean.client.post("/v1/videos/sync", json=FIELDS, timeout=1)
    until = time.monotonic() + 5
    while clean.jobs.list("anonymous", 5)[0] and time.monotonic() < until:
        time.sleep(0.05)
    assert clean.jobs.list("anonymous", 5)[0] == []


def test_the_original_page(clean):
    """The page's own request, with what it always sends."""
    data = {"prompt": "A person speaking.", "size_bucket": "fasttalk-720", "max_area": "901120", "infer_frames": "80"}
    data |= {"num_clip": "1", "sample_steps": "3", "sample_guide_scale": "1.0", "base_seed": "-1"}
    data |= {"offload_model": "True", "init_first_frame": "False", "sample_solver": "unipc"}
    files = {"image": ("image.png", picture(), "application/octet-stream")}
    files |= {"audio": ("audio.wav", sound(), "application/octet-stream")}
    thread = _later(clean, lambda job: complete(clean.jobs, job, b"the video"))
    answer = clean.client.post("/infer", data=data, files=files)
    thread.join()
    assert (
        answer.status_code == 200 and answer.content == b"the video" and answer.headers["content-type"] == "video/mp4"
    )
    [record] = clean.jobs.list("anonymous", 5)[0]
    settings = record.submission.settings
    assert (settings["sample_shift"], settings["size_bucket"], settings["sample_steps"]) == (5.0, "tiny-128", 3)
    assert any("fasttalk-720" in notice for notice in record.notices)
    clean.jobs.delete("anonymous", record.id)
    thread = _later(clean, lambda job: complete(clean.jobs, job, b"the video"))
    told = clean.client.post("/infer", data={"stream": "0", "base_seed": "5"}, files=files).json()
    thread.join()
    assert told["seed"] == 5 and told["size_bucket"] == "tiny-128"
    assert told["video_url"] == f"{clean.url}/static/outputs/{told['id']}.mp4"
    [record] = clean.jobs.list("anonymous", 5)[0]
    settings = record.submission.settings
    assert (settings["sample_steps"], settings["sample_guide_scale"], settings["num_clip"]) == (50, 6.5, 2)


@pytest.mark.parametrize(
    "data, expected",
    [
        ({"max_area": "large"}, (400, "invalid_value", "max_area")),
        ({"sample_steps": "many"}, (400, "invalid_value", "sample_steps")),
        ({"offload_model": "maybe"}, (400, "invalid_value", "offload_model")),
        ({"stream": "2"}, (400, "invalid_value", "stream")),
        ({"seed": "1"}, (400, "unknown_parameter", "seed")),
    ],
)
def test_what_the_original_page_cannot_ask(server, data, expected):
    files = {"image": ("image.png", picture()), "audio": ("audio.wav", sound())}
    assert fault(server.client.post("/infer", data=data, files=files)) == expected
    files["image"] = ("image.png", b"no picture")
    assert fault(server.client.post("/infer", files=files)) == (415, "unsupported_media", "image")
    assert fault(server.client.post("/infer", files={"image": files["image"]}))[1:] == (
        "missing_required_parameter",
        "audio",
    )
    assert fault(server.client.post("/infer", json={}))[0] == 415
