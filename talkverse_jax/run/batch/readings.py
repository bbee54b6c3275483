"""Whose files are being read while a batch is planned, for those who come after a reader that died of them.

The one worker that plans (it has a lease for that) notes the items before it reads them. Where a note is found, its
writer has died, or was too long silent: each item in it may be the cause, and is read alone from then on. What has
been in three such notes is not read again.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from talkverse_jax.run.batch.faults import Failure
from talkverse_jax.run.batch.store import Store

MOST_DEATHS = 3


def died_reading(deaths: int) -> Failure:
    """The failure of an item over whose files so many workers died."""
    return Failure(f"{deaths} workers died while its files were read; mend or replace them, or leave the item out")


class Readings:
    """The note; nothing is noted without a store. Leaving the block, by an error too, ends it."""

    def __init__(self, store: Store | None = None, name: str = ""):
        self._store, self._name = store, name
        self._deaths: Counter[str] = Counter()
        if store is not None and (data := store.read(name)):
            noted = json.loads(data)
            self._deaths = Counter(noted["deaths"])
            self._deaths.update(noted["reading"])

    def __enter__(self) -> "Readings":
        return self

    def __exit__(self, *_: Any) -> None:
        self.begin(())

    def begin(self, names: Iterable[str]) -> None:
        """The files of these items are read from now on, and of no others."""
        if self._store is not None:
            noted = {"reading": list(names), "deaths": self._deaths}
            self._store.write(self._name, json.dumps(noted).encode())

    def deaths(self, name: str) -> int:
        """Readers that may have died over an item."""
        return self._deaths[name]

    def is_killer(self, name: str) -> bool:
        """Whether an item is not to be read again."""
        return self._deaths[name] >= MOST_DEATHS

    def killer(self, name: str) -> Failure:
        """Why not."""
        return died_reading(self._deaths[name])


NOTHING_NOTED = Readings()
