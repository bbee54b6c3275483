"""What several people say in turn: `(s1) Good morning. (s2) Good morning to you.`

Shapes: n samples.
"""

import re
from collections.abc import Sequence

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers.speech.engine import Engine, Example, Utterance

_TURN = re.compile(r"\(s([1-9])\)")


def turns(text: str, most: int = 1) -> list[tuple[int, str]]:
    """Who speaks, counted from 0, and what; all of a text without marks is the first's.

    Args:
      most: people there can be.

    Raises:
      UserError: there are more, words stand before the first mark, or nothing behind one.
    """
    first, *rest = _TURN.split(text)
    if not rest:
        return [(0, text)]
    if first.strip():
        raise UserError("has words before the first (s1); put a mark before them", field="tts_text")
    found = [(int(number) - 1, words.strip()) for number, words in zip(rest[::2], rest[1::2])]
    for speaker, words in found:
        if speaker >= most:
            people = "one speaker" if most == 1 else f"{most} speakers"
            raise UserError(f"has words of (s{speaker + 1}); the model has {people}", field="tts_text")
        if not words:
            raise UserError(f"has nothing behind a mark (s{speaker + 1}); write words there", field="tts_text")
    return found


def speak(
    engine: Engine,
    text: str,
    voices: Sequence[str | None],
    speed: float = 1.0,
    *,
    most: int = 1,
    example: Example | None = None,
) -> list[Utterance | None]:
    """A text as each of its people speaks it, all of one length, with silence while another speaks; None of a person
    who says nothing.

    Args:
      voices: of the people, in their order.
      most: people there can be.

    Raises:
      UserError, UpstreamError: see `turns` and `Engine.say`.
    """
    said = [(who, engine.say(words, voices[who], speed, example=example)) for who, words in turns(text, most)]
    rate = said[0][1].rate
    if any(each.rate != rate for _, each in said):
        raise UserError(
            "is of another rate than the first speaker's; take voices that go together", field="tts_voice_2"
        )
    return [_of_one(one, said) for one in range(1 + max(who for who, _ in said))]


def _of_one(one: int, said: Sequence[tuple[int, Utterance]]) -> Utterance | None:
    if all(who != one for who, _ in said):
        return None
    parts = [each.samples if who == one else np.zeros_like(each.samples) for who, each in said]
    return Utterance(np.concatenate(parts), said[0][1].rate)
