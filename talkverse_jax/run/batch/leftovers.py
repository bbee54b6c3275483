"""What batches leave in a folder: removed when nobody works at it."""

import json

from talkverse_jax.run.batch.owner import is_gone
from talkverse_jax.run.batch.store import Store

_LONG_AGO = 86400.0  # seconds


def clear(store: Store, folder: str, timeout: float) -> None:
    """Remove a list's folder of work, that is done, and those of other lists that no living worker uses.

    A worker that lives rewrites its leases; one whose process is gone is known by it, or is long silent. Of a folder in
    a bucket nobody can tell how old it is: there the processes decide.

    Args:
      timeout: seconds of silence after which a worker is given up.
    """
    store.remove(folder)
    for other in store.names():
        if other.startswith(".work-") and _is_left(store, other, timeout):
            store.remove(other)
    store.tidy()


def _is_left(store: Store, folder: str, timeout: float) -> bool:
    holders = [_holder(store, f"{folder}/{name}") for name in store.names(folder) if _is_lease(name)]
    gone = bool(holders) and all("ended" in holder or is_gone(holder) for holder in holders)
    age = store.age(folder)
    if age is None:
        return gone
    return age > (timeout if gone else max(_LONG_AGO, 10 * timeout))


def _is_lease(name: str) -> bool:
    before, _, attempt = name.rpartition(".")
    return bool(before) and attempt.isdecimal()


def _holder(store: Store, name: str) -> dict:
    try:
        found = json.loads(store.read(name) or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
