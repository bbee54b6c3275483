"""Against the original program's bundles: pipelines of three clips, and the encoders.

Not here for their size, but compared when the numbers could change: the transformer alone (2e-6), APG over five clips
(1.4e-5).
"""

import numpy as np
import pytest

from talkverse_jax.families.multitalk.parity import PARITY_CASES
from talkverse_jax.families.multitalk.teacache import make_skips
from talkverse_jax.parity.compare import compare
from talkverse_jax.weights.bundle import Bundle
from tests.conftest import GOLDENS


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("clip_vision", 1e-5),
        ("vae21", 1e-5),
        ("multitalk_wav2vec2", 2e-5),
        pytest.param("multitalk_pipeline_teacache", 1e-4, marks=pytest.mark.slow),
        pytest.param("multitalk_pipeline_colour", 2e-4, marks=pytest.mark.slow),
        pytest.param("infinitetalk_pipeline", 5e-4, marks=pytest.mark.slow),
    ],
)
def test_goldens(name, limit):
    bundle = Bundle(GOLDENS / "multitalk" / f"{name}.safetensors")
    case = PARITY_CASES[bundle.component](bundle, None)
    for output, reference in bundle.group("outputs").items():
        result = compare(output, case.outputs.get(output), reference, case.chained)
        assert result.passed and result.max_rel < limit, str(result)


def test_the_first_steps_always_run_and_little_change_is_skipped():
    slow = 1 + 1e-4 * np.arange(12.0)[:, None]
    assert make_skips(slow, 0.2, False) == [False] * 5 + [True, False] * 3 + [True]
    assert not any(make_skips(slow, 0.0, False))
