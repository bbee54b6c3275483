"""Which kinds of files are opened: told by how a file begins, whatever its name, and by nothing else.

FFmpeg and Pillow know hundreds of kinds. Some of them name other files that are to be read in their place (playlists,
concat scripts), or run another program (PostScript). So a file's reader is named, from a list, before it sees it.
"""

import re
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

KindsName = Literal["all", "web"]


@dataclass(frozen=True)
class Kinds:
    """Kinds of files that may be opened.

    Attributes:
      pictures: Pillow's names of formats, and "HEIF".
      media: FFmpeg's names of readers of sound and video.
      such_pictures, such_media: some or all of them, for a person.
    """

    pictures: frozenset[str]
    media: frozenset[str]
    such_pictures: str
    such_media: str


class Mark(NamedTuple):
    """How files of a kind begin.

    Attributes:
      said: for a person.
      start: of the file, or behind its ID3 tag.
      reader: FFmpeg's name of it; "" for what is no sound or video.
    """

    said: str
    start: bytes
    reader: str = ""


_MARKS = (
    Mark("WAV", rb"(?:RIF[FX]|RF64|BW64).{4}WAVE", "wav"),
    Mark("Wave64", rb"riff\x2e\x91\xcf\x11", "w64"),
    Mark("FLAC", rb"fLaC", "flac"),
    Mark("Ogg", rb"OggS", "ogg"),
    Mark("MP4 or MOV", rb".{4}(?:ftyp|moov|mdat|free|skip|wide|pnot|udta)", "mov"),
    Mark("Matroska or WebM", rb"\x1aE\xdf\xa3", "matroska"),
    Mark("AVI", rb"RIFF.{4}(?:AVI|AMV)", "avi"),
    Mark("FLV", rb"FLV", "flv"),
    Mark("WMA or WMV", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    Mark("AIFF", rb"FORM.{4}AIF[FC]", "aiff"),
    Mark("CAF", rb"caff", "caf"),
    Mark("AMR", rb"#!AMR", "amr"),
    Mark("AU", rb"\.snd", "au"),
    Mark("VOC", rb"Creative Voice File", "voc"),
    Mark("WavPack", rb"wvpk", "wv"),
    Mark("Monkey's Audio", rb"MAC ", "ape"),
    Mark("True Audio", rb"TTA[12]", "tta"),
    Mark("RealMedia", rb"\.RMF", "rm"),
    Mark("MXF", rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf"),
    Mark("NUT", rb"nut/multimedia container", "nut"),
    Mark("a picture (PNG)", rb"\x89PNG", "png_pipe"),
    Mark("a picture (JPEG)", rb"\xff\xd8\xff"),
    Mark("a picture (GIF)", rb"GIF8"),
    Mark("a picture (WebP)", rb"RIFF.{4}WEBP"),
    Mark("a picture (TIFF)", rb"II\*\x00|MM\x00\*"),
    Mark("a playlist", rb"ffconcat|\s*#EXTM3U|\s*\[playlist\]"),
    Mark("a session description", rb"v=0\r?\n"),
    Mark("a page or a drawing (XML)", rb"(?:\xef\xbb\xbf)?\s*<[?!a-zA-Z]"),
    Mark("PostScript", rb"%!PS|\xc5\xd0\xd3\xc6"),
    Mark("a PDF", rb"%PDF"),
    Mark("a drawing (WMF, EMF)", rb"\xd7\xcd\xc6\x9a|\x01\x00\x00\x00.{36} EMF"),
    Mark("an archive", rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ"),
)
_MARKS_AT_ONCE = re.compile(b"|".join(b"(%s)" % mark.start for mark in _MARKS), re.DOTALL)

# What begins with samples, or with whatever a receiver caught first: only FFmpeg can tell them apart.
_SOUND = {"mp3", "aac", "loas", "ac3", "eac3", "dts", "dtshd", "truehd"}
UNMARKED = frozenset({*_SOUND, "mpegts", "mpeg", "dv", "mpegvideo", "m4v", "h264", "hevc"})

FILMS = frozenset({"mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "rm", "dv", "nut"})
_ANY = frozenset(mark.reader for mark in _MARKS if mark.reader and mark.reader != "png_pipe") | UNMARKED

KINDS: dict[KindsName, Kinds] = {
    "all": Kinds(
        frozenset({"PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM", "TGA"}),
        _ANY,
        "PNG, JPEG, WebP, HEIC",
        "WAV, FLAC, MP3, M4A, MP4, MOV, WebM",
    ),
    "web": Kinds(
        frozenset({"PNG", "JPEG", "WEBP"}),
        frozenset({"mov", "matroska", "wav", "flac", "ogg", "mp3"}),
        "PNG, JPEG, WebP",
        "WAV, FLAC, Ogg, MP3, MP4, MOV, Matroska, WebM",
    ),
}

HEAD = 64  # bytes by which a file is told


def mark_of(head: bytes) -> Mark | None:
    """How a file of these first bytes begins; None where it has no known mark."""
    found = _MARKS_AT_ONCE.match(head)
    return _MARKS[found.lastindex - 1] if found and found.lastindex else None


def first_bytes(file: BinaryIO) -> tuple[bytes, int]:
    """The bytes by which an open file is told, and the length of the ID3 tag before them."""
    head = file.read(HEAD)
    if tag := behind_tag(head):
        file.seek(tag)
        head = file.read(HEAD)
    return head, tag


def behind_tag(head: bytes) -> int:
    """Where an ID3v2 tag ends, by the first bytes of the file; each byte of its length has seven bits."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))
