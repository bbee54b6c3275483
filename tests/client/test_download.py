"""Downloads: whole or not there, and never from the beginning again without need."""

import hashlib

import pytest

from talkverse_jax.client import ApiError
from tests.client.scripted import ID, LOST, Answer, refusal

BYTES = bytes(range(256)) * 40
TAG = {"ETag": f'"{hashlib.sha256(BYTES).hexdigest()}"'}
PATH = f"/v1/videos/{ID}/content?variant=video"


def rest(start: int, **more) -> Answer:
    return Answer(206, BYTES[start:], TAG | {"Content-Range": f"bytes {start}-{len(BYTES) - 1}/{len(BYTES)}"}, **more)


def ranges(server) -> list[str | None]:
    return [asked.headers.get("range") for asked in server.asked]


def test_a_video_is_written(server, client, tmp_path):
    server.will(Answer(200, BYTES, TAG))
    path = client.download(ID, tmp_path / "talk.mp4")
    assert path == tmp_path / "talk.mp4" and path.read_bytes() == BYTES
    assert [each.name for each in tmp_path.iterdir()] == ["talk.mp4"]
    assert server.lines == [f"GET {PATH}"]


def test_it_goes_on_where_it_broke_off(server, client, tmp_path):
    (tmp_path / "talk.mp4").write_bytes(b"older")
    server.will(Answer(200, BYTES, TAG, cut=1000), LOST, rest(1000, cut=500), rest(1500))
    assert client.download(ID, str(tmp_path / "talk.mp4")).read_bytes() == BYTES
    assert ranges(server) == [None, "bytes=1000-", "bytes=1000-", "bytes=1500-"]


def test_what_an_earlier_call_left_is_gone_on_with(server, client, tmp_path):
    (tmp_path / "talk.mp4.partial").write_bytes(BYTES[:77])
    server.will(rest(77))
    assert client.download(ID, tmp_path / "talk.mp4").read_bytes() == BYTES
    assert ranges(server) == ["bytes=77-"]


def test_what_was_whole_but_for_its_name(server, client, tmp_path):
    (tmp_path / "talk.mp4.partial").write_bytes(BYTES)
    server.will(refusal(416, "range_not_satisfiable"), Answer(200, BYTES, TAG))
    assert client.download(ID, tmp_path / "talk.mp4").read_bytes() == BYTES
    assert server.lines == [f"GET {PATH}", f"HEAD {PATH}"]


def test_what_is_of_another_video_is_fetched_anew(server, client, tmp_path):
    (tmp_path / "talk.mp4.partial").write_bytes(b"another")
    server.will(rest(7), Answer(200, BYTES, TAG))
    assert client.download(ID, tmp_path / "talk.mp4").read_bytes() == BYTES
    assert ranges(server) == ["bytes=7-", None]


def test_a_server_without_ranges(server, client, tmp_path):
    server.will(Answer(200, BYTES, TAG, cut=1000), Answer(200, BYTES, TAG))
    assert client.download(ID, tmp_path / "talk.mp4").read_bytes() == BYTES


def test_damage_is_told_in_the_end(server, client, tmp_path):
    server.will(*[Answer(200, BYTES[::-1], TAG)] * 9)
    with pytest.raises(ConnectionError, match="not what the server sent"):
        client.download(ID, tmp_path / "talk.mp4")
    assert list(tmp_path.iterdir()) == [] and len(server.asked) == 6


def test_a_video_that_is_not_ready(server, client, tmp_path):
    server.will(refusal(409, "video_not_ready"))
    with pytest.raises(ApiError, match="video_not_ready"):
        client.download(ID, tmp_path / "face.webp", variant="thumbnail")
    assert list(tmp_path.iterdir()) == []
    assert server.lines == [f"GET /v1/videos/{ID}/content?variant=thumbnail"]
