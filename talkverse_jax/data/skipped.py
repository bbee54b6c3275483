"""Samples that cannot be used: counted by reason, listed in `skipped.jsonl`, and too many of them stop the run."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.data.batches import SampleId
from talkverse_jax.media.bad_sample import BadSample


@dataclass(frozen=True)
class Skip:
    """One line of `skipped.jsonl`.

    Attributes:
      name: of the video, as the metadata has it.
      epoch, sample: -1 for a row of the metadata that is left out for good.
      trace: of an error that nobody foresaw; the line has none where it is "".
    """

    name: str
    reason: str
    detail: str = ""
    epoch: int = -1
    sample: int = -1
    trace: str = ""


class Skipped:
    """What was skipped.

    Attributes:
      counts: of skipped samples, by reason.
      seen: samples that were read in this run, skipped ones included.
      rejected: rows of the metadata that are left out for good.
    """

    def __init__(self, path: str | Path | None, share: float = 0.05, at_least: int = 20):
        """Args:
        path: of the list; a list that is there is continued, and no line is written twice. None: no list.
        share: of skipped samples that stops the run when exceeded.
        at_least: so many must have been seen before that.
        """
        self.path = None if path is None else Path(path)
        self.counts: Counter[str] = Counter()
        self.seen = 0
        self._share, self._at_least = share, at_least
        self._in_run = 0
        self.rejected: tuple[Skip, ...] = ()
        self._rows = 0
        self._listed: set[str] = set()
        if self.path and self.path.exists():
            self._listed.update(self.path.read_text(encoding="utf-8").splitlines())

    def rows(self, rejected: Sequence[Skip], total: int) -> None:
        """Rows of the metadata that are left out for good, of so many.

        Raises:
          UserError: more than the share.
        """
        self.rejected, self._rows = tuple(rejected), total
        for skip in rejected:
            self._add(skip)
        self.check_rows(self._share)

    def check_rows(self, share: float) -> None:
        """Raises UserError where more than this share of the rows is left out."""
        counts = Counter(skip.reason for skip in self.rejected)
        self._check(len(self.rejected), self._rows, counts, "rows of the metadata", share)

    def used(self) -> None:
        """A sample was read."""
        self.seen += 1

    def skip(self, name: str, fault: BadSample, id: SampleId) -> None:
        """A sample could not be used.

        Raises:
          UserError: more than the share.
        """
        self.seen += 1
        self._in_run += 1
        self._add(Skip(name, fault.reason, fault.detail, id.epoch, id.sample, fault.trace))
        self._check(self._in_run, self.seen, self.counts, "samples", self._share)

    def _add(self, skip: Skip) -> None:
        self.counts[skip.reason] += 1
        line = json.dumps({name: value for name, value in vars(skip).items() if name != "trace" or value})
        if self.path and line not in self._listed:
            self._listed.add(line)
            with naming(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")

    def _check(self, bad: int, total: int, counts: Counter[str], what: str, share: float) -> None:
        if total >= self._at_least and bad > share * total:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in counts.most_common())
            raise UserError(
                f"{bad} of {total} {what} cannot be used ({reasons}), more than {share:.0%}; "
                f"see {self.path or 'the messages above'}, mend them or raise --max_skipped_share"
            )
