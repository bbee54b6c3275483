"""The other calls, each against the request that it makes."""

import pytest

from talkverse_jax.client import ApiError, VideoFailed
from tests.client.scripted import ID, LOST, Answer, refusal, told


def test_looking_and_listing(server, client):
    server.will(told(status="in_progress"))
    assert client.get(ID).status == "in_progress"
    server.will({"object": "list", "data": [told()], "first_id": ID, "last_id": ID, "has_more": True})
    page = client.list(limit=1, after="video_x")
    assert ([video.id for video in page.data], page.last_id, page.has_more) == ([ID], ID, True)
    server.will({"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False})
    assert client.list(order="asc").data == ()
    assert server.lines == [
        f"GET /v1/videos/{ID}",
        "GET /v1/videos?limit=1&after=video_x&order=desc",
        "GET /v1/videos?limit=20&order=asc",
    ]


def test_stopping_and_removing(server, client):
    server.will(told(status="failed", error={"code": "cancelled"}), {"id": ID, "deleted": True})
    assert client.cancel(ID).error == {"code": "cancelled"}
    client.delete(ID)
    assert server.lines == [f"POST /v1/videos/{ID}/cancel", f"DELETE /v1/videos/{ID}"]


def test_a_lost_cancel_is_not_made_again(server, client):
    """The second would be told that the video has ended."""
    server.will(LOST)
    with pytest.raises(ConnectionError):
        client.cancel(ID)
    assert len(server.asked) == 1


def test_an_id_is_a_part_of_an_address_and_no_more(server, client):
    server.will(refusal(404, "video_not_found"))
    with pytest.raises(ApiError):
        client.get("../../health?x=1")
    assert server.lines == ["GET /v1/videos/..%2F..%2Fhealth%3Fx%3D1"]


def test_words(server, client, tmp_path):
    server.will({"prompt": "better"}, {"prompt": "best"})
    assert client.enhance("good") == "better"
    assert client.enhance("good", b"a picture") == "best"
    assert server.asked[0].body == b'{"prompt":"good"}'
    assert server.asked[1].parts == [("prompt", b"good", False), ("input_reference", b"a picture", True)]


def test_speech(server, client):
    server.will(Answer(body=b"RIFF"), Answer(body=b"ID3"), {"voices": ["joe"], "uploaded_voices": []})
    assert client.speak("Hello.") == b"RIFF"
    assert client.speak("Hello.", voice="joe", format="mp3") == b"ID3"
    assert client.voices() == ["joe"]
    assert server.asked[0].body == b'{"input":"Hello.","response_format":"wav"}'
    assert server.asked[1].body == b'{"input":"Hello.","voice":"joe","response_format":"mp3"}'


def test_models_and_health(server, client):
    server.will({"object": "list", "data": [{"id": "toy"}]}, {"ok": False, "state": "loading"})
    assert client.models() == [{"id": "toy"}]
    assert client.health()["state"] == "loading"


def test_a_stream_begins_with_the_first_clip(server, client):
    server.will(refusal(409, "video_not_ready"), told(status="in_progress"), Answer(body=b"fragments"))
    assert b"".join(client.stream(ID)) == b"fragments"
    assert server.lines == [f"GET /v1/videos/{ID}/stream", f"GET /v1/videos/{ID}", f"GET /v1/videos/{ID}/stream"]


def test_a_stream_of_what_will_never_be(server, client):
    failed = told(status="failed", error={"code": "out_of_memory", "message": "too large"})
    server.will(refusal(409, "video_not_ready"), failed)
    with pytest.raises(VideoFailed, match=f"{ID}: too large .out_of_memory.") as caught:
        next(client.stream(ID))
    assert caught.value.video.error == failed["error"]


def test_a_stream_that_breaks_off_says_so(server, client):
    server.will(Answer(body=b"fragments", cut=4))
    with pytest.raises(ConnectionError):
        b"".join(client.stream(ID))
