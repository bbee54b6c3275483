"""Checksums of kept programs."""

import pytest

from talkverse_jax.core.checked_cache import AlreadyKept, CheckedCache


class Memory(dict):
    """A store as JAX's: what is there stays as it is."""

    def put(self, key: str, value: bytes) -> None:
        self.setdefault(key, value)


@pytest.fixture
def store():
    return Memory()


@pytest.fixture
def replaced():
    return []


@pytest.fixture
def cache(store, replaced):
    made = CheckedCache(store, store.pop, replaced.append)
    made.put("jit_step-1", b"program")
    return made


def test_what_is_as_it_was_written_is_handed_out(cache, replaced):
    assert cache.get("jit_step-1") == b"program" and cache.get("jit_step-2") is None and not replaced


def test_every_flipped_bit_is_seen(cache, store, replaced):
    good = store["jit_step-1"]
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        store["jit_step-1"] = bytes(damaged)
        assert cache.get("jit_step-1") is None and not store
    assert replaced == ["jit_step"] * 8 * len(good)


@pytest.mark.parametrize("length", [0, 3, 7, 14])
def test_a_part_or_another_programs_is_not_handed_out(cache, store, replaced, length):
    store["jit_step-1"] = store["jit_step-1"][:length]
    assert cache.get("jit_step-1") is None and replaced == ["jit_step"] and not store


def test_an_entry_under_another_key_is_not_handed_out(cache, store, replaced):
    store["jit_step-2"] = store["jit_step-1"]
    assert cache.get("jit_step-2") is None and replaced == ["jit_step"] and list(store) == ["jit_step-1"]


def test_of_two_of_a_name_the_one_that_xla_refused_goes(cache, store, replaced):
    cache.put("jit_step-2", b"another")
    assert cache.get("jit_step-2") == b"another"
    cache.discard_latest("jit_step")
    cache.discard_latest("jit_step")
    assert list(store) == ["jit_step-1"] and replaced == ["jit_step"]


def test_what_need_not_be_loaded_is_only_told(cache, store):
    cache.only_ask = True
    with pytest.raises(AlreadyKept) as kept:
        cache.get("jit_step-1")
    assert kept.value.args == (len(store["jit_step-1"]),)
