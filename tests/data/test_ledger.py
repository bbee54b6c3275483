"""Data that change under a run: every sample has its number for good, and an epoch shows each once."""

import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import BatchOrder, SampleId, WindowShape
from talkverse_jax.data.catalogue import VideoRules, make_catalogue
from talkverse_jax.data.identity import Identity
from talkverse_jax.data.ledger import Changes, Ledger, Listed, digest
from talkverse_jax.data.metadata import read_metadata
from talkverse_jax.data.raw import RawSource
from talkverse_jax.data.windows import Lengths
from talkverse_jax.models.vae.config import VAEConfig
from tests.videos import write_csv, write_video

LONG, SHORT = WindowShape(128, 128, "motion"), WindowShape(128, 128, "short")
LENGTHS = Lengths(num_frames=16, motion_frames=9, strides=VAEConfig.wan22().strides)


def sample(name: str, shape: WindowShape = LONG, *, video: str = "", caption: str = "") -> Listed:
    return Listed(Identity(video or name, caption, "rest"), name, shape)


@dataclass
class Run:
    """What a run has seen, by identity and epoch, over all changes of its data."""

    size: int
    listed: list[Listed]
    batch: int = 0
    seen: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.ledger = Ledger.of(self.listed)

    @property
    def plan(self) -> BatchOrder:
        return self.ledger.order(self.size, seed=5)

    def go(self, batches: int) -> None:
        plan, known = self.plan, {member.number: member.identity for member in self.ledger.present}
        for number in range(self.batch, self.batch + batches):
            assert len(plan[number].samples) == self.size
            self.seen.update((id.epoch, known[id.sample]) for id in plan[number].samples)
        self.batch += batches
        assert self.plan[self.batch] == plan[self.batch]  # which may be asked for first

    def change(self, listed: list[Listed]) -> None:
        """As after a stop: nothing is known but what the file says."""
        plan = self.plan
        changed = self.ledger.after(listed, self.batch, plan.epoch(self.batch), plan.unseen(self.batch))
        self.ledger, self.listed = Ledger.read(changed.text(), "here"), listed


