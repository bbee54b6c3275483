import json

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import SampleId
from talkverse_jax.data.skipped import Skip, Skipped
from talkverse_jax.media.bad_sample import BadSample


def test_what_is_skipped_is_counted_and_listed(tmp_path):
    skipped = Skipped(tmp_path / "run" / "skipped.jsonl")
    skipped.rows([Skip("a.mp4", "no sound")], total=2)
    skipped.used()
    skipped.skip("b.mp4", BadSample("cut short", "no picture at 3.00 s"), SampleId(1, 7))
    assert skipped.counts == {"no sound": 1, "cut short": 1}
    assert skipped.seen == 2
    lines = [json.loads(line) for line in skipped.path.read_text().splitlines()]
    assert lines == [
        {"name": "a.mp4", "reason": "no sound", "detail": "", "epoch": -1, "sample": -1},
        {"name": "b.mp4", "reason": "cut short", "detail": "no picture at 3.00 s", "epoch": 1, "sample": 7},
    ]


def test_a_resumed_run_lists_nothing_twice(tmp_path):
    for _ in range(2):
        Skipped(tmp_path / "skipped.jsonl").skip("b.mp4", BadSample("no sound"), SampleId(1, 7))
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 1


def test_more_than_the_share_stops():
    skipped = Skipped(None)
    for _ in range(20):
        skipped.used()
    skipped.skip("a.mp4", BadSample("no sound"), SampleId(0, 20))  # 1 of 21
    with pytest.raises(UserError, match=r"2 of 22 samples cannot be used \(no sound: 2\), more than 5%"):
        skipped.skip("c.mp4", BadSample("no sound"), SampleId(0, 21))


def test_a_few_do_not():
    skipped = Skipped(None)
    for number in range(19):
        skipped.skip("a.mp4", BadSample("no sound"), SampleId(0, number))
    with pytest.raises(UserError, match="20 of 20"):
        skipped.skip("a.mp4", BadSample("no sound"), SampleId(0, 19))


def test_rows_that_are_left_out():
    bad = [Skip(f"{number}.mp4", "too short") for number in range(6)]
    Skipped(None).rows(bad[:5], total=100)
    Skipped(None, share=0.1).rows(bad, total=100)
    with pytest.raises(UserError, match=r"6 of 100 rows of the metadata .*too short: 6.*--max_skipped_share"):
        Skipped(None).rows(bad, total=100)
