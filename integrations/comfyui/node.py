"""The node: it sends a picture and a sound to a server, shows how far the server is, and hands on the video.

No model is loaded in ComfyUI's process. The key of a server that asks for one comes from the environment's
TALKVERSE_API_KEY and from no widget, as workflows are shared.
"""

import contextlib
import queue
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

from talkverse_jax.client import ApiError, Client, Event

from .media import file_of, png_of, wav_of

_ASKED = 0.5  # seconds, at most, between two looks whether the user has stopped the workflow
_END = object()


class TalkVerseVideo:
    """A picture, a sound and a prompt become a talking video, clip after clip, as long as the sound."""

    CATEGORY = "video"
    FUNCTION = "make"
    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "video_id")
    DESCRIPTION = "A person says a sound. The video is made by a talkverse_jax server; the key it may ask for is read "
    DESCRIPTION += "from the environment variable TALKVERSE_API_KEY of ComfyUI."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """ComfyUI's table of sockets and widgets. 0 and an empty text leave a setting to the server."""
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "the person; the first picture of several"}),
                "audio": ("AUDIO", {"tooltip": "what the person says"}),
                "prompt": ("STRING", {"multiline": True, "default": "A person talks to the camera."}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**32 - 1, "control_after_generate": True}),
                "steps": ("INT", {"default": 50, "min": 1, "max": 200, "tooltip": "denoising steps of each clip"}),
                "guidance": (
                    "FLOAT",
                    {"default": 4.5, "min": 0.0, "max": 20.0, "step": 0.1, "tooltip": "1 or less turns it off"},
                ),
                "server": ("STRING", {"default": "http://127.0.0.1:8765"}),
            },
            "optional": {
                "video": ("VIDEO", {"tooltip": "a video to dub, in place of the image"}),
                "negative_prompt": ("STRING", {"multiline": True, "default": ""}),
                "size_bucket": ("STRING", {"default": "", "tooltip": "a table of sizes that the server knows"}),
                "num_clip": ("INT", {"default": 0, "min": 0, "max": 100000, "tooltip": "clips at most"}),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 86400.0, "step": 0.04}),
            },
        }

    def make(
        self,
        image: Any,
        audio: Any,
        prompt: str,
        seed: int,
        steps: int,
        guidance: float,
        server: str,
        video: Any = None,
        negative_prompt: str = "",
        size_bucket: str = "",
        num_clip: int = 0,
        seconds: float = 0.0,
    ) -> tuple[Any, str]:
        """Have the video made; ComfyUI calls this.

        Raises:
          ApiError: the server refuses.
          VideoFailed: it could not make the video.
          ConnectionError: it does not answer.
          InterruptProcessingException: the user stopped the workflow; the video is removed from the server.
        """
        from comfy_api.latest import InputImpl

        settings = {"negative_prompt": negative_prompt, "size_bucket": size_bucket, "num_clip": num_clip}
        settings |= {"seconds": seconds}
        given = {name: value for name, value in settings.items() if value}
        given |= {"seed": seed, "num_inference_steps": steps, "guidance_scale": guidance}
        seen = png_of(image) if video is None else file_of(video)
        work = _Work(server, seen, wav_of(audio) if audio is not None else None, {"prompt": prompt} | given)
        _follow(work)
        return InputImpl.VideoFromFile(str(work.path)), work.id


class _Work:
    """Makes the video and fetches it, while ComfyUI's own thread looks whether it is to stop.

    Attributes:
      id: the video's, once the server has accepted it.
      path: where it is fetched to.
      error: why there is none.
      told: the server's events, and `_END` behind them.
    """

    def __init__(self, server: str, image: Any, audio: bytes | None, fields: dict[str, Any]):
        self._client, self._given, self._fields = Client(server), (image, audio), fields
        self._stopped = threading.Event()
        self.path = _folder() / f"talkverse_{uuid.uuid4().hex}.mp4"
        self.id, self.error = "", None
        self.told: queue.Queue[Any] = queue.Queue()

    def start(self) -> None:
        threading.Thread(target=self._run, name="talking video", daemon=True).start()

    def _run(self) -> None:
        try:
            self.id = self._client.create(*self._given, **self._fields).id
            if self._stopped.is_set():
                self._remove()
                return
            self._client.wait(self.id, self.told.put)
            self._client.download(self.id, self.path)
        except Exception as error:
            self.error = error
        finally:
            self.told.put(_END)

    def stop(self) -> None:
        """Remove the video from the server, now or as soon as it is accepted."""
        self._stopped.set()
        if self.id:
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(ApiError, ConnectionError):  # it is gone, or the server is
            self._client.delete(self.id)


def _follow(work: _Work) -> None:
    """Show the work's progress until it is done; stop it where the user stops the workflow."""
    from comfy.model_management import throw_exception_if_processing_interrupted
    from comfy.utils import ProgressBar

    bar, event = ProgressBar(100), None
    work.start()
    try:
        while event is not _END:
            throw_exception_if_processing_interrupted()
            if isinstance(event, Event) and event.kind == "progress":
                bar.update_absolute(event.data["progress"])
            try:
                event = work.told.get(timeout=_ASKED)
            except queue.Empty:
                event = None
    except BaseException:
        work.stop()
        raise
    if work.error is not None:
        raise work.error
    bar.update_absolute(100)


def _folder() -> Path:
    """ComfyUI's folder of files that are wanted until it ends."""
    try:
        from folder_paths import get_temp_directory
    except ImportError:
        return Path(tempfile.gettempdir())
    folder = Path(get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder
