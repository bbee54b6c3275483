import dataclasses

import numpy as np
import pytest

from talkverse_jax.data.masks import face_boxes
from talkverse_jax.toy.film import film
from talkverse_jax.toy.person import HAIR, STYLES, caption, draw_person
from talkverse_jax.toy.speech import Speech


@pytest.fixture(scope="module")
def person():
    drawn = draw_person(np.random.default_rng(5))
    return dataclasses.replace(drawn, glasses="none", smile_from=None, style="short")


def shown(person, opening=(0.0,), width=None, size=(128, 128)):
    opening = np.array(opening)
    widths = np.full(len(opening), 0.95) if width is None else np.array(width)
    return film(person, Speech(np.zeros(1, np.float32), opening, widths), np.random.default_rng(0), size)


def differs(one, other):
    return np.abs(one.astype(int) - other).max(-1) > 40


def test_the_mouth_opens_where_its_landmarks_are(person):
    made = shown(person, [0.0, 1.0])
    assert np.isclose(made.opening[1, 0], person.widest)
    lips = made.keypoints[:, 0, 71:91, :2]
    left, top = lips.min((0, 1))
    right, bottom = lips.max((0, 1))
    rows, columns = np.nonzero(differs(*made.frames))
    inside = (rows > top - 2) & (rows < bottom + 2) & (columns > left - 2) & (columns < right + 2)
    assert inside.mean() > 0.9 and inside.sum() > 100
    inner = made.keypoints[:, 0, 83:91, 1]
    gaps = inner.max(1) - inner.min(1)
    np.testing.assert_allclose(gaps, made.opening[:, 0], atol=0.5)
    assert 24 <= right - left <= 42


def test_the_mouth_is_pursed_and_spread(person):
    made = shown(person, [0.5, 0.5], [0.6, 1.15])
    x = made.keypoints[:, 0, 71:91, 0]
    assert np.ptp(x[1]) / np.ptp(x[0]) == pytest.approx(1.15 / 0.6, rel=0.02)


@pytest.mark.parametrize("size", [(128, 128), (128, 160), (160, 128)])
def test_boxes_hold_what_they_say(person, size):
    made = shown(person, [0.0] * 3, size=size)
    assert made.frames.shape == (3, *size, 3)
    for (left, top, right, bottom), body in zip(face_boxes(made.keypoints)[:, 0], made.bodies[:, 0]):
        assert 60 < right - left < 80 and 55 < bottom - top < 70
        assert body[0] <= left and body[1] < top and body[2] >= right and body[3] == size[0] - 1
        assert body.min() >= 0 and body[2] <= size[1] - 1
    looks = {"pattern": "plain", "wall": "light blue", "hair": "black", "clothes": "red"}
    made = shown(dataclasses.replace(person, **looks), size=size)
    foot = made.frames[0, -1].astype(int)
    red = (foot[:, 0] > foot[:, 2]).nonzero()[0]
    np.testing.assert_allclose(made.bodies[0, 0, [0, 2]], [red.min(), red.max()], atol=2)
    dark = (made.frames[0].max(-1) < 80).nonzero()[0].min()  # the hair's uppermost row
    assert made.bodies[0, 0, 1] == pytest.approx(dark, abs=1.5)


def test_what_the_caption_says_is_seen(person):
    plain = shown(person).frames[0]
    changes = {
        "hair": next(name for name in HAIR if name != person.hair),
        "style": next(name for name in STYLES if name != person.style),
        "glasses": "round",
        "clothes": "red" if person.clothes != "red" else "blue",
        "wall": "teal" if person.wall != "teal" else "cream",
        "smile_from": 0.0,
    }
    for name, value in changes.items():
        other = dataclasses.replace(person, **{name: value})
        assert caption(other) != caption(person), name
        assert differs(shown(other).frames[0], plain).sum() > 20, name


def test_a_smile_comes(person):
    made = shown(dataclasses.replace(person, smile_from=0.4), [0.0] * 30)
    corners = made.keypoints[:, 0, [71, 77], 1].mean(1) - made.keypoints[:, 0, 74, 1]
    assert abs(corners[8] - corners[0]) < 0.3  # not yet
    assert corners[25] < corners[0] - 2  # the corners have gone up


def test_eyes_blink_and_the_head_sways(person):
    made = shown(person, [0.0] * 150)
    eyes = made.keypoints[:, 0, 59:71, 1].reshape(150, 2, 6)
    open_by = eyes[:, :, 4] - eyes[:, :, 1]
    assert open_by.min() < 0.5 * np.median(open_by)
    nose = made.keypoints[:, 0, 53, :2]
    assert 0.5 < np.ptp(nose, axis=0).max() < 8
    assert np.abs(np.diff(nose, axis=0)).max() < 0.5
