"""Files made to hurt: each is refused in one line, in little memory; none has another file read or a program run."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media import memory
from talkverse_jax.media.audio import open_sound
from talkverse_jax.media.image import is_video, read_image
from talkverse_jax.media.kinds import KINDS, Mark
from talkverse_jax.media.media import open_media
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.media.walls import LOCAL, Walls
from tests.media.short_video import write_pictures
from tests.sounds import tone, wav_bytes, write_sound
from tests.videos import write_video

MOST_MEGABYTES = 300
WEB = Walls(KINDS["web"], max_pixels=50_000_000, max_seconds=600)


def wav(seconds: float, rate: int, channels: int = 1) -> bytes:
    return wav_bytes(bytes(2 * channels * round(seconds * rate)), rate, channels, 16)


def png(width: int, height: int) -> bytes:
    """A grey picture of so many pixels, in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row, packed = zlib.compressobj(9), []
    for _ in range(height):
        packed.append(row.compress(bytes(1 + width)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", b"".join(packed) + row.flush())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


def film(folder: Path, name: str, codec: str, format: str) -> bytes:
    """Six small pictures."""
    pictures = list(np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8))
    return write_pictures(folder / f"film.{name}", pictures, codec=codec, format=format).read_bytes()


def sized(avi: bytes, header: tuple[int, int], pictures: list[tuple[int, int]]) -> bytes:
    """Motion JPEG that says other sizes: in its header, and in each picture."""
    data = bytearray(avi)
    at = data.index(b"strf")
    struct.pack_into("<ii", data, at + 12, *header)
    at = 0
    for width, height in pictures:
        at = data.index(b"\xff\xc0\x00\x11", at) + 1
        struct.pack_into(">HH", data, at + 4, height, width)
    return bytes(data)


def mpeg_of_12000(mpeg: bytes) -> bytes:
    """MPEG-2 that says 12000x12000 in each of its sequence headers; 12 bits a side stand there, 2 behind."""
    data, at = bytearray(mpeg), 0
    while (at := data.find(b"\0\0\1\xb3", at) + 1) > 0:
        data[at + 3 : at + 6] = bytes([0xEE, 0x0E, 0xE0])
        behind = data.index(b"\0\0\1\xb5", at) + 4
        bits = int.from_bytes(data[behind : behind + 3], "big") | 0b1010 << 5
        data[behind : behind + 3] = bits.to_bytes(3, "big")
    return bytes(data)


def pointing_elsewhere(mov: bytes, other: Path) -> bytes:
    """A MOV with its index behind its samples, whose samples are said to lie in another file."""
    name = str(other).encode()
    place = struct.pack(">HH", 18, len(name)) + name + b"\0" * (len(name) % 2) + struct.pack(">hH", -1, 0)
    alias = b"\0" * 4 + struct.pack(">HH", 0, 2) + b"\0" * 142 + place
    entry = struct.pack(">I", 8 + 4 + len(alias)) + b"alis" + b"\0" * 4 + alias
    data = bytearray(mov)
    at = data.index(b"dref") + 12
    old = struct.unpack_from(">I", data, at)[0]
    data[at : at + old] = entry
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        above = data.index(kind) - 4
        struct.pack_into(">I", data, above, struct.unpack_from(">I", data, above)[0] + len(entry) - old)
    return bytes(data)


def flac_of_a_year(flac: bytes) -> bytes:
    """36 bits of its header count the samples."""
    data = bytearray(flac)
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)


