"""Several folders of shards as one source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from talkverse_jax.data.batches import SampleId, WindowShape
from talkverse_jax.data.ledger import Listed
from talkverse_jax.data.prepared import PreparedBatch, PreparedSample
from talkverse_jax.data.shards import ShardSource


class Place(NamedTuple):
    """Where a sample lies: which source, and its number there."""

    source: int
    sample: int


@dataclass(frozen=True)
class Mixture:
    """Random access to the samples of several folders, as often as each is repeated. It can be sent to another process.

    Attributes:
      weights: of the samples of each source, in the loss.
      places: by sample number.
    """

    sources: Sequence[ShardSource]
    weights: Sequence[float]
    places: Mapping[int, Place]

    @classmethod
    def of(cls, sources: Sequence[ShardSource], repeats: Sequence[int], weights: Sequence[float]) -> "Mixture":
        """All samples, one source after the other, each as often as its source is repeated."""
        places = [
            Place(number, sample)
            for number, (source, count) in enumerate(zip(sources, repeats))
            for sample in range(len(source.records))
            for _ in range(count)
        ]
        return cls(sources, weights, dict(enumerate(places)))

    @property
    def listed(self) -> list[Listed]:
        """The samples, by number."""
        listed = [source.listed for source in self.sources]
        return [listed[place.source][place.sample] for place in self.places.values()]

    def numbered(self, places: Mapping[int, int]) -> "Mixture":
        """The same samples under other numbers; see `RawSource.numbered`."""
        return replace(self, places={number: self.places[place] for number, place in places.items()})

    def name(self, sample: int) -> str:
        """Of a sample, for messages."""
        source, place = self.places[sample]
        return self.sources[source].name(place)

    def load(self, id: SampleId, shape: WindowShape) -> PreparedSample:
        """The sample.

        Raises:
          BadSample: its record is damaged.
        """
        source, place = self.places[id.sample]
        sample = self.sources[source].load(SampleId(id.epoch, place), shape)
        return sample._replace(id=id, weight=self.weights[source])

    def blank(self, id: SampleId, shape: WindowShape) -> PreparedSample:
        """What stands for a sample that cannot be read: zeros, of weight 0."""
        source, place = self.places[id.sample]
        return self.sources[source].blank(SampleId(id.epoch, place), shape)._replace(id=id)

    @staticmethod
    def stack(samples: Sequence[PreparedSample]) -> PreparedBatch:
        """A batch."""
        return ShardSource.stack(samples)
