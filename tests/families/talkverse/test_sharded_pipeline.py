"""Two clips on eight devices, of one process or of two, against the same on one device."""

import dataclasses
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from talkverse_jax.core import tree
from talkverse_jax.families.talkverse import clips as clip_maker
from talkverse_jax.families.talkverse.alignment import clip_audio
from talkverse_jax.families.talkverse.clips import ClipMaker, Dubbing, Subject
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.families.talkverse.settings import Settings
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.clip import Clip
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.placement import Layouts, component_layouts
from talkverse_jax.run import resume
from talkverse_jax.run.resume import Unfinished
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.weights import blocks, orbax_io
from tests.processes import free_address, run_together
from tests.sharded import error, sharded
from tests.tiny import TINY, random_module

HEADS = 8
DIT = dataclasses.replace(
    TINY,
    trunk=dataclasses.replace(
        TINY.trunk, dim=96, ffn_dim=192, num_heads=HEADS, num_layers=2, in_channels=4, out_channels=4
    ),
    audio_layers=3,
    audio_inject_layers=(0, 1),
)
VAE = VAEConfig(
    dim=8,
    dec_dim=8,
    z_dim=4,
    dim_mult=(1, 1, 1),
    num_res_blocks=0,
    temporal_downsample=(True, True),
    latent_mean=(0.0,) * 4,
    latent_std=(1.0,) * 4,
)
LATENTS = (12, 8)  # rows, columns: eight devices take them as 4 x 2
EXACT = (18, 26)  # as exact sizes have them: an odd number of tokens a side, and no more than 2 x 2 devices divide them
SETTINGS = dict(
    prompt="",
    infer_frames=8,
    sample_steps=2,
    sample_shift=5.0,
    sample_guide_scale=4.5,
    sample_solver="unipc",
    audio_alignment="exact",
)


@cache
def unsplit_models() -> dict[str, nnx.Module]:
    models = {"dit": random_module(TalkVerse, DIT), "vae": random_module(WanVAE, VAE)}
    # Where loading puts them: what the first clip was compiled for then serves the second.
    return jax.device_put(models, jax.devices()[0])


def two_clips(
    models: dict[str, nnx.Module],
    init_first_frame: bool,
    dubbed: bool = False,
    past: Unfinished | None = None,
    latents: tuple[int, int] = LATENTS,
    **changes: Any,
) -> list[tuple[Clip, dict | None]]:
    """Each clip, and what is saved after it."""
    rng, trunk = np.random.default_rng(0), DIT.trunk
    text = rng.standard_normal((1, trunk.text_len, trunk.text_dim), np.float32)
    size = [VAE.space_stride * n for n in latents]
    image = rng.uniform(-1, 1, (*size, 3)).astype(np.float32)
    audio = partial(clip_audio, rng.standard_normal((16, DIT.audio_layers, DIT.audio_dim), np.float32))
    source = rng.uniform(-1, 1, (19, *size, 3)).astype(np.float32)
    dubbing = Dubbing(lambda first, count: source[first + 3 :][:count], lambda clip, count: 3) if dubbed else None
    subject = Subject(image, text, np.zeros_like(text), audio, 2, clip_maker.seeded_noise(5), dubbing)
    maker, settings, made = (
        ClipMaker(models["dit"], models["vae"]),
        Settings(**SETTINGS | changes, init_first_frame=init_first_frame),
        [],
    )
    if past:
        state = maker.restore(subject, settings, past.clip, past.saved, Events())
    else:
        state = maker.start(subject, settings, Events())
    while not state.is_done:
        [(_, clip, state)] = maker.advance([state], [Events()])
        made.append((clip, None if state.is_done else maker.save(state)))
    return made


def layouts_of(mesh: str) -> Layouts:
    return component_layouts(make_mesh(MeshConfig.parse(mesh), jax.devices()[:8], HEADS), COMPONENTS.values())


@cache
def unsplit_clips(init_first_frame: bool, dubbed: bool = False) -> list[Clip]:
    return [clip for clip, _ in two_clips(unsplit_models(), init_first_frame, dubbed)]


