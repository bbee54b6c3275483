"""Checksums of kept programs, looked at before XLA sees the bytes: one flipped bit in a serialised CPU program can end
the process."""

import zlib
from collections.abc import Callable
from typing import Any, Protocol

_MARK = b"tvj1"


class ProgramStore(Protocol):
    """JAX's cache in a folder: bytes by key. A key is a program's name, a dash and a digest."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


class AlreadyKept(Exception):
    """A program is in the cache and intact, and need not be compiled; its argument is how many bytes it has there."""


class CheckedCache:
    """The same store; entries end with a mark and the CRC-32 of key and contents.

    Args:
      remove: deletes an entry, by key.
      replaced: told the name of a program whose entry is of no use, once that is gone.

    Attributes:
      written: bytes, since the process began.
      only_ask: have `get` raise `AlreadyKept` instead of handing out an entry, for programs that cannot be loaded here.
    """

    def __init__(self, store: ProgramStore, remove: Callable[[str], None], replaced: Callable[[str], None]):
        self._store, self._remove, self._replaced = store, remove, replaced
        self._latest: dict[str, str] = {}  # key by name
        self.written, self.only_ask = 0, False

    def get(self, key: str) -> bytes | None:
        found = self._store.get(key)
        if found is None:
            return None
        end = len(found) - len(_ending(key, b""))
        if end < 0 or found[end:] != _ending(key, memoryview(found)[:end]):
            self._discard(key)
            return None
        if self.only_ask:
            raise AlreadyKept(len(found))
        self._latest[_name(key)] = key
        return found[:end]

    def put(self, key: str, value: bytes) -> None:
        entry = value + _ending(key, value)
        self._store.put(key, entry)
        self.written += len(entry)

    def discard_latest(self, name: str) -> None:
        """Delete the entry that was last handed out for a program of that name: XLA cannot use it."""
        if key := self._latest.pop(name, None):
            self._discard(key)

    def _discard(self, key: str) -> None:
        self._remove(key)
        self._replaced(_name(key))

    @property
    def _path(self) -> Any:  # JAX logs it
        return getattr(self._store, "_path", None)


def _name(key: str) -> str:
    return key.rpartition("-")[0]


def _ending(key: str, value: Any) -> bytes:
    return _MARK + zlib.crc32(value, zlib.crc32(key.encode())).to_bytes(4, "big")
