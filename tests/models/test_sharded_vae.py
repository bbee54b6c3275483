"""The VAE with its pictures split over eight devices: the numbers of one device, and nothing left whole."""

import dataclasses
import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from talkverse_jax.core import tree
from talkverse_jax.models.vae.axes import AXES
from talkverse_jax.models.vae.config import VAEConfig
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.cases import vae_config
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.pictures import picture_layout, split_for
from tests.models.test_vae import SMALL, SMALL21, VERSIONS
from tests.sharded import arrays, collectives, error, sharded, share_of_all, shares
from tests.tiny import random_module

Z = SMALL.z_dim
LATENT_FRAMES = 4

encode = jax.jit(lambda vae, video: vae.encode(video))
decode = jax.jit(lambda vae, latents, discard=0: vae.decode(latents, discard), static_argnames="discard")


@pytest.fixture(scope="module")
def layout():
    return picture_layout(Layout(make_mesh(MeshConfig(data=2, context=-1), jax.devices()[:8], heads=24)))


# Latent rows and columns, and the parts they are cut into.
CUTS = {
    "rows": ((8, 5), (8, 1)),
    "columns": ((7, 16), (1, 8)),
    "both": ((8, 12), (2, 4)),
    "half": ((6, 10), (2, 2)),
}


@pytest.mark.parametrize(
    "config, cut",
    [
        pytest.param(config, cut, id=f"{name}-{cut}", marks=() if name == "2.2" and cut == "both" else pytest.mark.slow)
        for name, config, cuts in (("2.2", SMALL, CUTS), ("2.1", SMALL21, ("both",)))
        for cut in cuts
    ],
)
def test_split_pictures_are_the_same(layout, config, cut):
    (h, w), parts = CUTS[cut]
    side = config.space_stride
    split = split_for(layout, 1, h, w)
    assert (split.parts("rows"), split.parts("columns")) == parts
    random = np.random.default_rng(0)
    latents = random.standard_normal((1, LATENT_FRAMES, h, w, Z), np.float32)
    video = random.uniform(-1, 1, (1, 2 * LATENT_FRAMES - 1, side * h, side * w, 3)).astype(np.float32)
    one = random_module(WanVAE, config)
    many = sharded(one, layout, AXES)
    pixels, codes = decode(many, latents, discard=1), encode(many, video)
    assert error(pixels, np.asarray(decode(one, latents, discard=1))) < 1e-5
    assert error(codes, np.asarray(encode(one, video))) < 1e-5
    local = tuple(size // part for size, part in zip((h, w), parts))
    assert {x.data.shape[2:4] for x in codes.addressable_shards} == {local}
    assert {x.data.shape[2:4] for x in pixels.addressable_shards} == {tuple(side * n for n in local)}


def test_videos_are_split_before_pictures(layout):
    one, videos = random_module(WanVAE, SMALL), np.random.default_rng(0).uniform(-1, 1, (4, 3, 24, 16, 3))
    codes = encode(sharded(one, layout, AXES), videos.astype(np.float32))
    assert {x.data.shape for x in codes.addressable_shards} == {(1, 2, 3, 4, Z)}
    assert error(codes, np.asarray(encode(one, videos.astype(np.float32)))) < 1e-5


@pytest.mark.parametrize("what", ["encode", "decode"])
def test_no_picture_is_whole_anywhere(layout, what):
    """Of a split program the largest array is a share and its borders, and only keys and values are gathered."""
    h, w = 24, 32  # pictures larger than kernels
    video = jnp.zeros((1, 2 * LATENT_FRAMES - 1, 4 * h, 4 * w, 3))
    function, x = {"encode": (encode, video), "decode": (decode, jnp.zeros((1, LATENT_FRAMES, h, w, Z)))}[what]
    one = random_module(WanVAE, SMALL)
    many = sharded(one, layout, AXES)
    split = split_for(layout, 1, h, w)
    spec = split.fitting_spec(x.shape, ("batch", None, "rows", "columns", None))
    program = lambda vae, x: function.lower(vae, x).compile().as_text()  # noqa: E731
    whole = program(one, x)
    split = program(many, jax.device_put(x, NamedSharding(layout.mesh, spec)))
    # Gathered in the loop: one frame's keys, and its values.
    kernels = {leaf.size for leaf in tree.abstract_parameters(one).values()}
    assert max(set(collectives(split, "all-gather")) - kernels) == h * w * 8
    # Largest are attention's scores and then the video, or activations with their borders.
    scores = (h * w) ** 2
    assert max(arrays(split)) == scores / 8
    others = lambda program, scores: max(size for size in arrays(program) if size < scores)  # noqa: E731
    assert others(split, scores / 8) < 1.3 / 8 * others(whole, scores)


def test_parameters_lie_in_parts(layout):
    one = random_module(WanVAE, SMALL)
    kernels = {path: share for path, share in shares(sharded(one, layout, AXES)).items() if "kernel" in path}
    # Eight devices, or as many as divide the output channels: 3 latents' mean and deviation, 12 pixels.
    assert set(kernels.values()) == {1 / 8, 1 / 4, 1 / 2, 1}
    assert [path for path, share in kernels.items() if share == 1] == ["post_quant_conv/kernel"]
    for config in (VAEConfig.wan21(), VAEConfig.wan22()):
        assert share_of_all(tree.abstract(WanVAE, config), layout, AXES) < 1.003 / 8


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_golden(layout, golden, version):
    bundle = golden(version.golden)
    config = vae_config(version.models, bundle.config, bundle.group("taps"))
    vae = version.models.load(bundle, "vae", config, {"vae": layout})
    tensors = bundle.group("inputs") | bundle.group("outputs")
    case = {name: rearrange(tensor, "b c t h w -> b t h w c") for name, tensor in tensors.items()}
    assert error(encode(vae, case["video"]), case["encoded"]) < 1e-5
    assert error(decode(vae, case["latents"]), case["decoded"]) < 1e-5


@pytest.mark.parametrize(
    "devices, rows, columns, parts",
    [
        (8, 40, 40, (4, 2)),
        (64, 40, 40, (8, 8)),
        (64, 80, 44, (16, 4)),
        (256, 80, 44, (16, 4)),
        (256, 32, 120, (32, 8)),
        (6, 40, 40, (2, 1)),
        (8, 56, 112, (2, 4)),
        (64, 56, 112, (8, 8)),
        (8, 232, 64, (4, 2)),
    ],
)
def test_parts_of_published_sizes(devices, rows, columns, parts):
    mesh = jax.sharding.Mesh(np.array([jax.devices()[0]] * devices), ("all",))
    split = split_for(picture_layout(Layout(mesh)), 1, rows, columns)
    assert (split.parts("rows"), split.parts("columns")) == parts


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize("config", [SMALL21, SMALL], ids=VERSIONS)
def test_a_tpu_exchanges_borders_only(config):
    """XLA:TPU partitions reshapes in its own way, which may gather what a CPU's program does not."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    devices = topologies.get_topology_desc("v6e:2x4", platform="tpu").devices
    layout = picture_layout(Layout(make_mesh(MeshConfig(context=-1), devices, heads=24)))
    config = dataclasses.replace(config, dec_dim=32)
    where = layout.parameter_sharding(AXES)
    vae = tree.abstract(WanVAE, config, layout=layout)
    full = tree.abstract_parameters(vae)
    parts = {path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where(path, x.shape)) for path, x in full.items()}
    latents = jax.ShapeDtypeStruct((1, 4, 40, 40, Z), jnp.float32, sharding=NamedSharding(layout.mesh, P()))
    program = decode.lower(tree.with_parameters(vae, parts), latents).compile().as_text()
    assert collectives(program, "collective-permute") and not collectives(program, "all-to-all")
    kernels = {x.size for x in full.values()}
    assert {size for size in collectives(program, "all-gather") if size not in kernels} == {40 * 40 * 64}
