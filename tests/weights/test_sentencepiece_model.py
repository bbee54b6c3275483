"""A SentencePiece model, written here byte by byte, as the tokenizer it stands for."""

import struct

import numpy as np
import pytest
from tokenizers import Tokenizer

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.sentencepiece_model import tokenizer_files

NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4
PIECES = [
    *(("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN)),
    *(("▁", -2.0, NORMAL), ("▁talk", -3.0, NORMAL), ("ing", -3.5, NORMAL), ("▁ta", -4.0, NORMAL)),
    *(("l", -5.0, NORMAL), ("k", -5.0, NORMAL), ("<extra>", 0.0, USER), ("a", -6.0, NORMAL)),
]


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    more, value = value & 0x7F, value >> 7
    return bytes([more | 0x80]) + _varint(value) if value else bytes([more])


def spiece_model(kind: int = 1) -> bytes:
    """A model of those pieces: pieces, how it was trained (its kind), how texts are normalised (not at all)."""
    pieces = b""
    for text, score, type_ in PIECES:
        pieces += _field(1, _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, type_]))
    return pieces + _field(2, bytes([3 << 3, kind])) + _field(3, _field(1, b"identity"))


def _ids(text: str) -> list[int]:
    files = tokenizer_files(spiece_model(), "x")
    return Tokenizer.from_str(files["tokenizer.json"].decode()).encode(text).ids


@pytest.mark.parametrize(
    "text, ids",
    [
        ("talking", [4, 5, 1]),  # the likeliest pieces: -6.5
        ("  talk   talk ", [4, 4, 1]),  # blanks are one, and none at the ends
        ("ta", [6, 1]),
        ("z", [3, 2, 1]),  # unknown
        ("<extra>talk", [9, 4, 1]),
        ("", [1]),
    ],
)
def test_the_ids_of_a_text(text, ids):
    assert _ids(text) == ids


def test_as_sentencepiece_itself():
    library = pytest.importorskip("sentencepiece")
    processor = library.SentencePieceProcessor(model_proto=spiece_model())
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = "".join(rng.choice([*"talkingz ", "talk", " "], 12))
        assert _ids(text) == [*processor.encode(text), 1], text


@pytest.mark.parametrize(
    "model", [b"", b"\xff" * 20, spiece_model()[:50], spiece_model(kind=2), spiece_model()[28:], b"\x0a\x80" * 30]
)
def test_what_is_no_such_model(model):
    with pytest.raises(UserError, match="x: not a SentencePiece model of T5's kind; give the tokenizer's folder"):
        tokenizer_files(model, "x")
