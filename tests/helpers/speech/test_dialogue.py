"""Texts of several people."""

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers.speech.dialogue import speak, turns
from talkverse_jax.helpers.speech.engine import Utterance


class Talks:
    """Says a sample for each letter, of a size for each voice."""

    def say(self, text, voice, speed, *, example=None):
        return Utterance(np.full(len(text), {"a": 0.1, "b": 0.2}[voice], np.float32), 8000)


def test_turns():
    assert turns("Hello (s3).".replace("(s3)", "")) == [(0, "Hello .")]
    assert turns("(s1) Hi. (s2)Hello!\n(s1) Bye.", 2) == [(0, "Hi."), (1, "Hello!"), (0, "Bye.")]
    assert turns("(s2) Hi.", 2) == [(1, "Hi.")]


@pytest.mark.parametrize(
    "text, said",
    [
        ("Oh. (s1) Hi.", "has words before the first"),
        ("(s1) (s2) Hi.", r"has nothing behind a mark \(s1\)"),
        ("(s1) Hi. (s3) Hi.", r"has words of \(s3\); the model has 2 speakers"),
    ],
)
def test_turns_that_do_not_go(text, said):
    with pytest.raises(UserError, match=f"--tts_text {said}"):
        turns(text, 2)


def test_one_speaker_of_a_model_that_has_one():
    with pytest.raises(UserError, match="the model has one speaker"):
        turns("(s1) Hi. (s2) Hi.")


def test_who_does_not_speak_is_silent():
    one, two = speak(Talks(), "(s1) ab (s2) c (s1) d", ("a", "b"), most=2)
    assert one is not None and np.allclose(one.samples, [0.1, 0.1, 0, 0.1])
    assert two is not None and np.allclose(two.samples, [0, 0, 0.2, 0])
    assert speak(Talks(), "(s2) c", ("a", "b"), most=2)[0] is None
    assert len(speak(Talks(), "abc", ("a", "b"), most=2)) == 1
