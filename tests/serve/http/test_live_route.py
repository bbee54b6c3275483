"""A live video over a WebSocket, with a stand-in for whoever makes it."""

import base64
import json
import threading
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from talkverse_jax.serve.jobs.job import Refused
from tests.serve.http.serving import data_url, picture, serving

REQUEST = {"prompt": "A woman.", "input_reference": data_url(picture()), "seed": 3}
FRAGMENT = b"....ftyp....avcC\x01\x64\x00\x0b....mp4a...."


class Maker:
    """Plays back how many samples it heard."""

    def __init__(self):
        self.asked, self.told, self.hear = [], [], lambda message: None
        self.heard, self.ended = 0, threading.Event()

    def changed(self, job):
        pass

    def progress(self, job):
        return None

    def health(self):
        return "ready", 0

    def lend(self, message, hear):
        if self.asked:
            raise Refused(503, "busy", "another live video is being made; try again later", 30)
        self.asked.append(message)
        self.hear = hear
        self.say(listening=16_000)

    def say(self, **what):
        self.hear({"say": "live", "session": self.asked[0]["session"], **what})

    def pass_on(self, message):
        if not self.asked or message["session"] != self.asked[-1]["session"]:
            return  # of the test before
        self.told.append(message["do"])
        if message["do"] != "sound":
            return
        if message["pcm"] is not None:
            self.heard += len(base64.b64decode(message["pcm"])) // 2
            self.say(mp4=base64.b64encode(FRAGMENT + str(self.heard).encode()).decode())
        elif not self.ended.is_set():
            self.ended.set()
            self.say(ended=None)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), api_key=("secret",)) as made:
        yield made


@pytest.fixture
def maker(live):
    made = Maker()
    live.jobs.attach(made)
    return made


@contextmanager
def talking(live, first=REQUEST, key="secret", **how):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with connect(live.url.replace("http", "ws") + "/v1/live", additional_headers=headers, **how) as socket:
        if first is not None:
            socket.send(first if isinstance(first, str | bytes) else json.dumps(first))
        yield socket


def said(socket) -> dict:
    return json.loads(socket.recv(timeout=10))


def test_sound_goes_in_and_fragments_come_out(live, maker):
    with talking(live) as socket:
        assert said(socket) == {"event": "listening", "listening": 16_000}
        socket.send(bytes(2 * 640))
        assert said(socket) == {"event": "playable", "type": 'video/mp4; codecs="avc1.64000b, mp4a.40.2"'}
        assert socket.recv(timeout=10) == FRAGMENT + b"640"
        maker.say(report={"latency": 1.5})
        assert said(socket) == {"event": "report", "report": {"latency": 1.5}}
        socket.send(json.dumps({"end": True}))
        assert said(socket) == {"event": "ended"}
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
    [message] = maker.asked
    assert message["files"] == {"image": "image"} and message["keeping"] == {"when_behind": "skip"}
    assert message["settings"]["prompt"] == "A woman." and message["settings"]["base_seed"] == 3


def test_a_client_that_goes_ends_it(live, maker):
    with talking(live) as socket:
        said(socket)
    assert maker.ended.wait(10)
    assert maker.told[0] == "stop"


@pytest.mark.parametrize(
    "first, code",
    [
        (b"sound", "invalid_json"),
        ("[]", "invalid_json"),
        ("{", "invalid_json"),
        ({"prompt": "x"}, "missing_required_parameter"),
        (REQUEST | {"audio_reference": "data:audio/wav;base64,"}, "unsupported_parameter"),
        (REQUEST | {"num_inference_steps": 0}, "invalid_value"),
        (REQUEST | {"input_reference": "data:image/png;base64,AAAA"}, "unsupported_media"),
    ],
)
def test_what_is_no_request(live, maker, first, code):
    with talking(live, first) as socket:
        assert said(socket)["error"]["code"] == code
    assert not maker.asked


def test_what_is_no_sound(live, maker):
    with talking(live) as socket:
        said(socket)
        socket.send(b"odd")
        assert said(socket)["error"]["code"] == "invalid_value"
    maker.asked.clear()
    with talking(live) as socket:
        said(socket)
        socket.send(bytes(900_000))
        socket.send(bytes(200_000))
        while not (isinstance(answer := socket.recv(timeout=10), str) and "error" in answer):
            pass
        assert "faster than it is spoken" in answer


def test_one_at_a_time_and_what_the_worker_cannot(live, maker):
    with talking(live) as socket:
        said(socket)
        with talking(live) as other:
            assert said(other)["error"]["code"] == "busy"
        maker.say(ended="models of this family need their whole sound; take others")
        assert "whole sound" in said(socket)["error"]["message"]


@pytest.mark.parametrize("how", [{"key": None}, {"key": "wrong"}, {"origin": "https://evil.example"}])
def test_who_may_call(live, maker, how):
    with pytest.raises(InvalidStatus) as refused, talking(live, **how):
        pass
    assert refused.value.response.status_code == 403


def test_no_other_route_is_a_websocket(live):
    with pytest.raises(InvalidStatus), connect(live.url.replace("http", "ws") + "/v1/videos"):
        pass
