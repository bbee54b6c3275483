"""Which samples a run, or a folder of shards, has met, under numbers that stay theirs when the data change.

Everything random about a sample is a function of its number. So a sample that is there before and after a change keeps
it, wherever its row and its files are now, and one that is new, or was mended, gets a number that none has had.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.batches import BatchOrder, Rest, SampleId, WindowShape
from talkverse_jax.data.identity import Identity

_FORMAT = 1


class Listed(NamedTuple):
    """A sample as the data have it now.

    Attributes:
      name: the video's.
      before: what an older program knew it by.
    """

    identity: Identity
    name: str
    shape: WindowShape
    before: Identity | None = None


@dataclass(frozen=True)
class Member:
    """A sample that was met.

    Attributes:
      number: its own for good.
      since: the generation of the data in which it came.
      owed: epochs in which it was still to be seen when that of the ledger began.
      gone: it is among the data no more.
    """

    number: int
    identity: Identity
    name: str
    shape: WindowShape
    since: int = 0
    owed: tuple[int, ...] = (0,)
    gone: bool = False


@dataclass(frozen=True)
class Changes:
    """What has become of the samples of a ledger.

    Attributes:
      total: how many there were.
      mended: whose video holds something else.
      captions: with another caption.
      others: with other scenes, keypoints or sizes.
    """

    total: int
    mended: int
    captions: int
    others: int
    added: int
    gone: int

    def __bool__(self) -> bool:
        return any((self.mended, self.captions, self.others, self.added, self.gone))

    def __str__(self) -> str:
        """Such as `of 30 samples 3 have a mended video, 1 has another caption; 2 are new`."""
        kept = [
            (self.mended, "a mended video"),
            (self.captions, "another caption"),
            (self.others, "other scenes, keypoints or sizes"),
        ]
        parts = [f"{count} {'has' if count == 1 else 'have'} {what}" for count, what in kept if count]
        parts += [f"{count} {'is' if count == 1 else 'are'} gone" for count in [self.gone] if count]
        told = [f"of {self.total} samples {', '.join(parts)}"] if parts else []
        told += [f"{count} {'is' if count == 1 else 'are'} new" for count in [self.added] if count]
        return "; ".join(told)


@dataclass(frozen=True)
class Ledger:
    """The samples that were met, by rising number.

    Attributes:
      generation: how often the data have changed.
      batch, epoch: of a run, where it went on with these data; see `batches.Rest`.
    """

    members: tuple[Member, ...]
    generation: int = 0
    batch: int = 0
    epoch: int = 0

    @classmethod
    def of(cls, listed: Sequence[Listed]) -> "Ledger":
        """That of a beginning: numbers are places."""
        return cls(tuple(Member(number, *sample[:3]) for number, sample in enumerate(listed)))

    @property
    def present(self) -> list[Member]:
        """Those that are among the data."""
        return [member for member in self.members if not member.gone]

    def places(self, listed: Sequence[Listed]) -> dict[int, int]:
        """Where in the data each sample is that is there now, by its number."""
        take = _taker(self.present)
        found = ((take(sample), place) for place, sample in enumerate(listed))
        return {member.number: place for member, place in found if member}

    def changes(self, listed: Sequence[Listed]) -> Changes:
        """What is different in the data as they are now."""
        places, present = self.places(listed), self.present
        taken = {*places.values()}
        new = [sample for place, sample in enumerate(listed) if place not in taken]
        kinds: Counter[str] = Counter()
        lost = [member for member in present if member.number not in places]
        for same in (
            lambda each: (each.identity.video, each.name),
            lambda each: each.name,
            lambda each: each.identity.video,
        ):
            lost, new = _paired(lost, new, same, kinds)
        return Changes(
            len(present), kinds["mended"], kinds["captions"], kinds["others"], added=len(new), gone=len(lost)
        )

    def after(
        self,
        listed: Sequence[Listed],
        batch: int = 0,
        epoch: int = 0,
        unseen: Iterable[SampleId] = (),
        returning: bool = True,
    ) -> "Ledger":
        """That of data which have changed.

        Args:
          batch, epoch: where a run goes on.
          unseen: what it still had to see then, by number, of that epoch and those before it.
          returning: a sample that was gone and is there again gets its number back.
        """
        turns: dict[int, tuple[int, ...]] = defaultdict(tuple)
        for id in sorted(unseen):
            turns[id.sample] += (id.epoch,)
        take, missing = _taker(self.present), _taker([each for each in self.members if each.gone and returning])
        free, generation = self.members[-1].number + 1 if self.members else 0, self.generation + 1
        members: dict[int, Member] = {}
        for sample in listed:
            if known := take(sample):
                since, owed = known.since, turns[known.number]
            elif known := missing(sample):
                since, owed = known.since, self._owed_of_gone(known, epoch)
            else:
                since, owed = generation, (epoch,)
            number, free = (known.number, free) if known else (free, free + 1)
            members[number] = Member(number, *sample[:3], since=since, owed=owed)
        for known in self.members:
            if known.number not in members:
                still = turns[known.number] if not known.gone else self._owed_of_gone(known, epoch)
                owed = tuple(turn for turn in still if turn == epoch)
                members[known.number] = replace(known, gone=True, owed=owed)
        return Ledger(tuple(members[number] for number in sorted(members)), generation, batch, epoch)

    def _owed_of_gone(self, member: Member, epoch: int) -> tuple[int, ...]:
        return member.owed if epoch == self.epoch else (epoch,)

    def order(self, batch_size: int, seed: int) -> BatchOrder:
        """The batches of a run from here on."""
        present = self.present
        shapes = {member.number: member.shape for member in present}
        if not self.generation:
            return BatchOrder(shapes, batch_size, seed)
        owed = [(turn, member.number) for member in present for turn in member.owed]
        return BatchOrder(shapes, batch_size, seed, Rest(self.batch, self.epoch, np.array(owed, int).reshape(-1, 2)))

    def text(self) -> str:
        """As a file has it: JSON, a line a sample."""
        header = {"format": _FORMAT, "generation": self.generation, "batch": self.batch, "epoch": self.epoch}
        lines = (
            [each.number, *each.identity, each.name, *each.shape, each.since, each.owed, each.gone]
            for each in self.members
        )
        return "".join(json.dumps(line) + "\n" for line in (header, *lines))

    @classmethod
    def read(cls, text: str, where: str) -> "Ledger":
        """From the text of a file.

        Raises:
          UserError: it is damaged, or of another version of this program.
        """
        try:
            header, *lines = map(json.loads, text.splitlines())
            if header.pop("format") == _FORMAT:
                return cls(tuple(map(_member, lines)), **header)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{where}: damaged; put it back, or begin anew in another folder") from None
        raise UserError(f"{where}: of another version of this program; use that one")


def digest(listed: Iterable[Listed]) -> str:
    """The same for the same samples in the same order, wherever their files are."""
    total = hashlib.sha256()
    for sample in listed:
        total.update(json.dumps([*sample.identity, *sample.shape]).encode())
    return total.hexdigest()


def _member(line: Sequence[Any]) -> Member:
    number, video, caption, rest, name, height, width, kind, since, owed, gone = line
    shape = WindowShape(height, width, kind)
    return Member(number, Identity(video, caption, rest), name, shape, since, tuple(owed), gone)


def _taker(members: Iterable[Member]) -> Callable[[Listed], Member | None]:
    """Gives the member that a sample is, each once, those of lower numbers first."""
    waiting: dict[Identity, list[Member]] = defaultdict(list)
    for member in reversed([*members]):
        waiting[member.identity].append(member)

    def take(sample: Listed) -> Member | None:
        for identity in (sample.identity, sample.before):
            if identity is not None and waiting.get(identity):
                return waiting[identity].pop()
        return None

    return take


def _paired(
    lost: Sequence[Member], new: Sequence[Listed], by: Callable[[Any], Hashable], kinds: Counter[str]
) -> tuple[list[Member], list[Listed]]:
    """What is left when those with the same key are taken for one sample before and after; counts how they differ."""
    waiting: Mapping[Hashable, list[Listed]] = defaultdict(list)
    for sample in reversed(new):
        waiting[by(sample)].append(sample)
    left = []
    for member in lost:
        if not (found := waiting[by(member)]):
            left.append(member)
            continue
        other = found.pop().identity
        same_video, same_caption = other.video == member.identity.video, other.caption == member.identity.caption
        kinds["mended" if not same_video else "others" if same_caption else "captions"] += 1
    return left, [sample for samples in waiting.values() for sample in samples]
