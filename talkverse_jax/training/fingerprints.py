"""By what weights are known again."""

import hashlib
import json
from collections.abc import Iterable

from talkverse_jax.weights import manifest, store


def fingerprints(weights_dir: str, encoders: Iterable[str]) -> dict[str, str]:
    """A hash of each encoder's weights: of the files they were converted from and the dtype they are kept in.

    Raises:
      UserError: an encoder is not converted.
    """
    complete, found = manifest.read(weights_dir), {}
    for name in encoders:
        store.folder_of(weights_dir, name)
        entry = complete[name]
        files = [entry.dtype, *sorted(source.sha256 for source in entry.sources)]
        found[name] = hashlib.sha256(" ".join(files).encode()).hexdigest()
    return found


def fingerprint(weights_dir: str, component: str) -> str:
    """The same for weights of the trained network converted from the same files with the same settings."""
    entry = store.read_manifest(weights_dir)[component] | {"version": None}
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()[:12]
