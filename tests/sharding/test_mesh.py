import jax
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding.layout import Layout, check_divides
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig, MeshSizes
from talkverse_jax.sharding.rules import ENCODING, PREVIEW, SAMPLING, TRAINING, Rules
from tests.conftest import CONFIGS


@pytest.mark.parametrize(
    "text, devices, sizes",
    [
        ("data=2,context=-1", 8, (2, 1, 1, 4, 1)),
        ("data=2, fsdp=2, tensor=2", 8, (2, 2, 1, 1, 2)),
        ("context=16", 16, (1, 1, 2, 8, 1)),  # 16 does not divide 24 heads: a ring of two Ulysses groups
        ("context=16,ulysses=4", 16, (1, 1, 4, 4, 1)),
        ("context=8,ulysses=1", 8, (1, 1, 8, 1, 1)),
        ("tensor=8,context=-1", 64, (1, 1, 8, 1, 8)),  # three heads a device, which 8 does not divide
        ("context=8,dcn_data=2", 16, (2, 1, 1, 8, 1)),
        ("context=-1,dcn_context=2", 16, (1, 1, 2, 8, 1)),
    ],
)
def test_sizes_of_a_model_of_24_heads(text, devices, sizes):
    assert MeshConfig.parse(text).sizes(devices, 24) == MeshSizes(*sizes)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "dta=2",
            "'dta=2' is no axis=size; give such as data=2,context=-1, or a preset of",
        ),
        ("data=2,data=4", "data is given twice"),
        ("ulysses=8", "ulysses=8 is a part of context; give context too"),
        ("data=two", "'data=two' is no axis=size"),
        ("data=²", "'data=²' is no axis=size"),
        ("data=--2", "'data=--2' is no axis=size"),
        ("data=0", "data=0; give 1 or more"),
        ("data=-1,context=-1", "only one can be the rest"),
        ("data=3", "data=3 takes 3 devices, there are 8; sizes whose product is 8 do, or set one axis to -1"),
        ("data=3,context=-1", "3 does not divide 8 devices; sizes whose product is one of 1, 2, 4, 8 do"),
        ("tensor=16,context=-1", "16 does not divide 8 devices"),
        ("context=8,ulysses=3", "ulysses=3 must divide context=8 and the 24 heads of a device; 1, 2, 4, 8 do"),
    ],
)
def test_axes_that_cannot_be_say_what_could(text, message):
    with pytest.raises(UserError) as error:
        MeshConfig.parse(text).sizes(8, 24)
    assert message in str(error.value)


def test_heads_that_do_not_divide_say_what_would():
    with pytest.raises(UserError, match="tensor=16 does not divide 24 heads; 1, 2, 3, 4, 6, 8, 12, 24 do"):
        MeshConfig(tensor=16).sizes(16, 24)


def test_every_preset_is_a_mesh():
    presets = sorted((CONFIGS / "mesh").glob("*.toml"))
    assert len(presets) >= 17
    for path in presets:
        MeshConfig.read(str(path))


def test_slices_are_the_slow_part_of_an_axis():
    with pytest.raises(UserError, match="2 slices were asked for"):  # these devices are one slice
        make_mesh(MeshConfig(context=4, dcn_data=2), jax.devices()[:8], 8)


def test_two_dimensions_on_one_mesh_axis_are_refused():
    layout = Layout(make_mesh(MeshConfig(tensor=8), jax.devices()[:8], 8))
    with pytest.raises(ValueError, match="two dimensions on one mesh axis"):
        layout.spec("heads", "hidden")


@pytest.mark.parametrize("rules", [SAMPLING, TRAINING, PREVIEW, ENCODING])
def test_no_array_of_the_models_is_split_twice_over_an_axis(rules: Rules):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2), jax.devices()[:8], 8)
    for names in (
        ("batch", "tokens", "heads", None),
        ("batch", "stream", None),
        ("batch", "tokens", "hidden"),
        ("batch", None, "heads", None),
        ("tokens", None),
    ):
        Layout(mesh, rules).spec(*names)
    if rules is not ENCODING:  # whose parameters have tables of their own
        for names in (("width", "heads"), ("hidden", "width")):
            Layout(mesh, rules).spec(*names)


def test_what_does_not_divide_stays_whole_or_is_refused():
    layout = Layout(make_mesh(MeshConfig(data=2, tensor=4), jax.devices()[:8], 8))
    assert layout.fitting_spec((3, 6, 8), ("batch", None, "heads"))[:2] == (None, None)
    with pytest.raises(UserError, match="branches 3 cannot be split into 2"):
        check_divides("branches", 3, layout, "batch")
