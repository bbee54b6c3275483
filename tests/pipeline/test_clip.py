"""Which clips and frames a video has, where less is wanted than the sound has."""

import numpy as np
import pytest

from talkverse_jax.families.multitalk.timeline import Joined
from talkverse_jax.families.multitalk.timeline import make_timeline as overlapping
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.families.talkverse.timeline import make_timeline
from tests.second.pipeline import make_timeline as moved
from tests.second.settings import Settings as Second


def talkverse(seconds, lost=3, **settings):
    rows = round(seconds * 25)
    return make_timeline(Settings("", infer_frames=8, **settings), seconds, rows, lost)


TIMELINES = [
    talkverse(1.3),
    talkverse(1.3, lost=0),
    talkverse(1.28, lost=0, audio_alignment="upstream"),  # a last clip that shows nothing
    talkverse(1.3, head_trim_frames=9),
    overlapping(29, 13, 5),
    overlapping(13, 13, 5),
    Joined.of([overlapping(29, 13, 5), overlapping(20, 13, 5), overlapping(7, 13, 5)]),
    moved(Second(), 1.3),
]


def shown(timeline):
    """Of every clip: the frames that are shown, by their number among all."""
    parts = [timeline.shown_of(clip) for clip in range(timeline.clips)]
    return [start + np.arange(max(0, part.stop))[part.start :] for start, part in zip(timeline.starts, parts)]


@pytest.mark.parametrize("timeline", TIMELINES)
def test_an_ended_video_begins_as_the_whole(timeline):
    """By seconds: exactly so many frames, in no more clips than show them. By clips: as they were."""
    whole = shown(timeline)
    frames = np.concatenate(whole)
    assert len(frames) == timeline.shown
    for count in (1, 2, 5, 6, 12, 13, 14, 21, 29, 30, timeline.shown - 1, timeline.shown, timeline.shown + 5):
        ended = timeline.ended(count / 25, None)
        assert ended.shown == min(count, timeline.shown) and type(ended) is type(timeline)
        np.testing.assert_array_equal(np.concatenate(shown(ended)), frames[:count])
        assert count >= timeline.shown or len(shown(ended)[-1])
        assert timeline.ended((count - 0.9) / 25, None) == ended == timeline.ended(count / 25, 99)
    for clips in range(1, timeline.clips + 2):
        ended = timeline.ended(None, clips)
        for mine, all_of_them in zip(shown(ended), whole[:clips], strict=True):
            np.testing.assert_array_equal(mine, all_of_them)
        assert timeline.ended(99, clips) == ended


def test_whichever_ends_first_counts():
    timeline = talkverse(1.3)
    assert timeline.ended(None, None) is timeline
    assert timeline.ended(0.5, 1) == timeline.ended(None, 1) and timeline.ended(0.5, 1).frames == 5
    assert timeline.ended(0.1, 2).frames == 3 and timeline.ended(0.1, 2).clips == 1
    assert timeline.ended(1e-9, None).frames == 1
