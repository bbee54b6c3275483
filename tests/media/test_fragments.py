"""How much of an unfinished video is whole fragments."""

from types import SimpleNamespace

import av
import numpy as np

from talkverse_jax.media import video_writer
from talkverse_jax.media.fragments import playable_bytes
from talkverse_jax.media.video_writer import VideoWriter, partial_file


def _boxes(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 8])
        at += length
    assert at == len(data)
    return found


def _writer(path):
    sound = (np.zeros((16000, 1), np.float32) for _ in range(4))
    return VideoWriter(path, width=32, height=32, sound=sound, rate=16000)


def _clip(seed):
    return np.random.default_rng(seed).integers(0, 255, (20, 32, 32, 3), np.uint8)


def test_a_clip_is_playable_when_it_is_written(tmp_path):
    video = tmp_path / "a.mp4"
    partial = partial_file(video)
    assert playable_bytes(partial) == 0
    with _writer(video) as writer:
        writer.write(_clip(0))
        first = playable_bytes(partial)
        assert first == partial.stat().st_size
        writer.write(_clip(1))
        data = partial.read_bytes()
        assert playable_bytes(partial) == len(data) > first
    boxes = _boxes(data)
    assert boxes[:2] == [b"ftyp", b"moov"] and b"mvex" in data[: data.index(b"moof")]
    assert boxes[2:] == [b"moof", b"mdat"] * (len(boxes[2:]) // 2)
    cut = tmp_path / "cut.mp4"
    for length in (0, 5, 40, first - 1, first + 11, len(data) - 1):
        cut.write_bytes(data[:length])
        whole = playable_bytes(cut)
        assert whole <= length and (not whole or _boxes(data[:whole])[-1] == b"mdat")
    assert playable_bytes(cut) >= first


def test_fragments_have_no_place_of_their_own(tmp_path):
    """MediaSource refuses tfhd with a base-data-offset: flag 1 is off, default-base-is-moof on."""
    video = tmp_path / "a.mp4"
    with _writer(video) as writer:
        writer.write(_clip(0))
        data = partial_file(video).read_bytes()
    at = data.find(b"tfhd")
    assert at > 0
    while at > 0:
        flags = int.from_bytes(data[at + 5 : at + 8], "big")
        assert not flags & 1 and flags & 0x20000
        at = data.find(b"tfhd", at + 4)


def test_a_video_that_is_gone_on_with_has_the_same_fragments(tmp_path):
    whole, parts = tmp_path / "whole.mp4", tmp_path / "parts.mp4"
    with _writer(whole) as writer:
        writer.write(_clip(0))
        writer.write(_clip(1))
        data = partial_file(whole).read_bytes()
    first = _writer(parts)
    first.write(_clip(0))
    first.abandon()
    sound = (np.zeros((16000, 1), np.float32) for _ in range(4))
    with VideoWriter(
        parts, width=32, height=32, sound=sound, rate=16000, written=first.clips, checksums=first.checksums
    ) as writer:
        writer.write(_clip(1))
        assert partial_file(parts).read_bytes() == data
    assert parts.read_bytes() == whole.read_bytes()


def test_the_finished_file_is_what_it_was_without_the_flag(tmp_path, monkeypatch):
    with _writer(tmp_path / "now.mp4") as writer:
        writer.write(_clip(0))

    def without(*args, **named):
        if "options" in named:
            options = named["options"]
            named["options"] = options | {"movflags": options["movflags"].replace("+default_base_moof", "")}
        return av.open(*args, **named)

    monkeypatch.setattr(video_writer, "av", SimpleNamespace(**{**vars(av), "open": without}))
    with _writer(tmp_path / "before.mp4") as writer:
        writer.write(_clip(0))
        assert partial_file(tmp_path / "before.mp4").read_bytes().find(b"tfhd") > 0
    assert (tmp_path / "before.mp4").read_bytes() == (tmp_path / "now.mp4").read_bytes()
