"""The head of a wav file: what it promises, and a number in it that FFmpeg takes for another."""

import io
import os
import struct
from dataclasses import dataclass

_UNKNOWN = 2**32 - 1  # the length, where the writer could not go back to the head
_EXTENSIBLE = 0xFFFE
_MOST_CHUNKS = 1000  # before the samples
_BITS, _VALID_BITS = 14, 18  # where they stand in the chunk of the format


@dataclass(frozen=True)
class WavHead:
    """What is told before the samples.

    Attributes:
      promised: bytes of samples; 0 where their number was not known when the head was written.
      there: bytes behind the head.
      format: the chunk of that name; format_at: its place in the file.
    """

    promised: int
    there: int
    format: bytes
    format_at: int

    @property
    def share(self) -> float:
        """How many times the samples that are there it promises; at least 1."""
        return max(1.0, self.promised / self.there) if self.promised and self.there > 0 else 1.0

    @property
    def bits(self) -> int:
        """Of a sample, with those that stay 0; 0 unless fewer are said to be valid."""
        if len(self.format) < _VALID_BITS + 2 or int.from_bytes(self.format[:2], "little") != _EXTENSIBLE:
            return 0
        bits, valid = struct.unpack_from("<H", self.format, _BITS) + struct.unpack_from("<H", self.format, _VALID_BITS)
        return bits if -(-valid // 8) < bits // 8 else 0


def read_head(opened: io.FileIO) -> WavHead | None:
    """None where the file is no wav, or has no samples."""
    opened.seek(0)
    kind, whole, form = struct.unpack("<4sI4s", opened.read(12).ljust(12, b"\0"))
    if kind not in (b"RIFF", b"RF64", b"BW64") or form != b"WAVE":
        return None
    large, found, found_at = 0, b"", 0  # the first: what RF64 says in place of a length that does not fit
    for _ in range(_MOST_CHUNKS):
        if len(start := opened.read(8)) < 8:
            return None
        name, size = struct.unpack("<4sI", start)
        at = opened.tell()
        if name == b"data":
            promised = size if kind == b"RIFF" else large
            if kind == b"RIFF" and _UNKNOWN in (size, whole):
                promised = 0
            return WavHead(promised, os.fstat(opened.fileno()).st_size - at, found, found_at)
        if name == b"ds64":
            _, large = struct.unpack("<QQ", opened.read(16).ljust(16, b"\0"))
        elif name == b"fmt ":
            found, found_at = opened.read(min(size, 64)), at
        opened.seek(at + size + size % 2)
    return None


def as_ffmpeg_reads(opened: io.FileIO) -> io.FileIO | io.BufferedReader:
    """What to hand to FFmpeg: the file; of a wav with 24 valid bits in 32 and the like, as if all were valid.

    FFmpeg takes such samples for floats, or for twice as many short ones.
    """
    head = read_head(opened)
    opened.seek(0)
    if head is None or not head.bits:
        return opened
    return io.BufferedReader(_Overlaid(opened, head.format_at + _VALID_BITS, struct.pack("<H", head.bits)))


class _Overlaid(io.FileIO):
    """An open file with some bytes replaced."""

    def __init__(self, opened: io.FileIO, at: int, replaced: bytes):
        super().__init__(opened.fileno(), closefd=False)
        self._at, self._replaced = at, replaced

    def readinto(self, buffer) -> int:
        start = self.tell()
        count = super().readinto(buffer)
        left, right = max(self._at, start), min(self._at + len(self._replaced), start + count)
        if left < right:
            buffer[left - start : right - start] = self._replaced[left - self._at : right - self._at]
        return count
