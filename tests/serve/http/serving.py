"""A server for tests: real HTTP, real jobs in a folder, and nobody who makes them."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from talkverse_jax.core.options import build
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.serve.http.app import Setup, make_app
from talkverse_jax.serve.http.protocol import TimedProtocol
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.options import ServeOptions
from tests.sounds import tone, wav_bytes

DEFAULTS = {"size_bucket": "tiny-128", "infer_frames": 80, "sample_steps": 4, "base_seed": 7}


class TestServer:
    """A running server.

    Attributes:
      url: without a slash at the end.
    """

    __test__ = False

    def __init__(self, setup: Setup, url: str):
        self.setup, self.jobs, self.url = setup, setup.jobs, url
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def post(self, fields: dict[str, Any], headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        """POST /v1/videos with JSON."""
        headers = {"Content-Type": "application/json"} | (headers or {})
        return self.client.post("/v1/videos", content=json.dumps(fields), headers=headers, **more)

    def form(self, data: dict[str, Any], files: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """POST /v1/videos with multipart."""
        parts = [(name, (None, value)) for name, value in data.items()] + list((files or {}).items())
        return self.client.post("/v1/videos", files=parts, **more)

    def left(self) -> list[str]:
        """What requests have left on the disk."""
        return [path.name for path in Path(self.setup.options.data_dir, "uploads").iterdir()]


@contextmanager
def serving(
    folder: Path, weights: str | Path = "none", family: str = "talkverse", **options: Any
) -> Iterator[TestServer]:
    """A server on a port of its own.

    Args:
      options: of `ServeOptions`; `defaults`, `engine`, `enhancer` and `environ` of `Setup`.
    """
    more = {name: options.pop(name) for name in ("defaults", "engine", "enhancer", "environ") if name in options}
    values = {"data_dir": str(folder), "min_free_bytes": 0} | options
    made = build({"serve": ServeOptions, "weights": Weights}, values | {"weights": str(weights)}, "test")
    jobs = Jobs(made["serve"])
    given: dict[str, Any] = {"defaults": DEFAULTS, "environ": {}} | more
    server: uvicorn.Server | None = None
    connections = lambda: len(server.server_state.connections) if server else 0  # noqa: E731
    setup = Setup(made["serve"], jobs, family, made["weights"], Machine(), modules=(), connections=connections, **given)
    if weights == "none":
        setup.checker.warm = _not  # it would import JAX for nothing
    config = uvicorn.Config(
        make_app(setup),
        port=0,
        loop="asyncio",
        http=TimedProtocol,
        server_header=False,
        log_config=None,
        ws="websockets-sansio",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    made_server = TestServer(setup, f"http://127.0.0.1:{port}")
    try:
        yield made_server
    finally:
        made_server.client.close()
        server.should_exit = True
        thread.join(30)
        jobs.close()


async def _not() -> None:
    pass


def picture(width: int = 64, height: int = 64, form: str = "PNG") -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def flat(width: int, height: int) -> bytes:
    """A grey picture of few bytes."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(file, "PNG")
    return file.getvalue()


def sound(seconds: float = 1.0) -> bytes:
    """A tone as wav."""
    return wav_bytes((tone(seconds, 16000) * 32767).astype("<i2").tobytes(), 16000, 1, 16)


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def fault(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and param of an error, whose form is checked."""
    body = answer.json()
    assert body.keys() == {"error"} and body["error"].keys() == {"message", "type", "param", "code"}, body
    assert "\n" not in body["error"]["message"] and answer.headers["content-type"] == "application/json"
    return answer.status_code, body["error"]["code"], body["error"]["param"]
