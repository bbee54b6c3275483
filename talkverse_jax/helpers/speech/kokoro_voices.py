"""The voices of Kokoro, whose weights the user has. `Kokoro` itself lives in a process of its own."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import expanded, on_disk
from talkverse_jax.helpers.speech.options import SpeechOptions

RATE = 24_000  # Hz

_REPO = "hexgrad/Kokoro-82M"
_DEFAULT = "af_heart"


def voices(options: SpeechOptions) -> dict[str, str]:
    """The files of the voices by name, the default one first.

    Raises:
      UserError: Kokoro is not installed, or its weights are not there.
    """
    if importlib.util.find_spec("kokoro") is None:
        raise UserError("kokoro: is not installed; pip install kokoro", field="tts_engine")
    folder = on_disk(expanded(options.tts_model)) if options.tts_model else _cached()
    found = _found(folder) if folder else {}
    if not found:
        raise UserError(
            f"kokoro: needs its weights; hf download {_REPO}, or give their folder as --tts_model", field="tts_engine"
        )
    default = options.tts_voice if options.tts_voice in found else _DEFAULT
    return {default: found[default]} | found if default in found else found


def _found(folder: Path) -> dict[str, str]:
    """The voices of a folder, where the model is there too."""
    if not (folder / "config.json").is_file() or not any(folder.glob("*.pth")):
        return {}
    return {file.stem: str(file.absolute()) for file in sorted((folder / "voices").glob("*.pt"))}


def _cached() -> Path | None:
    """The weights, where the hub's client has fetched them before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(_REPO, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


class Kokoro:
    """The model, which is loaded with the first text, and a reader of texts for each language."""

    def __init__(self, files: dict[str, str]):
        self._files, self._model, self._readers = files, None, {}

    def say(self, text: str, voice: str, speed: float) -> Iterator[tuple[int, Float32[np.ndarray, " n"]]]:
        """Rate and samples, piece by piece."""
        import torch  # pyright: ignore[reportMissingImports]  # Kokoro brings it

        file = self._files[voice]
        reader = self._reader(voice[0], Path(file).parent.parent)
        torch.manual_seed(0)  # the vocoder's noise: the same text has the same sound
        for piece in reader(text, voice=file, speed=speed):
            if piece.audio is not None:
                yield RATE, piece.audio.detach().cpu().numpy().astype(np.float32)

    def _reader(self, language: str, folder: Path) -> Any:
        from kokoro import KModel, KPipeline  # pyright: ignore[reportMissingImports]  # a package of the user's

        if self._model is None:
            weights = str(min(folder.glob("*.pth")))
            self._model = KModel(repo_id=_REPO, config=str(folder / "config.json"), model=weights).eval()
        if language not in self._readers:
            self._readers[language] = KPipeline(lang_code=language, repo_id=_REPO, model=self._model)
        return self._readers[language]
