"""Decoding in a process of its own, with limits of memory and time: what a file does there, it does to nobody else.

A reader is a generator of arrays and of values that JSON knows. It runs here, or in a child, with the same results:

    with reading(_picture, path, walls) as pieces:
        height, width = next(pieces)
        pixels = pieces.send(frame)

What a child says is never unpickled, nor believed to be of any size. A child serves one reader and imports no JAX.
"""

import json
import math
import os
import pickle
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.own_process import command, environ, pipes
from talkverse_jax.media.walls import Child, Walls

Reader = Callable[..., Generator[Any, Any, None]]

_LONGEST = 1 << 20  # bytes of what is said beside arrays
_TYPES = ("uint8", "float32")
_OPEN_FILES = 64
_START = 120.0  # seconds for a child to begin, on a busy machine
# Libraries whose threads would each take address space of their own, which is what is limited.
_FEW_THREADS = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def reading(reader: Reader, path: str, walls: Walls, *args: Any) -> Iterator[Generator[Any, Any, None]]:
    """The pieces of `reader(path, walls, *args)`, made in a child where `walls` ask for one.

    Args:
      reader: a generator at the top of a module.

    Raises:
      UserError: also where the child was stopped by its limits, or crashed.
    """
    pieces = reader(path, walls, *args) if walls.child is None else _from_child(reader, path, walls, *args)
    try:
        yield pieces
    finally:
        pieces.close()


def _from_child(reader: Reader, path: str, walls: Walls, *args: Any) -> Generator[Any, Any, None]:
    assert walls.child
    process = subprocess.Popen(
        command("talkverse_jax.media.child"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ(**_FEW_THREADS),
    )
    assert process.stdin and process.stdout
    try:
        said, answer = _Replies(process, path, walls.child), None
        _ask(process, said, (reader, path, walls, args))
        said.next(_START)  # it has read what to do, and limits itself
        while True:
            _ask(process, said, answer)
            kind, value = said.next(walls.child.seconds)
            if kind == "error":
                raise UserError(value)
            if kind == "end":
                return
            answer = yield value
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()


def _ask(process: subprocess.Popen, said: "_Replies", value: Any) -> None:
    assert process.stdin
    try:
        pickle.dump(value, process.stdin)
        process.stdin.flush()
    except BrokenPipeError:
        raise said.death() from None


class _Replies:
    """What a child says."""

    def __init__(self, process: subprocess.Popen, path: str, limits: Child):
        self._process, self._path, self._limits = process, path, limits
        self._deadline = 0.0

    def next(self, seconds: float) -> tuple[str, Any]:
        """Kind and value.

        Raises:
          UserError: the child said nothing in so many seconds, died, or says what no reader says.
        """
        self._deadline = time.monotonic() + seconds
        length = int.from_bytes(self._bytes(4), "little")
        if length > _LONGEST:
            raise self._failed("says too much")
        try:
            kind, value = json.loads(self._bytes(length))
            return kind, self._array(*value) if kind == "array" else value
        except (ValueError, TypeError):
            raise self._failed("says what no reader says") from None

    def _array(self, dtype: str, shape: list[int]) -> np.ndarray:
        if dtype not in _TYPES or min(shape, default=0) < 0 or 4 * math.prod(shape) > self._limits.memory:
            raise ValueError
        array = np.empty(shape, dtype)
        self._fill(array.reshape(-1).view(np.uint8).data)
        return array

    def _bytes(self, count: int) -> bytes:
        found = bytearray(count)
        self._fill(memoryview(found))
        return bytes(found)

    def _fill(self, view: memoryview) -> None:
        assert self._process.stdout
        source = self._process.stdout.fileno()
        while view:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                raise self._failed(f"took more than {self._limits.seconds:g} s")
            if not (count := os.readv(source, [view])):
                raise self.death()
            view = view[count:]

    def death(self) -> UserError:
        """Why it is not there any more."""
        status = self._process.wait()
        if -status == signal.SIGXCPU:
            return self._failed(f"took more than {self._limits.seconds:g} s")
        ended = signal.Signals(-status).name if status < 0 else f"status {status}"
        return self._failed(f"ended with {ended}")

    def _failed(self, why: str) -> UserError:
        return UserError(f"{self._path}: its reader {why}; save the file again, in another format")


def main() -> None:
    """Be a child: read what to do, and say what comes of it, piece by piece as it is asked for."""
    asked, said = pipes()
    reader, path, walls, args = pickle.load(asked)
    _limit(walls.child)
    _send(said, "ready", None)
    try:
        pieces = reader(path, walls, *args)
        while True:
            _say(said, pieces.send(pickle.load(asked)))
    except StopIteration:
        _send(said, "end", None)
    except EOFError:  # nobody asks any more
        return
    except UserError as error:
        _send(said, "error", str(error))
    except MemoryError:
        _send(said, "error", f"{path}: takes more than {walls.child.memory / 1e9:g} GB to read; save it smaller")
    except Exception as error:
        _send(said, "error", f"{path}: cannot be read ({type(error).__name__}: {error}); save it in another format")


def _limit(limits: Child) -> None:
    confine(limits.memory)
    until = math.ceil(time.process_time() + limits.seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until, until + 5))


def confine(memory: int) -> None:
    """Let this process take no more than so many bytes beside what the program itself takes, write no files and open
    few."""
    with open("/proc/self/statm", encoding="ascii") as file:
        own = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (own + memory, own + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def _say(said: BinaryIO, piece: Any) -> None:
    if isinstance(piece, np.ndarray):
        piece = np.ascontiguousarray(piece)
        _send(said, "array", (piece.dtype.name, piece.shape), piece)
    else:
        _send(said, "value", piece)


def _send(said: BinaryIO, kind: str, value: Any, array: np.ndarray | None = None) -> None:
    text = json.dumps((kind, value)).encode()
    said.write(len(text).to_bytes(4, "little") + text)
    if array is not None:
        said.write(array.reshape(-1).view(np.uint8).data)
    said.flush()
