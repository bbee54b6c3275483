"""An endpoint that is slow, gone, or says what nobody asked for."""

import threading
import time

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers.address import check_base_url
from talkverse_jax.helpers.endpoint import Endpoint, key_of
from talkverse_jax.helpers.errors import UpstreamError, UpstreamTimeout
from tests.helpers.stub import Answer, free_port, stub


def endpoint(url, seconds=5.0, key=None):
    return Endpoint(url, key, seconds, "tts_url")


def test_a_question_and_its_answer():
    with stub(lambda asked: Answer(b"yes")) as server:
        assert endpoint(server.url, key="secret").post("/chat", {"a": "ä"}, 3) == b"yes"
        assert endpoint(server.url + "/").get("/voices", 3) == b"yes"
    post, get = server.asked
    assert (post.method, post.path, post.body) == ("POST", "/v1/chat", {"a": "ä"})
    assert (post.headers["Authorization"], post.headers["Content-Type"]) == ("Bearer secret", "application/json")
    assert (get.method, get.path, "Authorization" in get.headers) == ("GET", "/v1/voices", False)


def test_the_limit_holds_for_all_of_a_slow_answer():
    with stub(lambda asked: Answer(b"x" * 1000, drip=0.05)) as server:
        begin = time.monotonic()
        with pytest.raises(UpstreamTimeout, match="--tts_url .*: gave no answer within 0.4 s"):
            endpoint(server.url, 0.4).post("/chat", {}, 1000)
        assert 0.3 < time.monotonic() - begin < 2
    waiting = threading.Event()
    with stub(lambda asked: Answer() if waiting.wait(5) else Answer()) as server:
        with pytest.raises(UpstreamTimeout):
            endpoint(server.url, 0.3).post("/chat", {}, 1000)
        waiting.set()


def test_a_busy_one_is_asked_once_more():
    answers = iter([Answer(status=503), Answer(b"now")])
    with stub(lambda asked: next(answers)) as server:
        assert endpoint(server.url).post("/chat", {}, 9) == b"now"
    with stub(lambda asked: Answer(b"my secret", 503)) as server:
        with pytest.raises(UpstreamError, match="answered with status 503") as error:
            endpoint(server.url).post("/chat", {}, 9)
        assert len(server.asked) == 2 and "secret" not in str(error.value)


def test_one_that_is_not_there():
    begin = time.monotonic()
    with pytest.raises(UpstreamError, match="refuses connections; start it"):
        endpoint(f"http://127.0.0.1:{free_port()}/v1").post("/chat", {}, 9)
    assert time.monotonic() - begin > 0.4  # it was asked once more
    with pytest.raises(UpstreamError, match=r"cannot be asked \("):
        endpoint("http://nobody.invalid/v1").post("/chat", {}, 9)


@pytest.mark.parametrize(
    "answer, said",
    [
        (Answer(b"my secret", 500), "answered with status 500; look at its log"),
        (Answer(b"my secret", 401), "status 401; its key is wrong or missing"),
        (Answer(b"", 307, (("Location", "http://127.0.0.1:1/"),)), "answered with status 307"),
        (Answer(b"0123456789"), "answers with too much"),
    ],
)
def test_other_answers(answer, said):
    with stub(lambda asked: answer) as server:
        with pytest.raises(UpstreamError, match=said) as error:
            endpoint(server.url).post("/chat", {}, 9)
        assert len(server.asked) == 1 and "secret" not in str(error.value)


def test_no_proxy_is_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with stub(lambda asked: Answer(b"yes")) as server:
        assert endpoint(server.url).get("/x", 3) == b"yes"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://a/v1",
        "http://",
        "http://a:x/v1",
        "http://me:pw@a/v1",
        "http://a/v1?x=1",
        "http://a b/",
    ],
)
def test_what_is_no_address(url):
    with pytest.raises(UserError, match="--tts_url"):
        check_base_url(url, "tts_url")


def test_keys():
    assert key_of(" abc\n", "KEY") == "abc" and key_of(None, "KEY") is None and key_of("", "KEY") is None
    with pytest.raises(UserError, match="KEY: has characters"):
        key_of("a\nb", "KEY")
