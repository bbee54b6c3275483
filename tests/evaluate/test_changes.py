"""What changes from frame to frame, by hand: grey pictures, whose differences are those of their greys."""

import numpy as np
import pytest

from talkverse_jax.evaluate.changes import FrameChanges, Jumps, differences
from talkverse_jax.evaluate.evaluate import evaluate
from talkverse_jax.evaluate.face import Face
from talkverse_jax.evaluate.report import table
from talkverse_jax.media.video_writer import VideoWriter

CLIPS = (23, 17)  # the first frame of each is a keyframe
USUAL, FLASH, POP = 7, 56, 35  # seven of 255 are six of the 219 that a file has


@pytest.fixture(scope="module")
def greys():
    """100 and 107 in turn; the second frame is a flash, and from the second clip on all are lighter."""
    greys = np.full(sum(CLIPS), 100)
    greys[1::2] += USUAL
    greys[1] = 100 + FLASH
    greys[CLIPS[0] :] += POP
    return greys


@pytest.fixture(scope="module")
def video(greys, tmp_path_factory):
    path = tmp_path_factory.mktemp("grey") / "grey.mp4"
    with VideoWriter(path, width=32, height=32, sound=[np.zeros((16000, 1), np.float32)], rate=16000) as writer:
        for clip in np.split(pictures(greys), [CLIPS[0]]):
            writer.write(clip)
    return path


def pictures(greys):
    return np.repeat(greys.astype(np.uint8), 32 * 32 * 3).reshape(-1, 32, 32, 3)


def nobody(frames):
    """A reader that sees no mouth, and a face in the middle."""
    return Face(np.zeros(len(frames)), (12, 20, 20, 24), (8, 4, 24, 28))


def test_by_hand(greys):
    found = differences(pictures(greys))
    assert found[:3].tolist() == [FLASH, FLASH, USUAL]
    assert found[CLIPS[0] - 1] == POP + USUAL and len(found) == len(greys) - 1
    expected = FrameChanges(USUAL, FLASH / USUAL, None, (POP + 2 * USUAL) / 2 / USUAL)
    assert FrameChanges.of(found, [], [0, CLIPS[0], 30]) == expected
    assert FrameChanges.of(found, [CLIPS[0]], [0, CLIPS[0]]) == FrameChanges(USUAL, 8, 6, None)
    late = np.full(20, 2.0)
    late[10] = 50  # of the twelfth frame
    assert FrameChanges.of(late, [], [0]).first_ten == 1


def test_jumps_by_hand():
    assert Jumps.of(np.ones(9), []) is None
    jumps = Jumps.of(np.array([1.0, 1, 6, 1, 2, 4, 1]), [3, 6])
    assert jumps == Jumps(2, 5.0, 1.2) and jumps.ratio == pytest.approx(5 / 1.2)


def test_of_a_file(video):
    """The keyframe of the second clip is one of its own where the length of clips is not known."""
    for clip_frames, elsewhere, there in ((None, "border", "keyframe"), (26, "keyframe", "border")):
        measured = evaluate([video], clip_frames=clip_frames, reader=nobody)
        [record] = measured.records
        changes = record["changes"]
        assert changes["usual"] == pytest.approx(USUAL, abs=0.1)
        assert changes["first_ten"] == pytest.approx(FLASH / USUAL, rel=0.05)
        assert changes[there] == pytest.approx((POP + USUAL) / USUAL, rel=0.05)
        assert changes[elsewhere] is measured.summary["changes"][elsewhere] is None
        lines = {line[2:34].strip(): line.split()[-6:] for line in table(measured.summary).splitlines()}
        label = {"border": "at borders of clips / usual", "keyframe": "at keyframes / usual"}
        assert lines[label[elsewhere]] == ["-"] * 5 + ["0"]
        assert lines[label[there]] == [*[f"{changes[there]:.3f}"] * 2, "0.000", *[f"{changes[there]:.3f}"] * 2, "1"]


def test_a_lead_in_is_told_by_the_record_beside_the_video(video, tmp_path):
    copied = tmp_path / "led.mp4"
    copied.write_bytes(video.read_bytes())
    (tmp_path / "led.json").write_text('{"settings": {"lead_in_frames": 4}}')
    [plain], [led] = (
        evaluate([video], clip_frames=26, reader=nobody).records,
        evaluate([copied], clip_frames=30, reader=nobody).records,
    )
    assert led["changes"] == plain["changes"] and led["jumps"]["borders"] == plain["jumps"]["borders"]


def test_drift_in_per_cent(video, greys):
    """Of the lighter half; the face is like the reference but for its light."""
    [record] = evaluate([video], reader=nobody).records
    first, last = greys[:20].mean(), greys[20:].mean()
    drift = record["drift"]
    assert drift["colour"] == pytest.approx(last - first, abs=0.5)
    assert drift["colour_percent"] == pytest.approx(100 * (last - first) / first, abs=0.5)
    alike = (2 * greys * greys[0] + 6.5025) / (greys**2 + greys[0] ** 2 + 6.5025)
    assert drift["identity_change"] == pytest.approx(alike[20:].mean() - alike[:20].mean(), abs=2e-3)
