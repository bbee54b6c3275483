"""What a program asks of a server, a method for each."""

import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx

from talkverse_jax.client.connection import Connection, Tries, query
from talkverse_jax.client.download import download
from talkverse_jax.client.errors import ApiError, VideoFailed
from talkverse_jax.client.events import follow
from talkverse_jax.client.forms import Reference, flattened
from talkverse_jax.client.records import Event, Page, Video

_NEXT_CLIP = 3600.0  # seconds that a stream waits for the next clip
_ASKED = 1.0  # seconds between two looks for the first clip


class Client:
    """A server's videos. Every method raises `ApiError` where the server refuses, and `ConnectionError` where it does
    not answer. Threads may share a client.

    Args:
      base_url: where the server listens.
      api_key: by default the first one in the environment's TALKVERSE_API_KEY, if there is any.
      timeout: seconds to wait for an answer to begin, or to go on.

    Raises:
      ValueError: `base_url` is no address.
    """

    def __init__(self, base_url: str = "http://127.0.0.1:8765", api_key: str | None = None, timeout: float = 60.0):
        self._connection = Connection(base_url, api_key, timeout)
        self._timeout = timeout

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connections; what is being read breaks off."""
        self._connection.close()

    def create(self, image: Reference | None, audio: Reference | None = None, *, prompt: str, **fields: Any) -> Video:
        """Have a video made. It is accepted once, also where the request has to be made again.

        Args:
          image: a picture, or a video to dub.
          audio: a sound, or a video's sound; None where `tts_text` or `speakers` is given, or the video has sound.
          prompt: what is seen.
          fields: any other field of the server's, such as `seed=7`, `tts_text="Hello."`, or of several speakers
            `speakers={1: {"audio": "ann.wav"}, 2: {"audio": "ben.wav"}}`.

        Raises:
          FileNotFoundError: there is no such file.
        """
        given = {"input_reference": image, "audio_reference": audio, "prompt": prompt} | fields
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return Video.of(self._connection.json("POST", "/v1/videos", parts=flattened(given), headers=headers))

    def get(self, id: str) -> Video:
        """The video as it is now."""
        return Video.of(self._connection.json("GET", _of(id)))

    def list(self, limit: int = 20, after: str | None = None, order: Literal["asc", "desc"] = "desc") -> Page:
        """A page of the videos, the newest first, or behind the one with the id `after`."""
        asked = query({"limit": limit, "after": after, "order": order})
        return Page.of(self._connection.json("GET", "/v1/videos", params=asked))

    def events(self, id: str, last_event_id: int | None = None) -> Iterator[Event]:
        """What happens to the video until it has ended, over broken connections and restarts of the server.

        Args:
          last_event_id: the first to come is the one behind it; by default all that are kept come.
        """
        return follow(self._connection, _of(id, "events"), last_event_id, None)

    def wait(self, id: str, on_event: Callable[[Event], object] | None = None, timeout: float | None = None) -> Video:
        """Wait until the video is made.

        Args:
          on_event: is called with each event.
          timeout: seconds; None for as long as it takes.

        Raises:
          VideoFailed: it could not be made, or was cancelled.
          TimeoutError: it is not made in that time; the server goes on with it.
        """
        video = None
        for event in follow(
            self._connection, _of(id, "events"), None, None if timeout is None else time.monotonic() + timeout
        ):
            if on_event is not None:
                on_event(event)
            video = Video.of(event.data) if event.kind in ("completed", "failed") else None
        video = video or self.get(id)
        if video.status == "failed":
            raise VideoFailed(video)
        return video

    def stream(self, id: str) -> Iterator[bytes]:
        """The bytes of a fragmented mp4 that can be played while the video is made, from the first clip on.

        Raises:
          VideoFailed: there is no clip, and there will be none.
        """
        tries = Tries(True)
        while True:
            try:
                patient = httpx.Timeout(self._timeout, read=_NEXT_CLIP)
                with (
                    self._connection.stream("GET", _of(id, "stream"), timeout=patient) as response,
                    self._connection.reading(response) as pieces,
                ):
                    yield from pieces
                return
            except ApiError as error:
                if error.code != "video_not_ready":
                    tries.wait(error)
                    continue
            if (video := self.get(id)).status == "failed":
                raise VideoFailed(video)
            time.sleep(_ASKED)

    def download(
        self, id: str, path: str | Path, variant: Literal["video", "thumbnail", "spritesheet"] = "video"
    ) -> Path:
        """Write the video, or a picture of it, to a file. The name appears when the file is whole.

        Raises:
          OSError: the file cannot be written.
        """
        return download(self._connection, _of(id, "content"), Path(path), {"variant": variant})

    def cancel(self, id: str) -> Video:
        """Stop making the video; what is finished of it can be streamed until it expires."""
        return Video.of(self._connection.json("POST", _of(id, "cancel"), again=False))

    def delete(self, id: str) -> None:
        """Remove the video, or stop making it and remove all of it."""
        self._connection.answer("DELETE", _of(id))

    def enhance(self, prompt: str, image: Reference | None = None) -> str:
        """A fuller prompt for the same wish, which a language model writes that looks at the picture or video."""
        if image is None:
            told = self._connection.json("POST", "/v1/prompts/enhance", json={"prompt": prompt})
        else:
            parts = flattened({"prompt": prompt, "input_reference": image})
            told = self._connection.json("POST", "/v1/prompts/enhance", parts=parts)
        return told["prompt"]

    def speak(self, text: str, voice: str | None = None, format: str = "wav") -> bytes:
        """A sound file of the spoken text.

        Args:
          voice: one of `voices()`; by default the server's.
          format: mp3, opus, aac, flac, wav or pcm (24 kHz, 16 bits, mono, without a header).
        """
        asked = query({"input": text, "voice": voice, "response_format": format})
        return self._connection.answer("POST", "/v1/audio/speech", json=asked).content

    def voices(self) -> Sequence[str]:
        """The names of the voices that can speak."""
        return self._connection.json("GET", "/v1/audio/voices")["voices"]

    def models(self) -> Sequence[Mapping[str, Any]]:
        """The models, with what each can do in `capabilities`."""
        return self._connection.json("GET", "/v1/models")["data"]

    def health(self) -> Mapping[str, Any]:
        """How the server is; `state` is loading, ready or draining."""
        return self._connection.json("GET", "/health", again=False)


def _of(id: str, part: str | None = None) -> str:
    return "/".join(["/v1/videos", urllib.parse.quote(id, safe=""), *([part] if part else [])])
