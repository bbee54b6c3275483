"""Several people in one picture; each is drawn as alone, but smaller and elsewhere."""

import numpy as np
import pytest

from talkverse_jax.toy.group import draw_members, group_film, say
from talkverse_jax.toy.person import group_caption
from talkverse_jax.toy.speech import RATE, Speech

SIZES = {1: (128, 192), 2: (128, 192), 3: (128, 256), 4: (128, 256)}


def members(people, seed=0):
    return draw_members(np.random.default_rng(seed), [[(0.2, 1.0)]] * people, SIZES[people])


def shown(drawn, openings, size):
    """The film of people whose mouths are open by so much in each frame."""
    still = np.full(len(openings[0]), 0.95)
    speeches = [Speech(np.zeros(1, np.float32), np.array(each, float), still) for each in openings]
    moves = [np.random.default_rng([7, number]) for number in range(len(drawn))]
    return group_film(drawn, speeches, np.random.default_rng(8), moves, size)


@pytest.mark.parametrize("people", [1, 2, 3, 4])
def test_everybody_has_a_place_and_a_voice(people):
    height, width = SIZES[people]
    for seed in range(20):
        drawn = members(people, seed)
        boxes = np.array([member.box for member in drawn])
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= height).all() and (boxes[:, 3] <= width).all()
        assert (boxes[1:, 1] >= boxes[:-1, 3]).all()  # nobody where another is
        tokens = [
            ((np.arange(0, width, 32) >= left) & (np.arange(0, width, 32) < right)).sum()
            for left, right in boxes[:, 1::2]
        ]
        assert min(tokens) >= 1
        pitches = np.sort([member.voice.pitch for member in drawn])
        assert (pitches[1:] / pitches[:-1] > 1.1).all()
        assert len({member.person.clothes for member in drawn}) == people
        assert len({member.person.wall for member in drawn}) == 1


@pytest.mark.parametrize("people", [2, 4])
def test_a_mouth_opens_in_its_own_box_alone(people):
    drawn, size = members(people), SIZES[people]
    film = shown(drawn, np.eye(people, people + 1, 1), size)  # in the first frame nobody's, then one after the other
    for speaker in range(people):
        shot = film.frames[1 + speaker].astype(int)
        rows, columns = np.nonzero(np.abs(shot - film.frames[0]).max(-1) > 40)
        top, left, bottom, right = drawn[speaker].box
        assert len(rows) > 20
        inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
        assert inside.mean() > 0.95
        lips = film.keypoints[1 + speaker, speaker, 71:91, :2]
        assert np.abs(lips.mean(0) - [columns.mean(), rows.mean()]).max() < 3
        assert film.opening[1 + speaker].argmax() == speaker and film.opening[1 + speaker, speaker] > 5
        body = film.bodies[0, speaker]
        assert body[0] <= left + 8 and body[2] >= right - 9 and body[3] == size[0] - 1


def test_one_who_listens_is_silent_and_others_speak_in_their_turns():
    [first, second] = draw_members(np.random.default_rng(3), [[(1.0, 1.6)], []], SIZES[2])
    said = say(first, np.random.default_rng(0), 4.0)
    assert not said.opening[:22].any() and said.opening[25:45].max() > 0.3
    silent = say(second, np.random.default_rng(0), 4.0)
    assert not silent.sound.any() and not silent.opening.any() and len(silent.sound) == 4 * RATE


def test_the_caption_names_them_from_left_to_right():
    drawn = members(3)
    text = group_caption([member.person for member in drawn])
    assert text.startswith("Three people talk in front of")
    clothes = [f"{member.person.clothes} {member.person.garment}" for member in drawn]
    places = [text.index(name) for name in clothes]
    assert places == sorted(places)
