"""Several folders of shards as one source."""

import pickle

import numpy as np
import pytest

from talkverse_jax.data import shards
from talkverse_jax.data.batches import SampleId
from talkverse_jax.data.ledger import Ledger
from talkverse_jax.data.mixture import Mixture, Place
from talkverse_jax.data.shards import ShardSource
from tests.data.test_shards import CELL, CONTENT, FORMAT, MOTION, SHORT, equal, prepared, write


@pytest.fixture
def mixture(tmp_path):
    """Seven samples, twice each, and two others that count half."""
    for name, content in (("a", CONTENT), ("b", [(SHORT, [(0, 8), (0, 9)])])):
        (tmp_path / name).mkdir()
        write(tmp_path / name, content)
        shards.write_index(tmp_path / name, range(len(content)))
    sources = [ShardSource(tmp_path / name, FORMAT, CELL) for name in "ab"]
    return Mixture.of(sources, [2, 1], [1.0, 0.5])


def test_each_sample_comes_as_often_as_its_folder_is_repeated(mixture):
    places = list(mixture.places.values())
    assert [places.count(Place(0, n)) for n in range(7)] == [2] * 7 and places[14:] == [Place(1, 0), Place(1, 1)]
    assert [sample.name for sample in mixture.listed[14:]] == ["clip8", "clip9"]
    assert mixture.listed[0].identity == mixture.listed[1].identity != mixture.listed[2].identity
    assert not Ledger.of(mixture.listed).changes(mixture.listed[::-1])


def test_samples_have_their_own_ids_and_their_folders_weight(mixture):
    sent = pickle.loads(pickle.dumps(mixture))
    one, two, other = (sent.load(SampleId(3, n), shape) for n, shape in ((2, MOTION), (3, MOTION), (15, SHORT)))
    equal(one, two)
    equal(other, prepared(SHORT, 0, 9))
    assert [(each.id, each.weight) for each in (one, two, other)] == [((3, 2), 1.0), ((3, 3), 1.0), ((3, 15), 0.5)]
    blank = sent.blank(SampleId(3, 15), SHORT)
    assert (blank.id, blank.weight) == ((3, 15), 0.0)
    np.testing.assert_array_equal(sent.stack([other, blank]).weights, np.float32([0.5, 0]))


def test_numbers_are_given_as_asked(mixture):
    numbered = mixture.numbered({40: 15, 41: 2})
    assert "clip9" in numbered.name(40)
    equal(numbered.load(SampleId(0, 40), SHORT), prepared(SHORT, 0, 9))
