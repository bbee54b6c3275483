"""Reading in a child process: the same comes out, and what goes wrong there is one line here."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.audio import open_sound
from talkverse_jax.media.child import reading
from talkverse_jax.media.fit import framing
from talkverse_jax.media.image import is_video, read_framed, read_image
from talkverse_jax.media.source_video import SourceVideo
from talkverse_jax.media.walls import LOCAL, Child
from tests.sounds import tone, write_sound
from tests.videos import write_video

APART = replace(LOCAL, child=Child(memory=1 << 30, seconds=60))
SMALL = replace(LOCAL, child=Child(memory=300 << 20, seconds=2))


def test_a_picture_is_the_same(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    frame = lambda height, width: framing((height, width), (40, 40), "crop")  # noqa: E731
    notes, others = [], []
    picture, framed = read_framed(tmp_path / "a.png", frame, notes.append)
    other, also = read_framed(tmp_path / "a.png", frame, others.append, APART)
    np.testing.assert_array_equal(other, picture)
    assert also == framed and others == notes == ["transparent, laid on white"]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", walls=APART), read_image(tmp_path / "a.png"))


def test_a_sound_is_the_same(tmp_path):
    samples = np.stack([tone(1.0, 44100), tone(1.0, 44100, 700)], axis=1)
    path = write_sound(tmp_path / "a.mp3", samples, 44100, "libmp3lame")
    here, there = open_sound(path), open_sound(path, walls=APART)
    assert replace(there, walls=LOCAL) == here
    np.testing.assert_array_equal(np.concatenate(list(there.native())), np.concatenate(list(here.native())))
    np.testing.assert_array_equal(np.concatenate(list(there.mono(16000))), np.concatenate(list(here.mono(16000))))


def test_a_video_is_the_same(tmp_path):
    path = write_video(tmp_path / "a.mp4", 1.0, fps=30, rotation=90)
    here, there = SourceVideo(path, "loop"), SourceVideo(path, "loop", walls=APART)
    facts = ("start", "frames", "height", "width", "has_sound", "notes")
    assert [getattr(there, name) for name in facts] == [getattr(here, name) for name in facts]
    np.testing.assert_array_equal(there.read(15, 20, (96, 64)), here.read(15, 20, (96, 64)))
    assert is_video(path, APART)


def test_an_error_is_the_same(tmp_path):
    (tmp_path / "a.png").write_text("I am no picture")
    with pytest.raises(UserError) as here:
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError) as there:
        read_image(tmp_path / "a.png", walls=APART)
    assert str(there.value) == str(here.value)


def _crash(path, walls):
    yield 1
    os.kill(os.getpid(), signal.SIGSEGV)


def _eat(path, walls):
    yield len(np.ones(1 << 27))


def _work(path, walls):
    yield next(number for number in iter(int, 1) if number)


def _sleep(path, walls):
    yield time.sleep(60)


def _stumble(path, walls):
    yield 1
    raise KeyError("what no reader foresaw")


def _write(path, walls):
    yield Path(path).write_text("x")


def _shout(path, walls):
    print("what a library prints", flush=True)
    yield 7


@pytest.mark.parametrize(
    ("reader", "line"),
    [
        (_crash, "f.png: its reader ended with SIGSEGV; save the file again, in another format"),
        (_eat, "f.png: takes more than 0.314573 GB to read; save it smaller"),
        (_work, "f.png: its reader took more than 2 s; save the file again, in another format"),
        (_sleep, "f.png: its reader took more than 2 s; save the file again, in another format"),
        (_stumble, "f.png: cannot be read (KeyError: 'what no reader foresaw'); save it in another format"),
    ],
)
def test_what_goes_wrong_is_one_line(reader, line):
    with pytest.raises(UserError) as error, reading(reader, "f.png", SMALL) as pieces:
        list(pieces)
    assert str(error.value) == line


def test_a_child_writes_nothing(tmp_path):
    path = tmp_path / "f.png"
    refused = pytest.raises(UserError, match="f.png: (cannot be read|its reader ended)")
    with refused, reading(_write, str(path), SMALL) as pieces:
        list(pieces)
    assert path.read_bytes() == b""


def test_what_a_library_prints_is_no_answer():
    with reading(_shout, "f.png", SMALL) as pieces:
        assert list(pieces) == [7]


def test_a_child_that_is_left_has_ended():
    with reading(_sleep_after_one, "f.png", APART) as pieces:
        child = next(pieces)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def _sleep_after_one(path, walls):
    yield os.getpid()
    time.sleep(60)


def test_a_child_imports_no_jax():
    code = "import sys, talkverse_jax.media.child, talkverse_jax.media.image, talkverse_jax.media.source_video\n"
    code += "print(sorted({'jax', 'flax', 'librosa', 'scipy', 'numba', 'pillow_heif'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n" or done.stdout == "['librosa']\n"  # whose modules load when they are used
