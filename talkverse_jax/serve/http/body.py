"""A request's body as it comes: in pieces of at most 256 KiB, up to a limit, and not for ever."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.front import ClientGone

PIECE = 256 * 1024


@dataclass(frozen=True)
class BodyLimits:
    """Of a body.

    Attributes:
      bytes: at most; `flag` names the option.
      timeout: seconds without a byte.
    """

    bytes: int
    flag: str
    timeout: float

    def too_large(self) -> Fault:
        return Fault("request_too_large", f"the body has more than {self.bytes} bytes ({self.flag}); send less")

    def check_length(self, request: Request) -> None:
        """Raises:
        Fault: the body says that it is too long.
        """
        length = request.headers.get("content-length")
        if length is not None and length.isascii() and length.isdigit() and int(length) > self.bytes:
            raise self.too_large()


async def pieces(request: Request, limits: BodyLimits) -> AsyncIterator[bytes]:
    """The body, of which no more than a piece is in memory.

    Raises:
      Fault: it is too long, or nothing came for too long.
      ClientGone: it ended before its end.
    """
    held, total = bytearray(), 0
    while True:
        try:
            async with asyncio.timeout(limits.timeout):
                message = await request.receive()
        except TimeoutError:
            raise Fault("request_timeout", f"nothing came for {limits.timeout:g} s; send the request again") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        body = message.get("body", b"")
        total += len(body)
        if total > limits.bytes:
            raise limits.too_large()
        held += body
        while len(held) >= PIECE:
            yield bytes(held[:PIECE])
            del held[:PIECE]
        if not message.get("more_body", False):
            if held:
                yield bytes(held)
            return


async def gone(request: Request) -> None:
    """Returns when the client has gone away; to be called behind the body's end."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
