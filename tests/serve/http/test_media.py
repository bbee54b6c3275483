"""What clients' files may be: told by their bytes, and by what is in them."""

import io
import zipfile
import zlib

import pytest

from talkverse_jax.serve.http.kinds import kind_of
from tests.serve.http.serving import fault, flat, picture, sound
from tests.sounds import tone, write_sound
from tests.videos import write_video

GIF = b"GIF89a" + bytes(100)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>'
PLAYLISTS = (b"ffconcat version 1.0\nfile /etc/passwd\n", b"#EXTM3U\n/etc/passwd\n", b"v=0\r\nc=IN IP4 1.1.1.1\r\n")


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.png", picture())
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size."""
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    chunk = len(head[4:]).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk + picture()[33:]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Files by name."""
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "talk.mp4", 0.6, fps=25)
    write_video(folder / "long.mp4", 25, fps=2)
    write_sound(folder / "a.mp3", tone(0.5, 44100)[:, None], 44100, "libmp3lame")
    write_sound(folder / "a.m4a", tone(0.5, 44100)[:, None], 44100, "aac")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _ask(server, image: bytes, audio: bytes | None = None, name: str = "input_reference", **data):
    files = {name: ("/etc/passwd", image, "image/png")}
    if audio is not None:
        files["audio_reference"] = ("x.png", audio, "image/png")
    return server.form({"prompt": "She talks.", **data}, files)


@pytest.mark.parametrize(
    "image", [b"I am a text, named a picture", GIF, SVG, *PLAYLISTS, _zip(), b"\x00", b"", b"II*\x00" + bytes(64)]
)
def test_other_kinds_are_refused(server, image):
    assert fault(_ask(server, image, sound())) == (415, "unsupported_media", "input_reference")
    assert fault(_ask(server, picture(), image)) == (415, "unsupported_media", "audio_reference")
    assert server.left() == []


@pytest.mark.parametrize(
    "image, expected",
    [
        (picture()[:3000], (422, "unreadable_media")),
        (picture(31, 64), (422, "unusable_media")),
        (picture(32, 3300), (422, "unusable_media")),
        (flat(1001, 1000), (413, "image_too_large")),
        (bomb(60_000, 60_000), (413, "image_too_large")),
    ],
)
def test_pictures_that_cannot_be_used(server, image, expected):
    assert fault(_ask(server, image, sound())) == (*expected, "input_reference")


@pytest.mark.parametrize(
    "audio, expected",
    [
        (sound(0.02), (422, "unusable_media")),
        (sound(20.5), (413, "sound_too_long")),
        (b"fLaC" + bytes(1000), (422, "unreadable_media")),
        (b"\0\0\0\x18ftypisom" + bytes(1000), (422, "unreadable_media")),
        (picture(), (415, "unsupported_media")),
    ],
)
def test_sounds_that_cannot_be_used(server, audio, expected):
    assert fault(_ask(server, picture(), audio)) == (*expected, "audio_reference")


def test_messages_name_no_path(server):
    message = _ask(server, picture(31, 64), sound()).json()["error"]["message"]
    assert message == "input_reference: 31x64 pixels; the short side needs 32, give a larger picture"


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "talk.mp4"])
def test_kinds_that_are_let_in(clean, media, form, name):
    answer = _ask(clean, picture(form=form), media[name])
    assert answer.status_code == 200, answer.text
    assert answer.json()["inputs"]["image"]["kind"] == "picture"


def test_a_video_is_dubbed(clean, media):
    answer = _ask(clean, media["talk.mp4"], dubbing_noise_strength="0.5", video_end="loop")
    assert answer.status_code == 200, answer.text
    inputs = answer.json()["inputs"]
    assert inputs["image"]["kind"] == "video" and inputs["audio"]["source"] == "video"
    assert inputs["audio"]["sha256"] == inputs["image"]["sha256"]
    assert _ask(clean, media["talk.mp4"], sound(), "video_reference").status_code == 200


def test_aliases_take_one_kind(server, media):
    expected = (415, "unsupported_media", "video_reference")
    assert fault(_ask(server, picture(), sound(), "video_reference")) == expected
    assert fault(_ask(server, media["talk.mp4"], sound(), "image_reference")) == (*expected[:2], "image_reference")
    assert fault(_ask(server, media["a.m4a"], sound())) == (*expected[:2], "input_reference")


def test_a_video_is_too_long(server, media):
    assert fault(_ask(server, media["long.mp4"], sound())) == (413, "video_too_large", "input_reference")


def test_a_picture_needs_a_sound(server):
    assert fault(_ask(server, picture())) == (400, "missing_required_parameter", "audio_reference")


def test_kinds_by_bytes(tmp_path):
    def kind(content: bytes) -> str | None:
        (tmp_path / "a").write_bytes(content)
        return kind_of(tmp_path / "a")

    assert kind(b"ID3\x04\0\0\0\0\0\x05" + bytes(5) + b"\xff\xfb\x90\x00") == "sound"
    assert kind(b"ID3\x04\0\0\0\0\0\x05" + bytes(5) + b"\x89PNG") is None
    assert kind(b"\xff\xf1\x50\x80") is None  # AAC, not MP3
    assert kind(b"OggS" + bytes(60)) == "sound" and kind(b"\x1aE\xdf\xa3" + bytes(60)) == "film"
    assert kind(bytes(range(100))) is None
