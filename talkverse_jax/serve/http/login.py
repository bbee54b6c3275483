"""A browser's cookie in place of a key, so that its players and event streams can have one."""

import json

from starlette.requests import Request
from starlette.responses import Response

from talkverse_jax.serve.http.access import COOKIE, COOKIE_SECONDS, check_own_page
from talkverse_jax.serve.http.body import BodyLimits, pieces
from talkverse_jax.serve.http.errors import Fault, said
from talkverse_jax.serve.http.forms import JSON
from talkverse_jax.serve.http.router import Handler
from talkverse_jax.serve.http.setup import Setup

_MOST = 4096  # bytes
_COOKIE = "HttpOnly; SameSite=Strict; Path=/"
_NO_STORE = {"Cache-Control": "no-store"}


class Login:
    """The route of cookies."""

    def __init__(self, setup: Setup):
        self._setup = setup

    def table(self) -> dict[str, dict[str, Handler]]:
        return {"/login": {"POST": Handler(self._open, public=True), "DELETE": Handler(self._close, public=True)}}

    async def _open(self, request: Request) -> Response:
        access = self._setup.access
        if not access.has_keys:
            raise Fault("not_enabled", "the server has no keys; call it without one")
        self._setup.bodies.kind(request, JSON)
        key = await self._key(request)
        token = access.open_session(access.owner_of_key(key, request.client.host if request.client else ""))
        cookie = f"{COOKIE}={token}; Max-Age={COOKIE_SECONDS}; {_COOKIE}"
        return Response(status_code=204, headers=_NO_STORE | {"Set-Cookie": cookie})

    async def _key(self, request: Request) -> str:
        limits = BodyLimits(_MOST, "of a login", self._setup.options.upload_timeout)
        limits.check_length(request)
        body = b"".join([piece async for piece in pieces(request, limits)])
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            raise Fault("invalid_json", 'the body is no JSON; send {"api_key": "..."}') from None
        if not isinstance(given, dict):
            raise Fault("invalid_json", 'the body is no JSON object; send {"api_key": "..."}')
        for name in given:
            if name != "api_key":
                raise Fault("unknown_parameter", f"{said(name)}: give api_key alone", said(name))
        if given.get("api_key") is None:
            raise Fault("missing_required_parameter", "api_key: is missing; give it", "api_key")
        if not isinstance(given["api_key"], str):
            raise Fault("invalid_type", "api_key: give a text", "api_key")
        return given["api_key"]

    async def _close(self, request: Request) -> Response:
        token = request.cookies.get(COOKIE)
        if token is not None:
            check_own_page(self._setup.origins, request, request.scope["scheme"])
            self._setup.access.close_session(token)
        return Response(status_code=204, headers=_NO_STORE | {"Set-Cookie": f"{COOKIE}=; Max-Age=0; {_COOKIE}"})
