"""What is drawn on the terminal."""

import sys

from talkverse_jax.cli.progress import TerminalEvents, TerminalReporter


def test_bars_of_clips_and_steps(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with TerminalEvents() as events:
        events.notice("128x128, 2 clips")
        events.planned(1, 3)  # an earlier run made clip 0
        for clip in (1, 2):
            for step in range(3):
                events.step(step, 3)
            events.clip(clip, 3, lambda: None)
        events.notice("talk.mp4")
    told = capsys.readouterr()
    assert told.out == "" and "128x128, 2 clips\n" in told.err
    assert "1/3" in told.err and "0/3 [00:00<?, ?clip" not in told.err
    assert "clips: 100%" in told.err and "3/3" in told.err and "steps:" in told.err
    assert told.err.endswith("talk.mp4\n")


def test_a_log_has_no_bar_below_another(capsys):
    with TerminalEvents() as events:
        events.planned(0, 1)
        events.step(0, 2)
        events.clip(0, 1, lambda: None)
    assert "steps" not in (told := capsys.readouterr().err) and "clips: 100%" in told


def test_lines_and_a_bar_of_long_work(capsys):
    reporter = TerminalReporter()
    with reporter.bar(4, "videos", "video", done=1) as bar:
        bar.update(3)
        bar.note("fast")
    reporter.say("done")
    told = capsys.readouterr()
    assert told.out == "" and "4/4" in told.err and "fast" in told.err and told.err.endswith("done\n")
