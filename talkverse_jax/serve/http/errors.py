"""What a request is refused with: a status, a code, and the headers that belong to them."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from talkverse_jax.core.errors import NO_ROOM, UserError
from talkverse_jax.serve.jobs.job import Refused

STATUS = {
    "invalid_json": 400,
    "invalid_multipart": 400,
    "missing_required_parameter": 400,
    "unknown_parameter": 400,
    "unsupported_parameter": 400,
    "invalid_type": 400,
    "invalid_value": 400,
    "mutually_exclusive_parameters": 400,
    "invalid_data_url": 400,
    "url_not_allowed": 400,
    "url_fetch_failed": 400,
    "invalid_api_key": 401,
    "forbidden_host": 403,
    "forbidden_origin": 403,
    "video_not_found": 404,
    "unknown_url": 404,
    "not_enabled": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "video_not_ready": 409,
    "video_ended": 409,
    "idempotency_key_reused": 409,
    "idempotency_in_progress": 409,
    "request_too_large": 413,
    "image_too_large": 413,
    "sound_too_long": 413,
    "video_too_large": 413,
    "unsupported_content_type": 415,
    "unsupported_media": 415,
    "range_not_satisfiable": 416,
    "unreadable_media": 422,
    "unusable_media": 422,
    "queue_full": 429,
    "too_many_jobs": 429,
    "too_many_attempts": 429,
    "internal_error": 500,
    "upstream_error": 502,
    "draining": 503,
    "busy": 503,
    "not_ready": 503,
    "upstream_timeout": 504,
    "infer_timeout": 504,
    "disk_full": 507,
    "quota_exceeded": 507,
}

_LONGEST_SAID = 100  # characters of what a client sent
_NO_RETRY = {409, 500, 502, 504, 507}  # which OpenAI's client would repeat otherwise
_RETRY_AFTER = {429: 10, 503: 5}  # seconds, unless it is known better
_LONGEST_RETRY = 120  # the longest that OpenAI's client waits


class Fault(Exception):
    """A request is refused.

    Attributes:
      code: see `STATUS`; another one is that of a failed job, whose status is 500.
      message: one line: what is wrong and what to do.
      param: the field, as the client named it.
      headers: of the answer.
    """

    def __init__(
        self,
        code: str,
        message: str,
        param: str | None = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message)
        self.status = status or STATUS.get(code, 500)
        self.code, self.message, self.param = code, " ".join(message.split()), param
        self.headers = _headers(self.status, code, retry_after) | dict(headers or {})

    @classmethod
    def of(cls, refused: Refused) -> "Fault":
        """What the jobs refused."""
        return cls(refused.code, refused.message, status=refused.status, retry_after=refused.retry_after)

    def body(self) -> dict[str, Any]:
        """As JSON."""
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        if self.status >= 500:
            kind = "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def answer(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, headers={"Cache-Control": "no-store"} | self.headers)


def _headers(status: int, code: str, retry_after: float | None) -> dict[str, str]:
    made = {}
    if status in _NO_RETRY:
        made["X-Should-Retry"] = "true" if code == "idempotency_in_progress" else "false"
    if retry_after is None:
        retry_after = 1 if code == "idempotency_in_progress" else _RETRY_AFTER.get(status)
    if retry_after is not None:
        made["Retry-After"] = str(min(max(1, round(retry_after)), _LONGEST_RETRY))
    if status == 401:
        made["WWW-Authenticate"] = "Bearer"
    if status == 408:
        made["Connection"] = "close"
    return made


def of_disk(error: OSError) -> Exception:
    """What a client is told of a disk's error; itself where that is no matter of the client's."""
    if error.errno in NO_ROOM:
        return Fault("disk_full", "the server's disk is full; try again when there is room")
    return error


def said(value: Any) -> str:
    """A value of the client's as a message shows it: on one line, and not at any length."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else "?" for character in text[: _LONGEST_SAID + 1])
    return text if len(text) <= _LONGEST_SAID else f"{text[: _LONGEST_SAID - 3]}..."


def refused_option(error: UserError, names: Mapping[str, str]) -> Fault:
    """An option's own check failed, as the client is told.

    Args:
      names: the request's fields by option.
    """
    param = names.get(error.field, error.field) if error.field else None
    reason = re.sub(r"--(\w+)", lambda flag: names.get(flag[1], flag[1]), error.reason)
    return Fault("invalid_value", f"{param}: {reason}" if param else reason, param)
