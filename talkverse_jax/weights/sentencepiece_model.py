"""A tokenizer out of a SentencePiece model, as ComfyUI stores it among a text encoder's tensors.

The model is a message of Protocol Buffers: pieces with scores (field 1), how it was trained (2), and how texts are
normalised (3). `tokenizers` does the same with a Unigram model behind the same table of normalisation.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.tiny_tokenizer import END, SPACE, TRANSFORMERS

TENSOR = "spiece_model"

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # of the model
_TEXT, _SCORE, _TYPE = 1, 2, 3  # of a piece
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6  # types of pieces
_MODEL_TYPE, _UNIGRAM = 3, 1
_CHARSMAP = 2
_BROKEN = (ValueError, LookupError, TypeError, struct.error, OverflowError)


def tokenizer_files(model: bytes, where: str) -> dict[str, bytes]:
    """`tokenizer.json` and `tokenizer_config.json` of a model; every text ends with `</s>`, as T5's do.

    Args:
      where: the model is from, for messages.

    Raises:
      UserError: it is damaged, or no Unigram model with `</s>`.
    """
    try:
        tokenizer = _tokenizer(model)
    except UserError:
        raise
    except Exception as error:  # `tokenizers` raises plain ones
        if not isinstance(error, _BROKEN) and type(error) is not Exception:
            raise
        raise UserError(f"{where}: not a SentencePiece model of T5's kind; give the tokenizer's folder") from None
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": (json.dumps(TRANSFORMERS, indent=2) + "\n").encode(),
    }


def _tokenizer(model: bytes) -> Tokenizer:
    fields = [*_fields(model)]
    trainer = dict(_fields(next((value for number, value in fields if number == _TRAINER), b"")))
    normalizer = dict(_fields(next((value for number, value in fields if number == _NORMALIZER), b"")))
    if trainer.get(_MODEL_TYPE, _UNIGRAM) != _UNIGRAM:
        raise ValueError("no Unigram model")
    pieces = [_piece(value) for number, value in fields if number == _PIECES]
    types = [kind for _, _, kind in pieces]
    vocabulary = [(text, score) for text, score, _ in pieces]
    end = [text for text, _ in vocabulary].index(END)

    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=types.index(_UNKNOWN), byte_fallback=_BYTE in types))
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text, _, kind in pieces if kind in (_UNKNOWN, _CONTROL)]
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text, _, kind in pieces if kind == _USER_DEFINED])
    steps = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if charsmap := normalizer.get(_CHARSMAP):
        steps.insert(0, normalizers.Precompiled(charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    return tokenizer


def _piece(message: bytes) -> tuple[str, float, int]:
    fields = dict(_fields(message))
    (score,) = struct.unpack("<f", fields.get(_SCORE, bytes(4)))
    return fields[_TEXT].decode(), score, fields.get(_TYPE, 1)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message by number: whole numbers, or bytes."""
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _number(message, place)
        else:
            length, place = _number(message, place) if wire == 2 else ({1: 8, 5: 4}[wire], place)
            value = message[place : place + length]
            if len(value) != length:
                raise ValueError("cut short")
            place += length
        yield number, value


def _number(message: bytes, place: int) -> tuple[int, int]:
    """A number of as many bytes as it needs, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number too long")