@pytest.mark.parametrize(
    "mesh, init_first_frame",
    [
        pytest.param("data=2,context=4", True, marks=pytest.mark.slow),
        *(
            pytest.param(mesh, False, marks=pytest.mark.slow)
            for mesh in (
                "data=2,context=4",
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
def test_eight_devices_make_what_one_does(mesh, init_first_frame, monkeypatch):
    expected = unsplit_clips(init_first_frame)
    shards = {name: set() for name in ("encode", "decode", "remember")}

    def record(name, function, *args, **settings):
        result = function(*args, **settings)
        shards[name] |= {shard.data.shape for shard in result.addressable_shards}
        return result

    for name in shards:
        monkeypatch.setattr(clip_maker, name, partial(record, name, getattr(clip_maker, name)))
    layouts = layouts_of(mesh)
    models = {name: sharded(model, layouts[name], COMPONENTS[name].axes) for name, model in unsplit_models().items()}
    for (found, _), clip in zip(two_clips(models, init_first_frame), expected, strict=True):
        assert error(found.latents, clip.latents) < 1e-4
        assert error(found.frames, clip.frames) < 1e-4

    h, w = LATENTS[0] // 4, LATENTS[1] // 2
    pixels = (h * VAE.space_stride, w * VAE.space_stride, 3)
    assert shards["encode"] == {(1, frames, h, w, VAE.z_dim) for frames in (1, 19)}
    assert shards["decode"] == {(1, frames, *pixels) for frames in (8 if init_first_frame else 5, 8)}
    assert shards["remember"] == {(1, DIT.motion_frames, *pixels)}


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data=2,context=4", "context=8,ulysses=1", "data=2,fsdp=2,tensor=2"])
@pytest.mark.parametrize("dubbed", [False, True])
def test_eight_devices_make_an_exact_size_as_one_does(mesh, dubbed):
    """13 x 9 tokens a frame: the sequence is cut anywhere, and half of the VAE's devices hold copies."""
    expected = two_clips(unsplit_models(), False, dubbed, latents=EXACT)
    layouts = layouts_of(mesh)
    models = {name: sharded(model, layouts[name], COMPONENTS[name].axes) for name, model in unsplit_models().items()}
    for (found, _), (clip, _) in zip(two_clips(models, False, dubbed, latents=EXACT), expected, strict=True):
        assert error(found.latents, clip.latents) < 1e-4
        assert error(found.frames, clip.frames) < 1e-4


PROGRAM = """
import sys
from talkverse_jax.sharding import distributed
from tests.families.talkverse.test_sharded_pipeline import keep_clips_of_part

address, folder, dubbed, me = sys.argv[1:]
with distributed.session(address, 2, int(me), heartbeat_timeout=60):
    keep_clips_of_part(folder, dubbed == "True")
"""


def keep_clips_of_part(folder: str, dubbed: bool) -> None:
    """What each of two processes does: load its part of both models, make the clips, save what it has of them."""
    layouts, models = layouts_of("data=2,context=4"), {}
    for name, config in {"dit": DIT, "vae": VAE}.items():
        module = COMPONENTS[name].abstract(config, layout=layouts[name])
        place = layouts[name].parameter_sharding(COMPONENTS[name].axes)
        leaves = {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place(path, leaf.shape))
            for path, leaf in tree.abstract_parameters(module).items()
        }
        models[name] = tree.with_parameters(module, orbax_io.read(Path(folder) / name, leaves))
    clips = two_clips(models, True, dubbed)
    # The second clip once more, by a run that goes on from what process 0 has kept of the first.
    saved = clips[0][1]
    again = resume.everywhere(saved and Unfinished(1, saved, (8,), (3,), {"base_seed": 5}))
    assert (again.clip, again.written, again.checksums) == (1, (8,), (3,)) and again.made_from == {"base_seed": 5}
    assert resume.everywhere(None) is None
    clips += two_clips(models, True, dubbed, again)
    frames, latents = zip(*[(clip.frames, clip.latents) for clip, _ in clips])
    arrays = {"latents": latents} | ({"frames": frames} if frames[0] is not None else {})
    np.savez(Path(folder) / f"clips_{jax.process_index()}.npz", **arrays)


@pytest.mark.slow
@pytest.mark.parametrize("dubbed", [False, True])
def test_two_processes_make_what_one_does(tmp_path, dubbed):
    for name, model in unsplit_models().items():
        parameters = {path: blocks.cast(np.asarray(x)) for path, x in tree.parameters(model).items()}
        orbax_io.write(tmp_path / name, parameters)
    address = free_address()
    run_together(PROGRAM, *([address, tmp_path, dubbed, me] for me in (0, 1)), within=300)
    first, second = unsplit_clips(init_first_frame=True, dubbed=dubbed)
    expected = [first, second, second]
    main, other = (np.load(tmp_path / f"clips_{me}.npz") for me in (0, 1))
    assert other.files == ["latents"]  # frames are process 0's alone
    for arrays in (main, other):
        assert error(arrays["latents"], np.stack([clip.latents for clip in expected])) < 1e-5
    assert error(main["frames"], np.stack([clip.frames for clip in expected])) < 1e-5
