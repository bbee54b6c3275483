"""The Wan VAEs against the original programs, and their streaming against itself.

Numbers are compared at the golden's size; what holds at any size is tested on a smaller VAE, which compiles
faster.
"""

import dataclasses
import json
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from talkverse_jax.core import tree
from talkverse_jax.core.config import from_dict, to_dict
from talkverse_jax.models.vae.component import vae21, vae22, vae_origin
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.keys import RULES, WAN21_RULES
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.cases import BundleModels, vae_case, vae_config
from talkverse_jax.weights.component import Component
from talkverse_jax.weights.match import torch_shapes
from talkverse_jax.weights.published import Repository
from talkverse_jax.weights.rule import Rule
from tests.conftest import GOLDENS

SMALL = VAEConfig(
    dim=4,
    dec_dim=4,
    z_dim=3,
    dim_mult=(2, 2),
    num_res_blocks=1,
    temporal_downsample=(True,),
    latent_mean=(0.1, -0.2, 0.3),
    latent_std=(0.5, 1.0, 2.0),
)
SMALL21 = dataclasses.replace(SMALL, pixel_patch=1, shortcuts=False)


@dataclasses.dataclass(frozen=True)
class Sources:
    ckpt_dir: str | None = None


class Version(NamedTuple):
    """A published VAE: its sizes, its weight table, its golden, and how parity runs it."""

    config: VAEConfig
    rules: tuple[Rule, ...]
    golden: str
    models: BundleModels


def _version(component: Component, file: str, golden: str) -> Version:
    origin = vae_origin(Repository("ckpt_dir", "nobody/wan"), file)
    models = BundleModels({"vae": component}, {"vae": origin}, Sources)
    return Version(component.real_size(), component.rules, golden, models)


VERSIONS = {
    "2.1": _version(vae21(), "Wan2.1_VAE.pth", "multitalk/vae21"),
    "2.2": _version(vae22(), "Wan2.2_VAE.pth", "vae"),
}


only_wan22 = pytest.mark.parametrize("small", [SMALL], ids=["2.2"], indirect=True)  # nothing in it differs in 2.1

# Jitted once for all tests.
encode = jax.jit(lambda vae, video: vae.encode(video))
decode = jax.jit(lambda vae, latents, discard=0: vae.decode(latents, discard), static_argnames="discard")
encode_chunk = jax.jit(lambda vae, frames, cache=None: vae.encode_chunk(frames, cache))
decode_chunk = jax.jit(lambda vae, latents, cache=None: vae.decode_chunk(latents, cache))


def _abstract(config, dtype=jnp.float32):
    return tree.abstract(WanVAE, config, dtype=dtype)


def _small(config, dtype=jnp.float32):
    abstract, random = _abstract(config, dtype), np.random.default_rng(0)
    return tree.with_parameters(
        abstract,
        {
            path: random.normal(scale=math.prod(leaf.shape[:-1]) ** -0.5, size=leaf.shape).astype(np.float32)
            for path, leaf in tree.abstract_parameters(abstract).items()
        },
    )


