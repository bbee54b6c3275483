import pickle
from collections import Counter

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import BatchOrder, SampleId, WindowShape

LONG, SHORT, WIDE = WindowShape(128, 128, "motion"), WindowShape(128, 128, "short"), WindowShape(128, 160, "motion")
SHAPES = [LONG, SHORT, LONG, WIDE, LONG, LONG, SHORT, LONG, WIDE, LONG, LONG]  # 7, 2, 2
SIZES = [1, 2, 3, 4, 8]


@pytest.mark.parametrize("size", SIZES)
def test_a_batch_holds_one_shape_and_is_full(size):
    plan = BatchOrder(SHAPES, size, seed=0)
    for number in range(40):
        batch = plan[number]
        assert batch.number == number
        assert len(batch.samples) == size
        assert {SHAPES[id.sample] for id in batch.samples} == {batch.shape}


@pytest.mark.parametrize("size", SIZES)
def test_every_sample_comes_once_an_epoch(size):
    plan = BatchOrder(SHAPES, size, seed=3)
    upto = plan.first(10)
    seen = Counter(id for number in range(upto) for id in plan[number].samples)
    assert set(seen.values()) == {1}
    for epoch in range(6):  # a batch of 8 may hold four epochs of a group of 2
        assert {id.sample for id in seen if id.epoch == epoch} == set(range(len(SHAPES)))
    assert upto * size > 10 * len(SHAPES) - 3 * size  # less than a batch a group is not cut yet


@pytest.mark.parametrize("size", SIZES)
def test_a_batch_is_of_the_epoch_of_its_last_sample(size):
    plan = BatchOrder(SHAPES, size, seed=3)
    for epoch in range(6):
        numbers = range(plan.first(epoch), plan.first(epoch + 1))
        assert all(plan[number].samples[-1].epoch == epoch == plan.epoch(number) for number in numbers)


def test_any_batch_can_be_asked_for_first():
    forward = BatchOrder(SHAPES, 3, seed=1)
    inorder = [forward[number] for number in range(500)]
    for number in (499, 0, 250, 7):
        assert BatchOrder(SHAPES, 3, seed=1)[number] == inorder[number]
    assert pickle.loads(pickle.dumps(forward))[123] == inorder[123]


def test_the_seed_and_the_epoch_change_the_order():
    plan, other = BatchOrder(SHAPES, 1, seed=1), BatchOrder(SHAPES, 1, seed=2)
    epochs = [[plan[number].samples[0].sample for number in range(11 * e, 11 * e + 11)] for e in (0, 1)]
    assert epochs[0] != epochs[1] != list(range(11))
    assert epochs[0] != [other[number].samples[0].sample for number in range(11)]


def test_the_shapes_are_mixed():
    plan = BatchOrder([LONG] * 50 + [SHORT] * 50, 2, seed=0)
    kinds = [plan[number].shape.kind for number in range(50)]
    changes = sum(a != b for a, b in zip(kinds, kinds[1:]))
    assert changes > 10


def test_the_first_sample_does_not_draw_what_the_order_does():
    """numpy takes [seed, epoch] for [seed, epoch, 0]."""
    draws = {SampleId(0, sample).rng(5).integers(2**60) for sample in range(100)}
    assert len(draws) == 100


def test_no_samples():
    with pytest.raises(UserError, match="no sample is left"):
        BatchOrder([], 2, seed=0)
    with pytest.raises(IndexError):
        BatchOrder(SHAPES, 2, seed=0)[-1]
