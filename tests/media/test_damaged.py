"""Media files cut, flipped and patched anywhere: read, or refused in one line; no crash, no hang, no gigabytes."""

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.sounds import pulses, write_sound
from tests.videos import write_video

ALL_CASES = 10_000
MOST_SECONDS, MOST_BYTES = 10.0, 1e9


@dataclass(frozen=True)
class Kind:
    """Of files.

    Attributes:
      name: of the file; its suffix says what it is.
      how: the reader's name, see `tests.media.reading`.
      write: writes a whole one, of some ten kilobytes.
    """

    name: str
    how: str
    write: Callable[[Path], object]


def _sound(name: str, codec: str, rate: int = 16000) -> Kind:
    return Kind(name, "sound", lambda path: write_sound(path, pulses(0.6, rate)[:, None], rate, codec))


def _video(name: str, how: str, codec: str) -> Kind:
    return Kind(name, how, lambda path: write_video(path, 0.4, size=(64, 64), rate=16000, sound_codec=codec))


def _picture(name: str, **options) -> Kind:
    def write(path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
        image = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
        (pillow_heif.from_pillow(image) if name.endswith(".heic") else image).save(path, **options)

    return Kind(name, "picture", write)


KINDS = [
    _sound("a.wav", "pcm_s16le"),
    _sound("f.wav", "pcm_f32le"),
    _sound("a.mp3", "libmp3lame"),
    _sound("a.flac", "flac"),
    _sound("a.m4a", "aac"),
    _sound("a.aac", "aac"),
    _sound("a.ogg", "libopus", 48000),
    _sound("a.webm", "libopus", 48000),
    _sound("a.mka", "pcm_f32le"),
    _sound("a.ts", "aac", 44100),
    _sound("a.avi", "libmp3lame", 44100),
    _sound("a.aiff", "pcm_s16be"),
    _picture("a.jpg"),
    _picture("a.png"),
    _picture("a.webp"),
    _picture("a.gif"),
    _picture("a.tiff", compression="tiff_lzw"),
    _picture("a.avif"),
    _picture("a.heic"),
    _video("a.mp4", "training", "aac"),
    _video("a.mkv", "dubbed", "pcm_f32le"),
]
_QUICK = [kind for kind in KINDS if kind.how != "training"]  # whose resampler takes ten seconds to load


class Reader:
    """The process that reads; begun anew when it was killed.

    A case that takes too long kills it, and whoever asks is told.
    """

    def __init__(self):
        self._process: subprocess.Popen | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def read(self, how: str, path: Path, seconds: float = MOST_SECONDS) -> tuple[str, int]:
        """What came of it, or that it was not done in time; and the most memory, in bytes, the process ever had."""
        process = self.process
        assert process.stdin
        process.stdin.write(f"{how}\t{path}\n")
        process.stdin.flush()
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            return f"no end after {seconds} s", 0
        if not line:
            status, self._process = process.wait(), None
            return f"the process died: {status}", 0
        most, outcome = line.rstrip("\n").split(" ", 1)
        return outcome, int(most)

    @property
    def process(self) -> subprocess.Popen:
        """That reads now."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.media.reading"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._lines = queue.Queue()
            threading.Thread(target=self._listen, args=(self._process, self._lines), daemon=True).start()
        return self._process

    @staticmethod
    def _listen(process: subprocess.Popen, lines: queue.Queue) -> None:
        assert process.stdout
        for line in process.stdout:
            lines.put(line)
        lines.put("")  # it has ended

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`whole(kind)`: the bytes of an undamaged file."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def file(kind: Kind) -> bytes:
        if kind not in made:
            kind.write(folder / kind.name)
            made[kind] = (folder / kind.name).read_bytes()
        return made[kind]

    return file


_PLACE = st.floats(0, 1, exclude_max=True)
_EARLY = _PLACE.map(lambda x: x**4)  # headers are in front
_DAMAGE = st.one_of(
    st.tuples(st.just("set"), _EARLY | _PLACE, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("flip"), _EARLY | _PLACE, st.integers(0, 7)),
    st.tuples(st.just("drop"), _EARLY | _PLACE, st.integers(1, 4000)),
    st.tuples(st.just("twice"), _PLACE, st.integers(1, 4000)),
    st.tuples(st.just("zeros"), _PLACE, st.integers(1, 4000)),
    st.tuples(st.just("cut"), _PLACE, st.none()),
)


def damaged(data: bytes, damages: list) -> bytes:
    """The file with each damage done to it, one after the other."""
    found = bytearray(data)
    for kind, place, what in damages:
        at = int(place * len(found))
        if kind == "set":
            found[at : at + len(what)] = what
        elif kind == "flip" and found:
            found[at] ^= 1 << what
        elif kind == "drop":
            del found[at : at + what]
        elif kind == "twice":
            found[at:at] = found[at : at + what]
        elif kind == "zeros":
            found[at : at + what] = bytes(len(found[at : at + what]))
        elif kind == "cut":
            del found[at:]
    return bytes(found)


def check(kind: Kind, cases: int, reader: Reader, data: bytes, folder: Path) -> None:
    path = folder / kind.name
    path.write_bytes(data)
    outcome, before = reader.read(kind.how, path, 120)  # all modules are loaded with the first
    assert outcome == "read"

    @settings(max_examples=cases, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    @given(st.lists(_DAMAGE, min_size=1, max_size=6))
    def every_file(damages):
        path.write_bytes(damaged(data, damages))
        outcome, most = reader.read(kind.how, path)
        assert outcome in ("read", "refused"), outcome
        assert most - before < MOST_BYTES

    every_file()


@pytest.mark.parametrize("kind", _QUICK, ids=lambda kind: f"{kind.how} {kind.name}")
def test_a_damaged_file_is_read_or_refused(kind, reader, whole, tmp_path):
    check(kind, 12, reader, whole(kind), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.how} {kind.name}")
def test_ten_thousand_damaged_files_are_read_or_refused(kind, reader, whole, tmp_path):
    check(kind, -(-ALL_CASES // len(KINDS)), reader, whole(kind), tmp_path)


def test_the_watch_sees_a_crash_and_a_hang(tmp_path):
    """What it would not see would be no proof."""
    path, reader = tmp_path / "a.wav", Reader()
    path.touch()
    assert reader.read("sound", path, 120)[0] == "refused"
    assert "KeyError" in reader.read("no such way", path)[0]
    reader.process.send_signal(signal.SIGSEGV)
    assert reader.read("sound", path)[0] == f"the process died: {-signal.SIGSEGV}"
    reader.read("sound", path, 120)
    reader.process.send_signal(signal.SIGSTOP)
    assert reader.read("sound", path, 0.2)[0] == "no end after 0.2 s"
    reader.close()