def a_change(draw: random.Random, run: Run, number: int) -> list[Listed]:
    """Some videos mended, one gone, one new, one that was there at first, and all rows shuffled."""
    listed, name = list(run.listed), str(number)
    for place in draw.sample(range(len(listed)), draw.randint(0, 3)):
        listed[place] = sample(listed[place].name, listed[place].shape, video=f"{place} mended {name}")
    if draw.random() < 0.7:
        del listed[draw.randrange(len(listed))]
    if draw.random() < 0.5:
        listed.append(sample(name, draw.choice([LONG, SHORT])))
    if (first := sample("0")).identity not in {each.identity for each in listed} and draw.random() < 0.7:
        listed.append(first)
    draw.shuffle(listed)
    return listed


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_an_epoch_shows_each_sample_once_however_the_data_change(size):
    for trial in range(4):
        draw = random.Random(trial)
        run = Run(size, [sample(str(n), LONG if n % 3 else SHORT) for n in range(draw.randint(8, 30))])
        for number in range(100, 103):
            run.go(draw.randint(0, 15))
            epoch = run.plan.epoch(run.batch)
            run.change(a_change(draw, run, number))
            owed = Counter((turn, member.identity) for member in run.ledger.present for turn in member.owed)
            left = {each.identity for each in run.listed if (epoch, each.identity) not in run.seen}
            assert {identity for turn, identity in owed if turn == epoch} == left
            run.go((len(left) + 2 * len(run.listed)) // size)  # to the end of this epoch, and on
            assert set(run.seen.values()) == {1}
            whole = {identity for turn, identity in run.seen if turn == epoch + 1}
            assert whole <= {each.identity for each in run.listed}
            assert len(whole) > len(run.listed) - 2 * size  # but for what waits for a full batch of its shape


def test_what_is_left_of_an_epoch_is_what_its_batches_hold():
    plan = BatchOrder([LONG, SHORT, LONG, LONG, SHORT, LONG, LONG], 2, seed=0)
    for number in range(20):
        epoch = plan.epoch(number)
        before = {id for n in range(number) for id in plan[n].samples}
        everything = {SampleId(turn, n) for turn in range(epoch + 1) for n in range(7)}
        assert set(plan.unseen(number)) == everything - before


def test_what_has_changed_is_told():
    names = [sample(name, caption="c") for name in "abcdefg"]
    known = Ledger.of(names)
    mended, recaptioned = sample("a", video="a anew", caption="c"), sample("b", caption="d")
    scene = names[2]._replace(identity=names[2].identity._replace(rest="other"))
    assert not known.changes(names[::-1])
    changes = known.changes([sample("h"), mended, recaptioned, scene, names[3], sample("i")])
    assert changes == Changes(total=7, mended=1, captions=1, others=1, added=2, gone=3)
    assert str(changes) == (
        "of 7 samples 1 has a mended video, 1 has another caption, 1 has other scenes, keypoints or sizes, 3 are gone; "
        "2 are new"
    )
    assert str(known.changes([*names, sample("h")])) == "1 is new"


def test_of_two_that_are_the_same_each_counts():
    twice = [sample("a"), sample("b"), sample("a")]
    known = Ledger.of(twice)
    assert not known.changes([twice[1], twice[0], twice[0]])
    assert known.changes(twice[:2]) == Changes(3, 0, 0, 0, added=0, gone=1)
    assert known.places([twice[0], twice[0], twice[1]]) == {0: 0, 2: 1, 1: 2}


def test_a_number_is_given_once():
    known = Ledger.of([sample("a"), sample("b")]).after([sample("a"), sample("c")]).after([sample("a"), sample("d")])
    assert [(each.number, each.name, each.gone, each.since) for each in known.members] == [
        (0, "a", False, 0), (1, "b", True, 0), (2, "c", True, 1), (3, "d", False, 2),
    ]  # fmt: skip
    back = [sample("a"), sample("b")]
    assert [each.number for each in known.after(back).present] == [0, 1]
    assert [each.number for each in known.after(back, returning=False).present] == [0, 4]


def test_the_digest_depends_on_order_and_contents_alone():
    listed = [sample("a"), sample("b")]
    assert digest(listed) == digest([each._replace(name="other") for each in listed])
    assert len({digest(listed), digest(listed[::-1]), digest([sample("a"), sample("b", SHORT)])}) == 3


def test_damaged_files_are_one_line():
    whole = Ledger.of([sample("a")]).text()
    for text, message in {
        "": "damaged",
        whole[:-9]: "damaged",
        whole.replace('"format": 1', '"format": 7'): "another",
    }.items():
        with pytest.raises(UserError, match=f"x.jsonl: .*{message}"):
            Ledger.read(text, "x.jsonl")


def test_three_of_thirty_videos_mended_half_way(tmp_path):
    """Besides, a caption is changed, two rows are added, one is gone: what is seen before and after, of real files."""

    def write(n: int, seconds: float) -> None:
        tone = lambda times: 0.4 * np.sin(2 * np.pi * (200 + 9 * n) * times)  # noqa: E731
        write_video(tmp_path / "videos" / f"{n}.mp4", seconds, size=(64, 64), rate=16000, sound=tone)

    (tmp_path / "videos").mkdir()
    rows = [{"video_path": f"videos/{n}.mp4", "caption": f"person {n}"} for n in range(30)]
    for n in range(32):
        write(n, (1.2, 0.8)[n % 3 == 0])
    rules = VideoRules("tiny-128", LENGTHS)

    def look() -> RawSource:
        read = read_metadata([str(write_csv(tmp_path / "metadata.csv", rows))], str(tmp_path))
        return RawSource.of(make_catalogue(read, rules, tmp_path / "catalogue.jsonl"), rules, seed=5)

    before = look()
    run = Run(2, before.listed)
    run.go(7)
    half = Counter(run.seen)
    windows = {n: before.window(SampleId(0, n)) for n in range(30)}
    for n in (4, 7, 20):
        write(n, 1.24)
    rows[11]["caption"] = "somebody else"
    del rows[2]
    rows[:0] = [{"video_path": f"videos/{n}.mp4", "caption": f"person {n}"} for n in (30, 31)]
    after = look()
    assert str(run.ledger.changes(after.listed)) == (
        "of 30 samples 3 have a mended video, 1 has another caption, 1 is gone; 2 are new"
    )
    run.change(after.listed)
    numbered = after.numbered(run.ledger.places(after.listed))
    kept = [n for n in range(30) if n not in (2, 4, 7, 11, 20)]
    assert {n: numbered.window(SampleId(0, n)) for n in kept} == {n: windows[n] for n in kept}
    assert [numbered.entries[n].name for n in range(30, 36)] == ["30", "31", "4", "7", "11", "20"]
    run.go(run.plan.first(3) - run.batch)
    new = {each.identity for each in after.listed}
    rest = Counter(identity for epoch, identity in (run.seen - half) if epoch == 0)
    assert rest == Counter(new - {identity for _, identity in half}) and sum(half.values()) == 14
    assert set(run.seen.values()) == {1}
    for epoch in (1, 2):  # whole, but for less than a batch of each of the two shapes
        shown = {identity for turn, identity in run.seen if turn == epoch}
        assert shown <= new and len(shown) >= len(new) - 2
