"""The goldens of the original program with all models split over eight devices."""

import pytest

from talkverse_jax.families.talkverse.parity import PARITY_CASES
from talkverse_jax.parity import compare as parity
from talkverse_jax.sharding.mesh_config import MeshConfig

MESHES = ("data=2,context=4", "data=2,fsdp=2,tensor=2")
slow = pytest.mark.slow


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize(
    "name",
    [
        "dit_motion",
        *(pytest.param(name, marks=slow) for name in ("dit_first_clip", "dit_head128", "dit_lora")),
        "umt5",
        *(pytest.param(name, marks=slow) for name in ("vae", "wav2vec2")),
    ],
)
def test_a_golden_passes(golden, name, mesh):
    found = parity.run_bundle(golden(name), taps=True, mesh=MeshConfig.parse(mesh))
    assert found and all(comparison.passed for comparison in found), [str(c) for c in found]


@slow
@pytest.mark.parametrize("mesh", MESHES)
def test_the_three_clip_pipeline(golden, mesh):
    """The bundle holds every fourth pixel of the video; `latents_clip_i` whole."""
    bundle = golden("pipeline_3_clips")
    case = PARITY_CASES["pipeline"](bundle, MeshConfig.parse(mesh))
    pairs = {"video": (case.outputs["video"][:, :, ::4, ::4], bundle.group("outputs")["video_every_4th_pixel"])}
    pairs |= {name: (case.taps[name], value) for name, value in bundle.group("taps").items()}
    found = [parity.compare(name, *pair, True) for name, pair in pairs.items()]
    assert len(found) == 4 and all(c.passed and c.max_rel < 1e-4 for c in found), [str(c) for c in found]
