"""The published files from the Hugging Face hub, resumed where a download stopped."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of the HTTP client that the hub's library uses; HfHubHTTPError is one
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import tqdm

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import SILENT, Reporter
from talkverse_jax.pipeline.family import Family


def download(
    family: Family, folder: str | Path, components: Iterable[str], reporter: Reporter = SILENT
) -> dict[str, str]:
    """Fetch what some components are converted from; files that are there already are not fetched again.

    The hub is the one of the environment variable HF_ENDPOINT, where it is set.

    Args:
      folder: gets one folder for each repository.

    Returns:
      The flags of the family's `Sources` that name what was fetched.

    Raises:
      UserError: a repository or file is missing or closed, the hub cannot be reached, or the disk is full.
    """
    flags: dict[str, str] = {}
    for name in components:
        flags |= family.sources[name].download(Path(folder), partial(_fetch, reporter))
    return flags


def _fetch(reporter: Reporter, repository: str, file: str, folder: Path) -> Path:
    """One file of a repository into `folder`, under its own path."""
    endpoint, bars = os.environ.get("HF_ENDPOINT"), _bars(reporter, Path(file).name)
    try:
        return Path(hf_hub_download(repository, file, local_dir=folder, endpoint=endpoint, tqdm_class=bars))
    except GatedRepoError:
        reason = "the repository is gated; accept its terms on its page and run `hf auth login`"
    except RepositoryNotFoundError:
        reason = "no such repository, or it is private; run `hf auth login`, or set HF_ENDPOINT to another hub"
    except LocalEntryNotFoundError:
        reason = "the hub cannot be reached; check the network, or HF_ENDPOINT, and run this again"
    except EntryNotFoundError:
        reason = "the repository has no such file; fetch it by hand and give its folder"
    except HTTPError as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = f"{first_line}; run this again to go on from here"
    except OSError as error:
        reason = f"{error.strerror or error}; run this again to go on from here"
    raise UserError(f"{repository}/{file}: {reason}", field="download")


def _bars(reporter: Reporter, file: str) -> type[tqdm]:
    """The bar that the hub's library makes for a file: it draws nothing and tells the reporter."""

    class Forwarding(tqdm):
        def __init__(self, *_: Any, total: int | None = None, initial: int = 0, **_more: Any):
            self._shown = reporter.bar(total, file, "B", initial)
            self._bar = self._shown.__enter__()
            super().__init__(total=total, initial=initial, disable=True)

        def update(self, n: float | None = 1) -> bool | None:
            self._bar.update(n or 0)
            return super().update(n)

        def close(self) -> None:
            if self._shown:
                self._shown.__exit__(None, None, None)
                self._shown = None
            super().close()

    return Forwarding
