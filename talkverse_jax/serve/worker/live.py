"""A live video of the server in the process with the models: sound comes in messages, and so does the video go out."""

import base64
import io
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build, describe
from talkverse_jax.media.live_writer import Mp4Writer
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.encoders import SAMPLE_RATE
from talkverse_jax.pipeline.events import Cancelled, Events
from talkverse_jax.pipeline.pipeline import Pipeline
from talkverse_jax.run.live.options import Keeping
from talkverse_jax.run.live.stream import stream
from talkverse_jax.serve.jobs.walls import within

LOG = logging.getLogger("talkverse_jax.serve")

Say = Callable[[dict[str, Any]], None]
Sound = queue.Queue  # of bytes, 16-bit samples; None at the end


def make_live(
    pipeline: Pipeline, message: dict[str, Any], sound: Sound, stopping: Callable[[], bool], say: Say
) -> None:
    """Make a live video until its sound ends; everything that is said names its session.

    Args:
      message: `{"session", "folder", "files", "settings", "keeping"}`; the files lie in the folder.
      stopping: whether to leave it; asked at every step.
    """
    session, saying = message["session"], threading.Lock()

    def tell(**what: Any) -> None:
        with saying:  # the thread that fetches the sound speaks too
            say({"say": "live", "session": session, **what})

    try:
        module, folder = registry.settings_of(pipeline.family), Path(message["folder"])
        files = {name: str(folder / value) for name, value in message["files"].items()}
        known = {each.name for each in describe({"settings": module.Settings})}
        values = {name: value for name, value in message["settings"].items() if name in known}
        job = pipeline.job(output="live.mp4", **files, **values)
        job = replace(job, machine=within(pipeline.machine, message["settings"]))
        keeping = build({"keeping": Keeping}, message["keeping"], "live")["keeping"]
        stream(
            pipeline,
            job,
            lambda: _blocks(sound, tell),
            lambda size: _Telling(size, tell),
            keeping,
            _Told(tell, stopping),
            lambda figures: tell(report=figures),
        )
        tell(ended=None)
    except Cancelled:
        tell(ended=None)
    except UserError as error:
        tell(ended=str(error))
    except Exception as error:
        LOG.exception("a live video failed")
        tell(ended=f"the server failed ({type(error).__name__}); its log knows more")
    finally:
        sound.put(None)  # whoever fetches it ends


def _blocks(sound: Sound, tell: Callable[..., None]) -> Iterator[Float32[np.ndarray, " n"]]:
    tell(listening=SAMPLE_RATE)
    for bytes_ in iter(sound.get, None):
        yield np.frombuffer(bytes_, "<i2") / np.float32(1 << 15)


class _Told(Events):
    def __init__(self, tell: Callable[..., None], stopping: Callable[[], bool]):
        self._tell, self._stopping = tell, stopping

    def notice(self, text: str) -> None:
        self._tell(notice=text)

    def cancelled(self) -> bool:
        return self._stopping()


class _Telling:
    """Sends each clip's fragments as one message."""

    def __init__(self, size: tuple[int, int], tell: Callable[..., None]):
        self._sink, self._tell = io.BytesIO(), tell
        self._writer = Mp4Writer(self._sink, size, SAMPLE_RATE)

    def write(self, frames: UInt8[np.ndarray, "T H W 3"], sound: Float32[np.ndarray, " n"]) -> None:
        self._writer.write(frames, sound)
        self._send()

    def close(self) -> None:
        self._writer.close()
        self._send()

    def _send(self) -> None:
        if made := self._sink.getvalue():
            self._tell(mp4=base64.b64encode(made).decode())
            self._sink.seek(0)
            self._sink.truncate()
