import numpy as np
import pytest

from talkverse_jax.families.talkverse.alignment import clip_audio, clips_needed, first_row

N = 120


@pytest.mark.parametrize("lost", [0, 3])
@pytest.mark.parametrize("rows", [1, 116, 117, 118, 120, 121, 237, 238, 1500])
def test_exact_gives_every_frame_its_own_row_without_gap_or_repeat(rows, lost):
    """What the latent frame of each shown frame hears last is that frame's group of four rows."""
    heard = []
    for clip in range(clips_needed(rows, N, "exact", lost)):
        start = first_row(clip, N, "exact", lost)
        for latent in range(N // 4):
            # a first latent frame decoded alone shows one frame, all others four
            shown = 4 - lost if clip == 0 and latent == 0 else 4
            heard += list(range(start + 4 * latent, start + 4 * latent + 4))[-shown:]
    assert heard == list(range(len(heard)))
    assert rows <= len(heard) < rows + N


def test_upstream_counts_as_the_original():
    assert [clips_needed(rows, N, "upstream", 3) for rows in (1, 119, 120, 240)] == [1, 1, 2, 3]
    assert [first_row(clip, N, "upstream", 3) for clip in range(3)] == [0, 120, 240]


def test_rows_before_the_sound_repeat_its_first_and_rows_after_it_are_zero():
    features = np.arange(1.0, 6.0)[:, None, None] * np.ones((5, 25, 3))
    rows = clip_audio(features, -3, 12)[:, 0, 0]
    np.testing.assert_array_equal(rows, [1, 1, 1, 1, 2, 3, 4, 5, 0, 0, 0, 0])
