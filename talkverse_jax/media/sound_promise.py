"""How long a file says that its sound is: by its own header, never by FFmpeg's guess from the bit rate."""

import struct
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer

# FFmpeg takes the length of these from their header; that of a raw stream it guesses by the first packets' bit rate.
_WITH_LENGTH = {"mov", "flac", "aiff", "caf", "avi", "asf"}
_FOR_ALL_STREAMS = {"matroska", "flv"}  # one length for the whole file: the sound's where there is nothing else
_UNKNOWN = 2**32 - 1  # the length of a wav whose writer could not go back to its head
_FIRST_FRAME = 4096  # bytes in which an mp3's header lies, if it has one


def promised_seconds(container: InputContainer, stream: av.AudioStream, file: Path | None, found: float) -> float:
    """The length in seconds that the header gives, from the first sample on; 0 where it gives none.

    Args:
      file: None where it is not on a disk.
      found: seconds that could be decoded.
    """
    kinds = set(container.format.name.split(","))
    if "wav" in kinds:  # of odd kinds of samples FFmpeg miscounts the bits: only what is missing is told
        return found * _wav_share(file) if file else 0.0
    if "mp3" in kinds and not (file and _counts_frames(file)):
        return 0.0
    if "mp3" in kinds or not _WITH_LENGTH.isdisjoint(kinds):
        return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if not _FOR_ALL_STREAMS.isdisjoint(kinds) and len(container.streams) == 1:
        start = max(0, container.start_time or 0)
        return ((container.duration or start) - start) / av.time_base
    return 0.0


def _wav_share(file: Path) -> float:
    """How many times the samples that are there a wav file says to have."""
    with file.open("rb") as opened:
        kind, whole, _ = struct.unpack("<4sI4s", opened.read(12).ljust(12, b"\0"))
        large = 0  # what RF64 says in place of a length that does not fit
        while len(head := opened.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                size = size if kind == b"RIFF" else large
                there = file.stat().st_size - opened.tell()
                streamed = not size or kind == b"RIFF" and _UNKNOWN in (size, whole)
                return 1.0 if streamed or there <= 0 else max(1.0, size / there)
            if name == b"ds64":
                _, large = struct.unpack("<QQ", opened.read(16).ljust(16, b"\0"))
                size -= 16
            opened.seek(max(0, size) + size % 2, 1)
    return 1.0


def _counts_frames(file: Path) -> bool:
    """Whether an mp3 file says how many frames it has (Xing, Info, VBRI)."""
    with file.open("rb") as opened:
        opened.seek(_behind_tag(opened))
        first = opened.read(_FIRST_FRAME)
    for name in (b"Xing", b"Info"):
        at = first.find(name)
        if at >= 0 and len(flags := first[at + 4 : at + 8]) == 4:
            return bool(flags[3] & 1)
    return b"VBRI" in first


def _behind_tag(opened: BinaryIO) -> int:
    """Where an ID3v2 tag ends; each byte of its length has seven bits."""
    head = opened.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))
