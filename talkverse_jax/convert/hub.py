"""The published files from the Hugging Face hub, resumed where a download stopped."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,  # of the HTTP client that the hub's library uses; HfHubHTTPError is one
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from talkverse_jax.convert import published
from talkverse_jax.core.errors import UserError

BASE_REPO = "Wan-AI/Wan2.2-TI2V-5B"
TALKVERSE_REPO = "snap-research/talkverse-s2v-5b"
AUDIO_REPO = "jonatasgrosman/wav2vec2-large-xlsr-53-english"


def download(folder: str | Path, components: Iterable[str]) -> dict[str, str]:
    """Fetch what some components are converted from; files that are there already are not fetched again.

    The hub is the one of the environment variable HF_ENDPOINT, where it is set.

    Args:
      folder: gets one folder for each repository.

    Returns:
      The flags `ckpt_dir`, `lora_ckpt` and `wav2vec_dir` of what was fetched.

    Raises:
      UserError: a repository or file is missing or closed, the hub cannot be reached, or the disk is full.
    """
    folder, flags = Path(folder), {}
    base, audio = folder / BASE_REPO.split("/")[1], folder / published.WAV2VEC_FOLDER
    for name in components:
        if name == "audio":
            for file in ("config.json", published.EXTRACTOR_FILE, f"{published.WAV2VEC_STEM}.safetensors"):
                _fetch(AUDIO_REPO, file, audio)
            flags["wav2vec_dir"] = str(audio)
            continue
        flags["ckpt_dir"] = str(base)
        if name == "dit":
            index = _fetch(BASE_REPO, f"{published.DIT_STEM}.safetensors.index.json", base)
            for file in _shards(index):
                _fetch(BASE_REPO, file, base)
            flags["lora_ckpt"] = str(_fetch(TALKVERSE_REPO, published.TALKVERSE_FILE, folder))
        elif name == "vae":
            _fetch(BASE_REPO, published.VAE_FILE, base)
        else:
            _fetch(BASE_REPO, published.TEXT_FILE, base)
            for file in published.TOKENIZER_FILES:
                _fetch(BASE_REPO, f"{published.TOKENIZER_FOLDER}/{file}", base)
    return flags


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: not an index of safetensors; delete it and run this again") from None


def _fetch(repo: str, file: str, folder: Path) -> Path:
    """One file of a repository into `folder`, under its own path."""
    what = f"--download: {repo}/{file}"
    try:
        return Path(hf_hub_download(repo, file, local_dir=folder, endpoint=os.environ.get("HF_ENDPOINT")))
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
    raise UserError(f"{what}: {reason}")
