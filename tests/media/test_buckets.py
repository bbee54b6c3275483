import math

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.media import buckets
from talkverse_jax.media.buckets import BUCKETS, OPENAI_SIZES, choose, choose_exact, frame_sizes, size_asked, sizes


def test_the_closest_key_is_chosen():
    assert choose("fasttalk-480", 500, 500) == (640, 640)
    assert choose("fasttalk-480", 1920, 1080) == (832, 448)  # 1.78 is nearer to 1.86 than to 1.50
    assert choose("fasttalk-480", 100, 2000) == (320, 1216)
    assert choose("fasttalk-720", 720, 1280) == (704, 1280)
    assert choose("fasttalk-720", 100, 459) == (448, 2048)
    assert choose("fasttalk-720", 9000, 100) == (1920, 512)
    assert choose("tiny-128", 512, 512) == (128, 128)


def test_sizes_suit_the_model():
    """16 pixels a latent cell, 2x2 cells a token; the published tables have 15 and 21 sizes."""
    tables = [BUCKETS[name] for name in ("fasttalk-480", "fasttalk-720", "tiny-128")]
    assert [len(table) for table in tables] == [15, 21, 3]
    for table in tables:
        for key, (height, width) in table.items():
            assert height % 32 == width % 32 == 0
            assert abs(height / width - key) < 0.04
        assert list(table) == sorted(table)


# Of a picture's shape (width, height): what it is made at fasttalk-480 and at fasttalk-720.
SHAPES = {
    "16:9": ((1920, 1080), (832, 480), (1248, 704)),
    "9:16": ((1080, 1920), (480, 832), (704, 1248)),
    "4:3": ((1600, 1200), (736, 544), (1056, 800)),
    "3:4": ((1200, 1600), (544, 736), (800, 1056)),
    "1:1": ((1000, 1000), (640, 640), (960, 960)),
    "21:9": ((2560, 1080), (960, 416), (1440, 608)),
    "3:2": ((1500, 1000), (768, 512), (1152, 768)),
    "2:3": ((1000, 1500), (512, 768), (768, 1152)),
    "panorama": ((8000, 1000), (1280, 320), (2048, 448)),
}


@pytest.mark.parametrize("bucket", ["fasttalk-480", "fasttalk-720"])
@pytest.mark.parametrize("shape", SHAPES)
def test_exact_sizes_of_common_shapes(shape, bucket):
    (width, height), *expected = SHAPES[shape]
    assert choose_exact(bucket, height, width) == expected[bucket == "fasttalk-720"][::-1]


@pytest.mark.parametrize("bucket, area, most", [("fasttalk-480", 640 * 640, 0.05), ("fasttalk-720", 704 * 1280, 0.04)])
def test_exact_sizes_lose_little_of_any_shape_and_take_no_more_pixels(bucket, area, most):
    """Of shapes up to 1:3.75; sizes beyond the area are the bucket's own."""
    allowed, own = sizes(bucket, exact=True), set(sizes(bucket))
    assert allowed[0] == sizes(bucket)[0] and own <= set(allowed) and len(set(allowed)) == len(allowed)
    for height, width in allowed:
        assert height % 32 == width % 32 == 0
        assert 0.9 * area <= height * width <= area or (height, width) in own
    for step in range(-500, 501):
        shape = 3.75 ** (step / 500)
        height, width = choose_exact(bucket, round(3000 * shape), 3000)
        assert 1 - math.exp(-abs(math.log(height / width / shape))) < most


def test_exact_sizes_of_the_small_bucket_are_its_own():
    """Less than 128 pixels would leave no group of the coarsest motion tokens."""
    assert set(sizes("tiny-128", exact=True)) == set(sizes("tiny-128"))
    assert choose_exact("tiny-128", 1080, 1920) == (128, 160)


def test_a_family_brings_its_own(monkeypatch):
    monkeypatch.setattr(buckets, "BUCKETS", dict(BUCKETS))
    monkeypatch.setattr(buckets, "_TYPICAL", dict(buckets._TYPICAL))
    buckets.register("mine", {1.0: (64, 64), 0.5: (32, 64)})
    assert choose("mine", 1, 2) == (32, 64) and buckets.sizes("mine")[0] == (64, 64)


def test_an_unknown_bucket():
    with pytest.raises(UserError, match=r"fastalk-480: no such bucket; did you mean fasttalk-480\?") as error:
        choose("fastalk-480", 1, 1)
    assert all(name in str(error.value) for name in BUCKETS)


def test_a_size_that_is_asked_for():
    assert size_asked("fasttalk-480", "auto") is None
    assert size_asked("fasttalk-480", "832x448") == (448, 832) if (448, 832) in sizes("fasttalk-480") else True
    assert size_asked("fasttalk-720", "1280x704") == (704, 1280)
    assert size_asked("fasttalk-480", "832x480", exact=True) == (480, 832)
    wanted = {"1280x720": (704, 1280), "720x1280": (1280, 704), "1792x1024": (704, 1280), "1024x1792": (1280, 704)}
    assert {size: size_asked("fasttalk-720", size) for size in OPENAI_SIZES} == wanted
    for size in OPENAI_SIZES:  # one that is close in shape, whatever the bucket
        height, width = size_asked("tiny-128", size)
        assert (height > width) == (size[:3] in ("720", "102"))


@pytest.mark.parametrize("size", ["640x480", "x", "AUTO", "704x1280x3", "0x0", "", "1280X704"])
def test_other_sizes_name_those_that_there_are(size):
    with pytest.raises(UserError, match="--size .*there are 128x128, 160x128, 128x160") as error:
        size_asked("tiny-128", size)
    assert error.value.field == "size"


def test_a_size_that_is_asked_for_is_the_only_one():
    class Asked:
        size_bucket, size = "tiny-128", "160x128"

    assert frame_sizes(Asked) == ((128, 160),)
