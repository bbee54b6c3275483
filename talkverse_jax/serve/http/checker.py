"""Asks the processes that look at files (see `checks`): two of them, each warm for the next question."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from talkverse_jax.core.own_process import command, environ

_AT_ONCE = 2
_SECONDS = 60.0  # for an answer
_START = 180.0  # for a process to begin, on a busy machine
_LONGEST = 8 << 20  # bytes of an answer


class CheckFailed(Exception):
    """No answer came: the process took too long, or died of what it read."""


class Checker:
    """Its processes start when they are first needed, or with `warm`.

    Args:
      family: of the models.
      modules: further ones that the processes import, of families that are no part of the package.
    """

    def __init__(self, family: str, modules: Iterable[str] = ()):
        self._words = [family, *modules]
        self._idle: asyncio.LifoQueue[asyncio.subprocess.Process | None] = asyncio.LifoQueue()
        for _ in range(_AT_ONCE):
            self._idle.put_nowait(None)

    async def warm(self) -> None:
        """Have a process ready."""
        process = await self._idle.get()
        try:
            process = process or await self._started()
        except CheckFailed:  # whoever asks next is told
            process = None
        finally:
            self._idle.put_nowait(process)

    async def ask(self, folder: Path, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a question about files in a folder; waits for a process to be idle.

        Raises:
          CheckFailed: none came.
        """
        process = await self._idle.get()
        try:
            if process is None or process.returncode is not None:
                process = await self._started()
            question = {"do": do, "folder": str(folder), **arguments}
            try:
                return await self._exchange(process, json.dumps(question).encode() + b"\n", _SECONDS)
            except BaseException:
                process = await _end(process)
                raise
        finally:
            self._idle.put_nowait(process)

    async def _started(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *command("talkverse_jax.serve.http.checks", *self._words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environ(JAX_PLATFORMS="cpu", OMP_NUM_THREADS="1"),
            limit=_LONGEST,
            process_group=0,  # Ctrl-C is its parent's; it ends with its input. Its niceness counts in the same session
        )
        try:
            await self._exchange(process, b"", _START)
        except BaseException:
            await _end(process)
            raise
        return process

    async def _exchange(self, process: asyncio.subprocess.Process, line: bytes, seconds: float) -> dict[str, Any]:
        assert process.stdin and process.stdout
        try:
            async with asyncio.timeout(seconds):
                process.stdin.write(line)
                await process.stdin.drain()
                said = await process.stdout.readline()
            return json.loads(said)
        except (TimeoutError, OSError, ValueError):
            raise CheckFailed from None

    async def close(self) -> None:
        """End the processes."""
        for _ in range(_AT_ONCE):
            if (process := await self._idle.get()) is not None:
                await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