def _hostile(folder: Path) -> dict[str, tuple[str, bytes, str]]:
    """Name of a file: how it is read, its bytes, and what is said of it."""
    (folder / "other.wav").write_bytes(wav(1, 16000))
    other = folder / "other.wav"
    mjpeg = film(folder, "avi", "mjpeg", "yuvj420p")
    flac = write_sound(folder / "a.flac", tone(0.5, 16000)[:, None], 16000, "flac").read_bytes()
    list_of_one = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n"
    damaged = "cannot be dubbed: damaged (a picture cannot be decoded, or has more than 89 million pixels)"
    return {
        "concat.wav": ("sound", f"ffconcat version 1.0\nfile {other}\n".encode(), "is a playlist; give the file of"),
        "hls.mp3": ("sound", list_of_one.encode(), "is a playlist; give the file of a sound (WAV, "),
        "hls.mp4": ("dubbed", list_of_one.encode(), "is a playlist; give the file of a video"),
        "dash.mp4": ("sound", b'<?xml version="1.0"?><MPD></MPD>', "is a page or a drawing (XML)"),
        "sdp.wav": ("sound", b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\n", "is a session description"),
        "subtitle.wav": ("sound", b"1\n00:00:00,000 --> 00:00:01,000\nHello\n" * 9, "cannot be read as a sound"),
        "frames.wav": ("sound", b"ffmetadata\n[CHAPTER]\n" * 9, "cannot be read as a sound"),
        "zip.wav": ("sound", b"PK\3\4" + bytes(99), "is an archive"),
        "slow.wav": ("sound", wav(32000, 1), "1 samples a second; save it with 4000 to 768000, such as 48000"),
        "fast.wav": ("sound", wav(0.01, 10_000_000), "10000000 samples a second; save it with"),
        "choir.wav": ("sound", wav(0.1, 8000, 500), "500 channels; save it with at most 64, such as 2"),
        "year.flac": ("sound", flac_of_a_year(flac), "more than 14400 s; give a shorter sound"),
        "eps.png": ("picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n", "not a picture"),
        "pdf.png": ("picture", b"%PDF-1.4\n" + bytes(99), "not a picture that can be read"),
        "drawing.png": ("picture", b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>', "not a pic"),
        "wmf.png": ("picture", b"\xd7\xcd\xc6\x9a" + bytes(99), "not a picture"),
        "strip.png": ("picture", png(32, 2_000_000), "32x2000000 pixels; one side is over 100 times the other"),
        "large.png": ("picture", png(9500, 9500), "more than 89 million pixels (9500x9500); scale the picture down"),
        "huge.png": ("picture", png(2**30, 1), "more than 89 million pixels; scale it down first"),
        "large.avi": ("dubbed", sized(mjpeg, (16000, 16000), 6 * [(16000, 16000)]), damaged),
        "lying.avi": ("dubbed", sized(mjpeg, (64, 64), 6 * [(16000, 16000)]), damaged),
        "growing.avi": ("dubbed", sized(mjpeg, (64, 64), [*5 * [(64, 64)], (16000, 16000)]), damaged),
        "large.mpg": ("dubbed", mpeg_of_12000(film(folder, "mpg", "mpeg2video", "yuv420p")), "more than 89 million"),
        "large.ts": ("dubbed", mpeg_of_12000(film(folder, "ts", "mpeg2video", "yuv420p")), damaged),
    }


_READ = """
import json, resource, sys
from talkverse_jax.core.errors import UserError
from tests.media.reading import READERS

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

for how, path, whole in json.load(sys.stdin):
    READERS[how](whole)
    before, said = most(), "read"
    try:
        READERS[how](path)
    except UserError as error:
        said = f"UserError: {error}"
    except Exception as error:
        said = repr(error)
    print(json.dumps([said, most() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of each hostile file: what is said of it, megabytes that it took, and what should be said."""
    folder = tmp_path_factory.mktemp("hostile")
    files = _hostile(folder)
    whole = {"sound": folder / "other.wav", "picture": folder / "a.png", "dubbed": folder / "film.avi"}
    Image.new("RGB", (64, 64)).save(whole["picture"])
    for name, (_, data, _) in files.items():
        (folder / name).write_bytes(data)
    asked = [(how, str(folder / name), str(whole[how])) for name, (how, *_) in files.items()]
    command = [sys.executable, "-c", _READ]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=120)
    found = map(json.loads, done.stdout.splitlines())
    return {name: (*each, f"UserError: {folder / name}: {files[name][2]}") for name, each in zip(files, found)}


NAMES = [
    *["concat.wav", "hls.mp3", "hls.mp4", "dash.mp4", "sdp.wav", "subtitle.wav"],
    *["frames.wav", "zip.wav", "slow.wav", "fast.wav", "choir.wav", "year.flac"],
    *["eps.png", "pdf.png", "drawing.png", "wmf.png", "strip.png", "large.png", "huge.png"],
    *["large.avi", "lying.avi", "growing.avi", "large.mpg", "large.ts"],
]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_is_refused_in_one_line_and_little_memory(outcomes, name):
    said, megabytes, wanted = outcomes[name]
    assert said.startswith(wanted), said
    assert "\n" not in said and megabytes < MOST_MEGABYTES, megabytes


def test_all_hostile_files_are_looked_at(outcomes):
    assert sorted(NAMES) == sorted(outcomes)


def test_nothing_but_files_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        for path, what in ((tmp_path / "pipe", "a named pipe"), ("/dev/zero", "a device"), (tmp_path, "a folder")):
            for read in (read_image, open_sound, SourceVideo):
                with pytest.raises(UserError, match=f"{path}: is {what}; give the file of"):
                    read(path)
            assert not is_video(path)
        with pytest.raises(UserError, match="socket: is a socket"):
            open_sound(tmp_path / "socket")


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(1, 16000))
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    assert open_sound(tmp_path / "b.wav").duration == 1


