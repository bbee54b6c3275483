"""What a tiny decoder makes small, against a slow formula; and the options of its training."""

import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.training.decoder.loss import shown_loss
from talkverse_jax.training.decoder.options import DecoderOptions
from talkverse_jax.training.decoder.windows import cropped


def _slowly(shown, target):
    """Of one sample, in float64."""
    weight = 1 + 5 * target.std(axis=0).mean(axis=-1)[None, :, :, None]
    total, error = 0.0, shown - target
    for _ in range(3):
        weighed = weight * error
        total += np.abs(weighed).mean()
        total += np.abs(weighed[1:] - weighed[:-1]).mean()
        total += np.abs(weighed[:, 1:] - weighed[:, :-1]).mean()
        total += np.abs(weighed[:, :, 1:] - weighed[:, :, :-1]).mean()
        error, weight = (sum(x[:, y::2, z::2] for y in (0, 1) for z in (0, 1)) / 4 for x in (error, weight))
    return total / 3


def test_the_loss():
    rng = np.random.default_rng(0)
    shown, target = rng.uniform(-1, 1, (2, 2, 3, 8, 12, 3)).astype(np.float32)
    found = shown_loss(shown, target)
    np.testing.assert_allclose(found, [_slowly(*pair) for pair in zip(shown, target)], rtol=1e-5)
    np.testing.assert_array_equal(shown_loss(target, target), [0, 0])


def test_a_crop_is_a_part_or_its_mirror_image():
    video = np.arange(2 * 8 * 10 * 3).reshape(2, 8, 10, 3).astype(np.uint8)
    for seed in range(4):
        part = cropped(video, 4, np.random.default_rng(seed))
        views = [video[:, y : y + 4, x : x + 4] for y in range(5) for x in range(7)]
        assert any(np.array_equal(part, view) or np.array_equal(part, view[:, :, ::-1]) for view in views)
    assert cropped(video, 99, np.random.default_rng(0)).shape == video.shape


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dataset_metadata_path": ()}, "--dataset_metadata_path missing; give a CSV file of videos"),
        ({"size_bucket": "huge"}, "--size_bucket huge: unknown; give one of"),
        ({"steps": 100}, "--warmup_steps 100: the rate never gets whole in 100 steps; give fewer"),
        ({"learning_rate": 0.0}, "--learning_rate 0"),
    ],
)
def test_options_that_cannot_work_say_so(changes, message):
    with pytest.raises(UserError) as error:
        DecoderOptions(**{"weights": "w", "dataset_metadata_path": ("a.csv",)} | changes)
    assert message in str(error.value)