@pytest.fixture(params=VERSIONS.values(), ids=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def published(golden, version):
    """The VAE of the golden, its inputs and outputs by name, channels last."""
    bundle = golden(version.golden)
    config = vae_config(version.models, bundle.config, bundle.group("taps"))
    vae = version.models.load(bundle, "vae", config, version.models.layouts(None))
    tensors = bundle.group("inputs") | bundle.group("outputs")
    return vae, {name: rearrange(tensor, "b c t h w -> b t h w c") for name, tensor in tensors.items()}


@pytest.fixture(params=[SMALL21, SMALL], ids=VERSIONS)
def small(request):
    """A small VAE, two videos of 5 frames and two of 3 latent frames."""
    random = np.random.default_rng(1)
    video = random.uniform(-1, 1, (2, 5, 8, 12, 3)).astype(np.float32)
    return _small(request.param), video, random.standard_normal((2, 3, 2, 3, SMALL.z_dim), np.float32)


def _error(ours, reference):
    assert ours.shape == reference.shape
    return np.abs(ours - reference).max() / np.abs(reference).max()


def test_agrees_with_the_original(golden, version):
    bundle = golden(version.golden)
    ours, reference = vae_case(version.models, bundle, None).outputs, bundle.group("outputs")
    assert ours.keys() == reference.keys() == {"encoded", "decoded"}
    for name, values in ours.items():
        assert _error(values, reference[name]) < 1e-5


@pytest.mark.slow
def test_streamed_it_agrees_with_the_original(published):
    """In pieces of one latent frame and of all the others, through as many levels as are published."""
    vae, case = published
    for function, whole, result in (
        (encode_chunk, case["video"], case["encoded"]),
        (decode_chunk, case["latents"], case["decoded"]),
    ):
        first, cache = function(vae, whole[:, :1])
        rest, _ = function(vae, whole[:, 1:], cache)
        assert _error(np.concatenate([first, rest], axis=1), result) < 1e-5


def test_latent_constants_are_the_published_ones(golden, version):
    taps = golden(version.golden).group("taps")
    np.testing.assert_array_equal(np.float32(version.config.latent_mean), taps["mean"])
    np.testing.assert_array_equal(np.float32(version.config.latent_std), taps["std"])


@pytest.mark.parametrize("discard, frames", [(1, 4), (2, 2)])
def test_discarded_latents_leave_the_rest_as_it_was(small, discard, frames):
    vae, _, latents = small
    np.testing.assert_array_equal(decode(vae, latents, discard), decode(vae, latents)[:, -frames:])


@only_wan22
def test_discarding_adds_nothing_to_the_program(small):
    vae, _, latents = small
    programs = [decode.lower(vae, latents, discard).as_text() for discard in (0, 2)]
    sizes = {program.count("stablehlo.convolution") for program in programs}
    assert len(sizes) == 1 and sizes.pop() > 0


@only_wan22
@pytest.mark.parametrize("discard", [-1, 3])
def test_discarding_everything_is_refused(small, discard):
    vae, _, latents = small
    with pytest.raises(ValueError, match="leaves none"):
        vae.decode(latents, discard)


def test_decoding_can_stop_and_go_on(small):
    vae, _, latents = small
    first, cache = decode_chunk(vae, latents[:, :1])
    rest, _ = decode_chunk(vae, latents[:, 1:], cache)  # two latent frames in one chunk
    assert _error(np.concatenate([first, rest], axis=1), np.asarray(decode(vae, latents))) < 1e-5


def test_encoding_can_stop_and_go_on(small):
    vae, video, _ = small
    first, cache = encode_chunk(vae, video[:, :1])
    rest, _ = encode_chunk(vae, video[:, 1:], cache)  # two groups in one chunk
    assert _error(np.concatenate([first, rest], axis=1), np.asarray(encode(vae, video))) < 1e-5


@only_wan22
def test_chunks_of_another_size_are_refused(small):
    vae, video, latents = small
    _, cache = jax.eval_shape(encode_chunk, vae, video[:, :1])
    for frames, past in ((2, None), (3, cache)):
        with pytest.raises(ValueError, match="by its first frame, then by 2s"):
            vae.encode_chunk(video[:, :frames], past)
    with pytest.raises(ValueError, match="decoded alone"):
        vae.decode_chunk(latents[:, :2])


@only_wan22
def test_frames_that_fill_no_latent_frame_are_dropped(small):
    vae, video, _ = small
    more = np.concatenate([video, np.ones_like(video[:, :1])], axis=1)
    np.testing.assert_array_equal(encode(vae, more), encode(vae, video))


def test_a_picture_is_a_video_of_one_frame(small):
    vae, video, latents = small
    assert _error(encode(vae, video[:, :1]), np.asarray(encode(vae, video)[:, :1])) < 1e-5
    assert _error(decode(vae, latents[:, :1]), np.asarray(decode(vae, latents)[:, :1])) < 1e-5


@only_wan22
def test_bfloat16(small):
    exact, video, latents = small
    vae = _small(exact.config, jnp.bfloat16)
    encoded, _ = encode_chunk(vae, video[:, :1])
    decoded = decode(vae, latents)
    _, cache = jax.eval_shape(decode_chunk, vae, latents[:, :1])
    assert encoded.dtype == decoded.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == {jnp.dtype(jnp.bfloat16)}
    assert 0 < _error(encoded, encode_chunk(exact, video[:, :1])[0]) < 0.05
    assert 0 < _error(decoded, decode(exact, latents)) < 0.05


def test_published_size(golden):
    config = VAEConfig.wan22()
    parameters = tree.abstract_parameters(_abstract(config))
    assert sum(math.prod(leaf.shape) for leaf in parameters.values()) == 704_688_668
    names = {name for name, *_ in golden("vae").meta["recipe"]["tensors"]}
    assert torch_shapes(parameters, RULES).keys() == names
    assert (config.time_stride, config.space_stride) == config.strides == (4, 16)


def test_published_size_of_wan21():
    listed = json.loads((GOLDENS / "multitalk/wan21_vae_tensors.json").read_text())
    config = VAEConfig.wan21()
    parameters = tree.abstract_parameters(_abstract(config))
    assert torch_shapes(parameters, WAN21_RULES) == {name: tuple(shape) for name, shape in listed.items()}
    assert sum(math.prod(leaf.shape) for leaf in parameters.values()) == 126_892_531
    assert (config.time_stride, config.space_stride) == config.strides == (4, 8)


def test_configs_of_before_are_of_wan22(version):
    values = to_dict(version.config)
    assert from_dict(VAEConfig, values, "vae") == version.config
    before = {name: value for name, value in values.items() if name not in ("pixel_patch", "shortcuts")}
    assert (from_dict(VAEConfig, before, "vae") == version.config) == (version is VERSIONS["2.2"])


def test_frames_and_latent_frames():
    config = VAEConfig.wan22()
    assert [config.latent_frames(n) for n in (1, 4, 5, 73, 120, 193)] == [1, 1, 2, 19, 30, 49]
    assert [config.pixel_frames(n) for n in (0, 1, 2, 19, 30, 49)] == [0, 1, 5, 73, 117, 193]
