"""What a server refuses, and videos that fail."""

import contextlib
from typing import Any

import httpx

from talkverse_jax.client.records import Video


class ApiError(Exception):
    """The server refused a request.

    Attributes:
      status: of HTTP.
      code: the refusal's short name, such as `queue_full`.
      message: what is wrong and what to do.
      param: the field that is wrong, where it is one.
      request_id: what the server's log calls the request.
      retry_after: seconds after which to ask again; None where the server says nothing of it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(f"{message} ({status} {code})")
        self.status, self.code, self.message = status, code, message
        self.param, self.request_id, self.retry_after = param, request_id, retry_after

    @classmethod
    def of(cls, response: httpx.Response) -> "ApiError":
        """The refusal that an answer, which has been read, tells; also where something in between wrote it."""
        told: Any = {}
        with contextlib.suppress(ValueError):
            told = response.json()
        told = told.get("error") if isinstance(told, dict) else None
        told = told if isinstance(told, dict) else {}
        unexplained = f"{response.url}: {response.status_code} without a reason; is this the server's address?"
        return cls(
            response.status_code,
            str(told.get("code") or "unknown"),
            str(told.get("message") or unexplained),
            told.get("param"),
            response.headers.get("x-request-id"),
            _seconds(response.headers.get("retry-after")),
        )


class VideoFailed(Exception):
    """A video could not be made, or was cancelled.

    Attributes:
      video: it, with the reason in its `error`.
    """

    def __init__(self, video: Video):
        error = video.error or {}
        super().__init__(f"{video.id}: {error.get('message') or 'failed'} ({error.get('code') or 'unknown'})")
        self.video = video


def _seconds(text: str | None) -> float | None:
    """Of a `Retry-After` in seconds; the other form, a date, is no server's of ours."""
    return float(text) if text is not None and text.isdecimal() else None
