"""Clips and frames as the original counts them, and as the sound is long."""

import numpy as np
import pytest

from talkverse_jax.families.multitalk.timeline import heard, make_timeline, upstream_timeline


@pytest.mark.parametrize(
    ("rows", "clips", "frames"),
    [(82, 2, 79), (137, 2, 134), (138, 3, 135), (200, 4, 197), (977, 17, 974), (1005, 18, 969), (1100, 18, 1000)],
)
def test_upstream_counts(rows, clips, frames):
    found = upstream_timeline(rows, 81, 25, most=1000)
    assert (found.clips, found.frames) == (clips, frames)


def test_infinitetalk_s_video_is_as_long_as_the_sound():
    assert upstream_timeline(153, 81, 9, most=1000, recipe="infinitetalk").frames == 153


@pytest.mark.parametrize("rows", [1, 80, 81, 82, 137, 138, 1005, 5000])
def test_every_frame_is_shown_once(rows):
    found = make_timeline(rows, 81, 25)
    shown = [found.starts[clip] + np.arange(81)[found.shown_of(clip)] for clip in range(found.clips)]
    np.testing.assert_array_equal(np.concatenate(shown), np.arange(rows))


def test_what_a_clip_hears():
    first, later = heard(56, 9, 60, window=5, stride=4)
    np.testing.assert_array_equal(first, [54, 55, 56, 57, 58])
    np.testing.assert_array_equal(later[0], [55, 56, 57, 58, 59, 59, 58, 57])  # behind the end, in reverse
    np.testing.assert_array_equal(heard(0, 9, 60, window=5, stride=4).first, [0, 0, 0, 1, 2])
