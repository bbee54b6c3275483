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


def simulated(rows: int, length: int, overlap: int, most: int, recipe: str):
    """The original's loop, clip by clip, over a sound whose rows are their numbers: the frames of the video, and what
    each clip hears in every frame."""
    sound, begin, end, known, made, missing, last, heard_of = list(range(rows)), 0, length, 0, 0, 0, False, []
    while True:
        near = np.arange(begin, end)[:, None] + np.arange(-2, 3)
        heard_of.append(np.array(sound)[np.clip(near, 0, len(sound) - 1)])
        made += length - known
        if last:
            break
        known, begin = overlap, begin + length - overlap
        end = begin + length
        if end >= min(most, rows):
            last = True
            if end >= rows:
                missing = end - rows + 3
                sound += sound[-missing:][::-1]
        if most <= length:
            break
    frames = min(made, most)
    if most > length and missing:
        frames = min(frames, rows) if recipe == "infinitetalk" else frames - missing
    return frames, heard_of


@pytest.mark.parametrize("recipe", ["multitalk", "infinitetalk"])
@pytest.mark.parametrize(
    ("length", "overlap", "most"), [(81, 25, 1000), (81, 9, 1000), (9, 5, 60), (13, 5, 1000), (13, 1, 13)]
)
def test_upstream_is_the_original_s_loop(length, overlap, most, recipe):
    for rows in [*range(length + 1, length + 80), 977, 978, 1005, 1033, 1034, 1100]:
        frames, wanted = simulated(rows, length, overlap, most, recipe)
        found = upstream_timeline(rows, length, overlap, most=most, recipe=recipe)
        assert (found.clips, found.frames) == (len(wanted), frames)
        for clip, near in enumerate(wanted):
            first, later = heard(found.starts[clip], length, rows, window=5, stride=4)
            np.testing.assert_array_equal(first, near[0])
            begin, middle, end = near[1::4], near[2:-1:4], near[4::4]
            slots = [*begin[:, :3].T, middle[:, 2], near[3::4][:, 2], *end[:, 2:].T]
            np.testing.assert_array_equal(later, np.stack(slots, axis=1))
