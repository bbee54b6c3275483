"""The form of every error, and the headers that belong to it."""

import errno

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.http.errors import STATUS, Fault, of_disk, refused_option, said
from talkverse_jax.serve.jobs.job import Refused


@pytest.mark.parametrize("code", STATUS)
def test_every_code(code):
    fault = Fault(code, "what is wrong;\nwhat to do", "field")
    error = fault.body()["error"]
    assert list(error) == ["message", "type", "param", "code"] and error["message"] == "what is wrong; what to do"
    kind = "server_error" if fault.status >= 500 else "invalid_request_error"
    assert error["type"] == ("rate_limit_error" if fault.status == 429 else kind)
    headers = fault.answer().headers
    assert headers["content-type"] == "application/json" and headers["cache-control"] == "no-store"
    assert headers.get("www-authenticate") == ("Bearer" if fault.status == 401 else None)
    assert headers.get("connection") == ("close" if fault.status == 408 else None)
    assert ("retry-after" in headers) == (fault.status in (429, 503) or code == "idempotency_in_progress")
    retry = {409: "false", 500: "false", 502: "false", 504: "false", 507: "false"}.get(fault.status)
    assert headers.get("x-should-retry") == ("true" if code == "idempotency_in_progress" else retry)


def test_a_failed_job_is_an_error_of_the_server():
    fault = Fault("out_of_memory", "too large", status=500)
    assert fault.status == 500 and fault.headers["X-Should-Retry"] == "false"


@pytest.mark.parametrize("seconds, told", [(0.2, "1"), (30, "30"), (1000, "120")])
def test_seconds_to_wait(seconds, told):
    refused = Refused(429, "queue_full", "the queue is full", seconds)
    assert Fault.of(refused).headers["Retry-After"] == told


def test_options_become_fields():
    fault = refused_option(
        UserError("0: give at least 1, or --num_clip 2", field="sample_steps"), {"sample_steps": "steps"}
    )
    assert (fault.param, fault.message) == ("steps", "steps: 0: give at least 1, or num_clip 2")


def test_little_of_what_a_client_sent_is_said():
    assert said("a\nb\x1b[0m") == "a?b?[0m" and len(said("x" * 1000)) == 100 and said(3.5) == "3.5"


def test_a_full_disk():
    full = of_disk(OSError(errno.ENOSPC, "No space left on device", "/secret/path"))
    assert isinstance(full, Fault) and full.status == 507 and "secret" not in full.message
    other = OSError(errno.EIO, "?")
    assert of_disk(other) is other
