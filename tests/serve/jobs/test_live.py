"""How far a job is."""

import pytest

from talkverse_jax.serve.jobs.live import Live


def _hear(live, *messages):
    for say, values in messages:
        live.hear({"say": say, **values})
    return live.progress


def test_a_job_is_followed_from_step_to_step():
    live = Live("x", clips=4, done=0)
    now = _hear(live, ("phase", {"phase": "loading"}))
    assert (now.phase, now.clip, now.progress, now.eta) == ("loading", None, 0, None)
    now = _hear(live, ("planned", {"done": 0}), ("phase", {"phase": "denoising"}), ("step", {"step": 5, "steps": 10}))
    assert (now.phase, now.clip, now.step, now.steps) == ("denoising", 1, 5, 10)
    assert now.fraction == pytest.approx(0.125) and now.progress == 12
    now = _hear(live, ("clip", {"clip": 1}), ("phase", {"phase": "denoising"}))
    assert (now.clip, now.step, now.fraction) == (2, 0, 0.25)
    assert now.eta == 0 and live.pace is not None


def test_the_phases_of_a_clip_come_in_their_order():
    live = Live("x", clips=2, done=0)
    told = []

    def hear(*messages):
        for message in messages:
            live.hear({"say": "phase", "phase": message} if isinstance(message, str) else message)
            told.append(live.progress.phase)

    hear("loading", "encoding", "loading", "encoding", {"say": "planned", "done": 0}, "encoding", "loading")
    hear("denoising", "decoding", "encoding", "thinking", "writing")
    hear({"say": "clip", "clip": 1}, "encoding", "denoising", "decoding", "writing")
    changes = [phase for phase, before in zip(told, [None, *told]) if phase != before]
    clip = ["encoding", "denoising", "decoding", "writing"]
    assert changes == ["loading", *clip, *clip]


def test_it_goes_on_behind_the_finished_clips():
    live = Live("x", clips=4, done=2, pace=0.5)
    now = _hear(live, ("planned", {"done": 2}), ("step", {"step": 4, "steps": 10}))
    assert (now.fraction, now.eta) == (pytest.approx(0.6), 8)


def test_it_is_done_when_the_video_is_there():
    live = Live("x", clips=1, done=0)
    assert (
        _hear(live, ("planned", {"done": 0}), ("step", {"step": 9, "steps": 9}), ("clip", {"clip": 1})).progress == 99
    )
