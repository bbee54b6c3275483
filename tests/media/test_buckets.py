import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.media import buckets
from talkverse_jax.media.buckets import BUCKETS, choose


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
    assert [len(sizes) for sizes in tables] == [15, 21, 3]
    for sizes in tables:
        for key, (height, width) in sizes.items():
            assert height % 32 == width % 32 == 0
            assert abs(height / width - key) < 0.04
        assert list(sizes) == sorted(sizes)


def test_a_family_brings_its_own(monkeypatch):
    monkeypatch.setattr(buckets, "BUCKETS", dict(BUCKETS))
    monkeypatch.setattr(buckets, "_TYPICAL", dict(buckets._TYPICAL))
    buckets.register("mine", {1.0: (64, 64), 0.5: (32, 64)})
    assert choose("mine", 1, 2) == (32, 64) and buckets.sizes("mine")[0] == (64, 64)


def test_an_unknown_bucket():
    with pytest.raises(UserError, match=r"fastalk-480: no such bucket; did you mean fasttalk-480\?") as error:
        choose("fastalk-480", 1, 1)
    assert all(name in str(error.value) for name in BUCKETS)
