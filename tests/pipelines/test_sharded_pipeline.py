"""Two clips on eight devices against the same on one, for every way that a preset splits them."""

import functools
import math

import jax
import numpy as np
import pytest

from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.models.talkverse.config import TalkVerseConfig
from talkverse_jax.models.talkverse.model import TalkVerse
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.model import WanVAE22
from talkverse_jax.models.wan.config import WanConfig
from talkverse_jax.pipelines import long_video
from talkverse_jax.pipelines.components import COMPONENTS
from talkverse_jax.pipelines.long_video import Clip, ClipSettings, generate_clips
from talkverse_jax.pipelines.placement import component_layouts
from talkverse_jax.sharding.mesh import MeshConfig, make_mesh
from talkverse_jax.sharding.pictures import split_for
from tests.sharded import error, sharded
from tests.tiny import random_module

HEADS = 8
DIT = TalkVerseConfig(
    trunk=WanConfig(
        dim=96,
        ffn_dim=192,
        freq_dim=32,
        text_dim=24,
        text_len=16,
        num_heads=HEADS,
        num_layers=2,
        in_channels=4,
        out_channels=4,
        patch_size=(1, 2, 2),
        eps=1e-6,
    ),
    audio_dim=16,
    audio_layers=3,
    audio_tokens=4,
    audio_inject_layers=(0, 1),
    motion_frames=73,
)
VAE = VAEConfig(
    dim=4,
    dec_dim=4,
    z_dim=4,
    dim_mult=(1, 1, 1),
    num_res_blocks=1,
    temporal_downsample=(True, True),
    latent_mean=(0.0,) * 4,
    latent_std=(1.0,) * 4,
)
LATENTS = (12, 8)  # rows, columns
SETTINGS = dict(
    infer_frames=8,
    sample_steps=2,
    sample_shift=5.0,
    sample_guide_scale=4.5,
    sample_solver="unipc",
    init_first_frame=False,
    audio_alignment="exact",
)


@functools.cache
def unsplit_models() -> dict:
    return {"dit": random_module(TalkVerse, DIT), "vae": random_module(WanVAE22, VAE)}


def two_clips(dit: TalkVerse, vae: WanVAE22) -> list[Clip]:
    rng, trunk = np.random.default_rng(0), DIT.trunk
    text = rng.standard_normal((1, trunk.text_len, trunk.text_dim), np.float32)
    return list(
        generate_clips(
            dit,
            vae,
            image=rng.uniform(-1, 1, (*(VAE.space_stride * n for n in LATENTS), 3)).astype(np.float32),
            text=text,
            negative_text=np.zeros_like(text),
            audio=rng.standard_normal((16, DIT.audio_layers, DIT.audio_dim), np.float32),
            num_clips=2,
            settings=ClipSettings(**SETTINGS),
            noise=long_video.seeded_noise(5),
            stopwatch=Stopwatch("encoding", "denoising", "decoding"),
        )
    )


@functools.cache
def unsplit_clips() -> list[Clip]:
    return two_clips(**unsplit_models())


@pytest.mark.parametrize(
    "mesh",
    [
        "data=2,context=4",
        *(
            pytest.param(mesh, marks=pytest.mark.slow)
            for mesh in (
                "fsdp=8",
                "context=8",
                "context=8,ulysses=1",
                "context=8,ulysses=4",
                "tensor=8",
                "data=2,fsdp=2,context=2",
                "data=2,fsdp=2,tensor=2",
                "data=2,context=2,tensor=2",
            )
        ),
    ],
)
def test_eight_devices_make_what_one_does(mesh, monkeypatch):
    layouts = component_layouts(make_mesh(MeshConfig.parse(mesh), jax.devices()[:8], HEADS))
    seen = {}

    def recorded(name):
        function = getattr(long_video, name)

        def record(*args):
            result = function(*args)
            seen.setdefault(name, []).append([s.data.shape for s in result.addressable_shards])
            return result

        monkeypatch.setattr(long_video, name, record)

    for name in ("encode", "decode", "remember"):
        recorded(name)
    expected = unsplit_clips()
    seen.clear()
    clips = two_clips(
        **{name: sharded(m, layouts[name], COMPONENTS[name].axes) for name, m in unsplit_models().items()}
    )
    for found, clip in zip(clips, expected, strict=True):
        print(error(found.frames, clip.frames), error(found.latents, clip.latents), np.abs(clip.frames).mean())
    print(seen)
    assert 0