def test_samples_that_are_said_to_lie_elsewhere_are_not_read(tmp_path):
    whole = write_sound(tmp_path / "a.mov", tone(1.0, 16000)[:, None], 16000, "pcm_s16le")
    secret = write_sound(tmp_path / "secret.mov", tone(1.0, 16000, 800)[:, None], 16000, "pcm_s16le")
    hostile = tmp_path / "hostile.mov"
    hostile.write_bytes(pointing_elsewhere(whole.read_bytes(), secret))
    with av.open(str(hostile), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert any(frame.samples for frame in container.decode(audio=0))  # it is what it should be
    try:
        heard = np.concatenate(list(open_sound(hostile).native()))
    except UserError:
        return
    own = np.concatenate(list(open_sound(whole).native()))
    np.testing.assert_array_equal(heard, own)


def test_ffmpeg_opens_no_other_file_where_a_reader_would(tmp_path, monkeypatch):
    """What holds where a reader that was let in names files, as one of a later FFmpeg might."""
    (tmp_path / "other.wav").write_bytes(wav(1, 16000))
    (tmp_path / "a.wav").write_text("ffconcat version 1.0\nfile other.wav\n")
    with av.open(str(tmp_path / "a.wav"), format="concat", options={"safe": "0"}) as container:
        assert container.streams.audio  # it does, unless it is kept from it
    monkeypatch.setattr("talkverse_jax.media.media.mark_of", lambda head: Mark("a playlist", b"", "concat"))
    with (
        pytest.raises(UserError, match="a.wav: (may not be read|cannot be read)"),
        open_media(tmp_path / "a.wav", "a sound", readers=frozenset({"concat"})),
    ):
        pass


def test_names_do_not_matter(tmp_path):
    shutil.copy(write_video(tmp_path / "a.mp4", 1.0, size=(64, 64)), tmp_path / "a.txt")
    assert is_video(tmp_path / "a.txt") and SourceVideo(tmp_path / "a.txt").frames == 25
    Image.new("RGB", (64, 48)).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.mp3")
    assert read_image(tmp_path / "b.mp3").shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["a.gif", "a.bmp", "a.tif", "a.avif"])
def test_a_server_takes_few_kinds_of_pictures(tmp_path, name):
    Image.new("RGB", (64, 64)).save(tmp_path / name)
    assert read_image(tmp_path / name).shape == (64, 64, 3)
    with pytest.raises(UserError, match=f"{name}: not a picture that can be read"):
        read_image(tmp_path / name, walls=WEB)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_and_takes_these(tmp_path, name):
    Image.new("RGB", (64, 64)).save(tmp_path / name)
    assert read_image(tmp_path / name, walls=WEB).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("name", "codec", "taken"),
    [
        ("a.wav", "pcm_s16le", True),
        ("a.flac", "flac", True),
        ("a.ogg", "libopus", True),
        ("a.mp3", "libmp3lame", True),
        ("a.m4a", "aac", True),
        ("a.webm", "libopus", True),
        ("a.mka", "pcm_s16le", True),
        ("a.aac", "aac", False),
        ("a.ac3", "ac3", False),
        ("a.avi", "libmp3lame", False),
        ("a.ts", "aac", False),
        ("a.flv", "aac", False),
        ("a.wma", "libmp3lame", False),
        ("a.aiff", "pcm_s16be", False),
        ("a.caf", "pcm_s16le", False),
        ("a.mpg", "mp2", False),
        ("a.au", "pcm_s16be", False),
        ("a.3gp", "aac", True),
    ],
)
def test_kinds_of_sounds(tmp_path, name, codec, taken):
    rate = 48000 if codec == "libopus" else 44100
    path = write_sound(tmp_path / name, tone(1.0, rate)[:, None], rate, codec)
    assert open_sound(path).duration == pytest.approx(1, abs=0.1)
    if taken:
        assert open_sound(path, walls=WEB).duration == pytest.approx(1, abs=0.1)
    else:
        with pytest.raises(UserError, match=rf"{name}: (is .*; give the file of a sound \(WAV, |cannot be read as a)"):
            open_sound(path, walls=WEB)


def test_a_sound_without_a_length_is_not_decoded_beyond_the_limit(tmp_path):
    path = write_sound(tmp_path / "a.aac", tone(4.0, 16000)[:, None], 16000, "aac")
    assert open_sound(path, walls=replace(LOCAL, max_seconds=5)).duration == pytest.approx(4, abs=0.2)
    with pytest.raises(UserError, match="a.aac: more than 2 s; give a shorter sound, or raise --max_seconds"):
        open_sound(path, walls=replace(LOCAL, max_seconds=2, flags=True))


def test_a_video_that_is_too_long_or_too_large(tmp_path):
    path = write_video(tmp_path / "a.mp4", 2.0, size=(64, 96))
    with pytest.raises(UserError, match="a.mp4: more than 1 s; give a shorter video"):
        SourceVideo(path, walls=replace(LOCAL, max_seconds=1))
    with pytest.raises(UserError, match=r"a.mp4: more than 0.006 million pixels \(96x64\); scale the video down first"):
        SourceVideo(path, walls=replace(LOCAL, max_pixels=6000))
    assert SourceVideo(path, walls=replace(LOCAL, max_pixels=96 * 64, max_seconds=2)).frames == 50


def test_what_is_read_at_once_is_bounded_by_what_it_takes():
    """Of the largest pictures one at a time, of small ones as many as ask."""
    assert _most_at_once(LOCAL.max_pixels, threads=6) == 1
    assert _most_at_once(1 << 20, threads=6) == 6


def _most_at_once(pixels: int, threads: int) -> int:
    running: list[int] = []
    counts: list[int] = []

    def read(_):
        with memory.for_pixels(pixels):
            running.append(1)
            counts.append(len(running))
            time.sleep(0.2)
            running.pop()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(threads)))
    return max(counts)
