"""A student of four steps without guidance: its schedule, and a published LoRA for it over tiny weights."""

import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from talkverse_jax.core.config import read_toml
from talkverse_jax.diffusion import denoise as loop
from talkverse_jax.families.multitalk.schedule import schedule_of
from talkverse_jax.families.multitalk.settings import Settings
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.events import Cancelled, Events
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.worker import make_clips, make_video
from tests.conftest import CONFIGS
from tests.families.multitalk.test_pipeline import StopIn, folder, job, pictures  # noqa: F401
from tests.families.multitalk.tiny import TINY

FILE = "wan2.1_i2v_lora_rank64_lightx2v_4step.safetensors"
PRESET = {name: value for name, value in read_toml(CONFIGS / "multitalk_4step.toml").items() if "sample" in name}


def lora(path, rank: int = 2):
    """A file as lightx2v publishes it for Wan2.1-I2V-14B: pairs of a block's products, differences of all other
    tensors."""
    rng, trunk = np.random.default_rng(0), TINY.dit.trunk
    normal = lambda *shape: 0.1 * rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    wide = {f"{part}.{name}": (trunk.dim, trunk.dim) for part in ("self_attn", "cross_attn") for name in "qkvo"}
    wide |= {f"cross_attn.{name}_img": (trunk.dim, trunk.dim) for name in "kv"}
    wide |= {"ffn.0": (trunk.ffn_dim, trunk.dim), "ffn.2": (trunk.dim, trunk.ffn_dim)}
    tensors = {}
    for block in range(trunk.num_layers):
        for layer, (rows, columns) in wide.items():
            name = f"diffusion_model.blocks.{block}.{layer}"
            tensors |= {f"{name}.lora_down.weight": normal(rank, columns), f"{name}.lora_up.weight": normal(rows, rank)}
            tensors[f"{name}.diff_b"] = normal(rows)
        tensors[f"diffusion_model.blocks.{block}.cross_attn.norm_k_img.diff"] = normal(trunk.dim)
        tensors[f"diffusion_model.blocks.{block}.norm3.diff"] = normal(trunk.dim)
    tensors["diffusion_model.head.head.diff_b"] = normal(math.prod(trunk.patch_size) * trunk.out_channels)
    save_file(tensors, path)
    return path


def test_four_steps_are_a_student_s():
    settings = Settings("", **PRESET)
    schedule = schedule_of(settings)
    np.testing.assert_allclose(schedule.timesteps, [1000, 937.5, 833.3333, 625], rtol=1e-6)
    np.testing.assert_allclose(schedule.sigmas, [1, 0.9375, 0.8333333, 0.625, 0], rtol=1e-6)
    assert settings.branches == 1
    assert schedule_of(Settings("", sample_steps=4)).timesteps[-1] < 10  # the original's end near 0


@pytest.mark.slow
def test_a_published_lora_makes_a_video_in_four_passes(folder, tmp_path, monkeypatch):  # noqa: F811
    passes, step = [], loop.denoising_step

    def spy(*args, **how):
        passes.append(how["guidance"].branches)
        return step(*args, **how)

    def loaded(*files):
        weights = Weights(str(folder / "multitalk"), lora_ckpt=files)
        return registry.find("multitalk").load_pipeline(weights, Machine(dtype="float32"), keep_encoders=True)

    monkeypatch.setattr(loop, "denoising_step", spy)
    student, plain = loaded(str(lora(tmp_path / FILE))), loaded()
    found, without = (pictures(each, job(each, folder, num_clip=1, **PRESET)) for each in (student, plain))
    assert passes == [1] * 8 and np.isfinite(found).all() and np.abs(found - without).max() > 1e-3
    whole, broken = (job(student, folder, output=str(tmp_path / f"{name}.mp4"), **PRESET) for name in ("a", "b"))
    expected = make_video(student, whole).read_bytes()
    with pytest.raises(Cancelled):
        make_video(student, broken, StopIn(5))
    assert [clip.index for clip in make_clips(student, broken, events=Events(), resume=True)] == [1, 2]
    assert (tmp_path / "b.mp4").read_bytes() == expected
