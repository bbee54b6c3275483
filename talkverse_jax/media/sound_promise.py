"""How long a file says that its sound is: by its own header, never by FFmpeg's guess from the bit rate."""

import io

import av
from av.container import InputContainer

from talkverse_jax.media.kinds import behind_tag
from talkverse_jax.media.wav import read_head

# FFmpeg takes the length of these from their header; that of a raw stream it guesses by the first packets' bit rate.
_WITH_LENGTH = {"mov", "flac", "aiff", "caf", "avi", "asf"}
_FOR_ALL_STREAMS = {"matroska", "flv"}  # one length for the whole file: the sound's where there is nothing else
_FIRST_FRAME = 4096  # bytes in which an mp3's header lies, if it has one


def promised_seconds(container: InputContainer, stream: av.AudioStream, file: io.FileIO | None, found: float) -> float:
    """The length in seconds that the header gives, from the first sample on; 0 where it gives none.

    Args:
      file: None where it is not on a disk.
      found: seconds that could be decoded.
    """
    kinds = set(container.format.name.split(","))
    if "wav" in kinds:  # of odd kinds of samples FFmpeg miscounts the bits: only what is missing is told
        head = read_head(file) if file else None
        return found * head.share if head else 0.0
    if "mp3" in kinds and not (file and _counts_frames(file)):
        return 0.0
    if "mp3" in kinds or not _WITH_LENGTH.isdisjoint(kinds):
        return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if not _FOR_ALL_STREAMS.isdisjoint(kinds) and len(container.streams) == 1:
        start = max(0, container.start_time or 0)
        return ((container.duration or start) - start) / av.time_base
    return 0.0


def _counts_frames(file: io.FileIO) -> bool:
    """Whether an mp3 file says how many frames it has (Xing, Info, VBRI)."""
    file.seek(0)
    file.seek(behind_tag(file.read(10)))
    first = file.read(_FIRST_FRAME)
    for name in (b"Xing", b"Info"):
        at = first.find(name)
        if at >= 0 and len(flags := first[at + 4 : at + 8]) == 4:
            return bool(flags[3] & 1)
    return b"VBRI" in first
