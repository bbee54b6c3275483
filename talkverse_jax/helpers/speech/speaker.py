"""The process of an engine: it reads a text a line, and says samples, piece by piece.

Each answer is a length in four bytes, so much JSON, and behind `{"rate", "count"}` so many float32 samples; `{}` ends a
text. The process ends with its input.
"""

import json
from typing import Any, BinaryIO

import numpy as np

from talkverse_jax.core.own_process import pipes
from talkverse_jax.helpers.speech.kokoro_voices import Kokoro
from talkverse_jax.helpers.speech.piper_voices import Piper

_ENGINES = {"piper": Piper, "kokoro": Kokoro}


def main() -> None:
    """Be such a process."""
    asked, said = pipes()
    begin = json.loads(asked.readline())
    engine = _ENGINES[begin["engine"]](begin["voices"])
    _send(said, {})
    for line in asked:
        question = json.loads(line)
        try:
            for rate, samples in engine.say(question["text"], question["voice"], question["speed"]):
                samples = np.ascontiguousarray(samples, np.float32)
                _send(said, {"rate": rate, "count": len(samples)}, samples.tobytes())
            _send(said, {})
        except BrokenPipeError:  # nobody listens any more
            return
        except Exception as error:  # of many kinds, in packages of others
            _send(said, {"error": type(error).__name__})


def _send(said: BinaryIO, value: dict[str, Any], data: bytes = b"") -> None:
    text = json.dumps(value).encode()
    said.write(len(text).to_bytes(4, "little") + text + data)
    said.flush()
