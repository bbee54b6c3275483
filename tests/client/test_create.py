"""Making a video: what is sent, and how often."""

import io
import time

import pytest

from talkverse_jax.client import ApiError, Client, Video
from tests.client.scripted import ID, LOST, Answer, refusal, told


def test_a_form_is_sent(server, client, tmp_path):
    (tmp_path / "face.png").write_bytes(b"a picture")
    server.will(told(seed=7, of_tomorrow=1))
    more = {"bbox": {"person1": [1, 2, 3, 4]}, "use_prompt_extend": True, "num_clip": None, "negative_prompt": ""}
    video = client.create(tmp_path / "face.png", b"a sound", prompt="She talks.", seed=7, **more)
    assert (video.id, video.status, video.seed, video.extra) == (ID, "queued", 7, {"of_tomorrow": 1})
    assert server.lines == ["POST /v1/videos"]
    assert server.asked[0].parts == [
        ("input_reference", b"a picture", True),
        ("audio_reference", b"a sound", True),
        ("prompt", b"She talks.", False),
        ("seed", b"7", False),
        *[("bbox[person1][]", str(number).encode(), False) for number in (1, 2, 3, 4)],
        ("use_prompt_extend", b"true", False),
        ("negative_prompt", b"", False),
    ]
    assert 1 <= len(server.asked[0].headers["idempotency-key"]) <= 255


def test_speakers_have_files_and_addresses_stay_addresses(server, client, tmp_path):
    (tmp_path / "ann.wav").write_bytes(b"ann")
    server.will(told())
    speakers = {1: {"audio": str(tmp_path / "ann.wav")}, 2: {"audio": io.BytesIO(b"ben"), "bbox": [0, 1, 2, 3]}}
    client.create("data:image/png;base64,AAAA", prompt="p", speakers=speakers)
    parts = server.asked[0].parts
    assert parts[0] == ("input_reference", b"data:image/png;base64,AAAA", False)
    assert parts[2:4] == [("speakers[1][audio]", b"ann", True), ("speakers[2][audio]", b"ben", True)]


def test_what_cannot_be_sent(server, client, tmp_path):
    with pytest.raises(FileNotFoundError, match="nobody.png"):
        client.create(tmp_path / "nobody.png", prompt="p")
    (tmp_path / "a.txt").write_text("a")
    with (tmp_path / "a.txt").open() as file, pytest.raises(ValueError, match="image.*mode 'rb'"):
        client.create(b"x", prompt="p", image_reference=file)
    assert server.asked == []


@pytest.mark.parametrize(
    "first",
    [
        LOST,
        refusal(429, "queue_full", Retry_After="0"),
        refusal(503, "draining"),
        refusal(409, "idempotency_in_progress", Retry_After="0"),
        Answer(body=told(), cut=10),
    ],
    ids=["lost", "full", "draining", "in the air", "cut"],
)
def test_a_request_is_made_again_with_the_same_key_and_bytes(server, client, tmp_path, first):
    """Files are read from their beginning each time, also those that the caller opened."""
    (tmp_path / "face.png").write_bytes(b"a picture")
    server.will(first, first, told())
    with (tmp_path / "face.png").open("rb") as face:
        assert client.create(face, io.BytesIO(b"a sound"), prompt="p").id == ID
    assert server.lines == ["POST /v1/videos"] * 3
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
    assert all(asked.parts == server.asked[0].parts for asked in server.asked)
    assert server.asked[2].parts[:2] == [("input_reference", b"a picture", True), ("audio_reference", b"a sound", True)]


def test_each_video_has_a_key_of_its_own(server, client):
    server.will(told(), told())
    for _ in range(2):
        client.create(b"x", prompt="p")
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


def test_the_server_says_how_long_to_wait(server, client):
    server.will(refusal(429, "too_many_jobs", Retry_After="1"), told())
    began = time.monotonic()
    client.create(b"x", prompt="p")
    assert 1 <= time.monotonic() - began < 3


def test_other_refusals_are_told_at_once(server, client):
    server.will(refusal(400, "invalid_value"))
    with pytest.raises(ApiError, match="invalid_value it is") as caught:
        client.create(b"x", prompt="p", size="1x1")
    error = caught.value
    assert (error.status, error.code, error.message) == (400, "invalid_value", "invalid_value it is")
    assert (error.param, error.request_id, error.retry_after) == ("size", "req_1", None)
    assert len(server.asked) == 1


def test_a_queue_that_stays_full_is_told_in_the_end(server, client):
    server.will(*[refusal(429, "queue_full", Retry_After="0")] * 9)
    with pytest.raises(ApiError) as caught:
        client.create(b"x", prompt="p")
    assert (caught.value.code, caught.value.retry_after, len(server.asked)) == ("queue_full", 0, 6)


def test_another_program_is_no_server(server, client):
    server.will(Answer(502, b"<html>Bad gateway</html>"), Answer(200, b"<html>Welcome</html>"), Answer(302))
    for _ in range(3):
        with pytest.raises(ApiError, match="without a reason; is this the server's address"):
            client.get(ID)


def test_nobody_listens(server, client):
    with Client("http://127.0.0.1:9", timeout=5) as nobody, pytest.raises(ConnectionError, match="server running"):
        nobody.health()
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Client("127.0.0.1:8765")


def test_the_key(server, monkeypatch):
    monkeypatch.setenv("TALKVERSE_API_KEY", "first, second")
    server.will({}, {}, {})
    for key in (None, "given"):
        with Client(server.address + "/v1/", api_key=key) as client:
            client.health()
    monkeypatch.delenv("TALKVERSE_API_KEY")
    with Client(server.address) as client:
        client.health()
    assert [asked.headers.get("authorization") for asked in server.asked] == ["Bearer first", "Bearer given", None]
    assert server.lines == ["GET /health"] * 3


def test_a_video_as_the_server_tells_it():
    video = Video.of(told(status="completed", clips=3, ready_seconds=4.84, notices=["a"]))
    assert (video.clips, video.ready_seconds, video.notices, video.ended) == (3, 4.84, ("a",), True)
    assert not Video.of(told()).ended
