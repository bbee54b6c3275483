"""An engine in a process of its own, which is started with the first text and serves one text after the other.

Shapes: n samples.
"""

import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.own_process import command, environ
from talkverse_jax.helpers.errors import UpstreamError, UpstreamTimeout
from talkverse_jax.helpers.speech.engine import Example, Utterance, found_voice, speakable

_START = 120.0  # seconds for a process to begin, on a busy machine
_LONGEST = 1 << 16  # bytes of what is said beside samples
_MOST = 1 << 26  # samples of one piece


class LocalEngine:
    """Speaks with the voices of a package."""

    instructed = imitates = False

    def __init__(self, name: str, voices: Mapping[str, str], seconds: float):
        """
        Args:
          name: of the engine, which `speaker` knows.
          voices: their files by name, the default one first.
          seconds: for a sentence.
        """
        self.name = name
        self._files, self._seconds = dict(voices), seconds
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def voices(self) -> tuple[str, ...]:
        return tuple(self._files)

    def voice(self, name: str | None) -> str:
        return found_voice(name, self._files, next(iter(self._files)))

    def say(
        self,
        text: str,
        voice: str | None = None,
        speed: float = 1.0,
        *,
        instructions: str | None = None,
        example: Example | None = None,
    ) -> Utterance:
        if instructions is not None or example is not None:
            raise UserError(f"{self.name}: speaks in its own manner only; take engine openai", field="tts_engine")
        question = {"text": speakable(text), "voice": self.voice(voice), "speed": speed}
        with self._turn:
            try:
                pieces = list(self._pieces(question))
            except BaseException:  # its next words would be taken for another text's
                self._end()
                raise
        if not pieces:
            raise UserError("has no words that this voice can speak; give another text", field="tts_text")
        return Utterance(np.concatenate([samples for _, samples in pieces]), pieces[0][0])

    def close(self) -> None:
        with self._turn:
            self._end()

    def _pieces(self, question: dict[str, Any]) -> Iterator[tuple[int, Float32[np.ndarray, " n"]]]:
        """Rate and samples, as the process says them."""
        process = self._started()
        assert process.stdin
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._failed("ended") from None
        while True:
            until = time.monotonic() + self._seconds
            said = self._line(process, until)
            if "error" in said:
                raise self._failed(f"cannot speak this text ({said['error']})")
            if "rate" not in said:
                return
            count, rate = int(said["count"]), int(said["rate"])
            if not (0 <= count <= _MOST and rate > 0):
                raise self._failed("says what no engine says")
            yield rate, np.frombuffer(self._bytes(process, 4 * count, until), np.float32)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        self._process = process = subprocess.Popen(
            command("talkverse_jax.helpers.speech.speaker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ(),
            start_new_session=True,  # Ctrl-C is its parent's; it ends with its input
        )
        assert process.stdin
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps({"engine": self.name, "voices": self._files}).encode() + b"\n")
            process.stdin.flush()
        self._line(process, time.monotonic() + max(_START, self._seconds))
        return process

    def _line(self, process: subprocess.Popen[bytes], until: float) -> dict[str, Any]:
        length = int.from_bytes(self._bytes(process, 4, until), "little")
        if length > _LONGEST:
            raise self._failed("says what no engine says")
        try:
            found = json.loads(self._bytes(process, length, until))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._failed("says what no engine says")
        return found

    def _bytes(self, process: subprocess.Popen[bytes], count: int, until: float) -> bytes:
        assert process.stdout
        found = bytearray(count)
        view = memoryview(found)
        while view:
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise UpstreamTimeout(
                    f"{self.name}: took more than {self._seconds:g} s for a sentence; give shorter ones, or more time "
                    "(--tts_timeout)",
                    field="tts_engine",
                )
            if not (got := os.readv(process.stdout.fileno(), [view])):
                raise self._failed("ended")
            view = view[got:]
        return bytes(found)

    def _failed(self, why: str) -> UpstreamError:
        return UpstreamError(f"{self.name}: {why}; install it again, or take another engine", field="tts_engine")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin and process.stdout
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()
