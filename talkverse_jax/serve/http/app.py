"""The app: from a request to the route that answers it, with the checks that come before all others.

app = make_app(Setup(options, jobs, family, weights, machine, defaults))
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from talkverse_jax.serve.http.access import COOKIE, check_own_page
from talkverse_jax.serve.http.admission import Admission
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.front import Front
from talkverse_jax.serve.http.helper_routes import HelperRoutes
from talkverse_jax.serve.http.helping import RequestHelpers
from talkverse_jax.serve.http.inputs import Looker
from talkverse_jax.serve.http.live_route import LiveRoute
from talkverse_jax.serve.http.login import Login
from talkverse_jax.serve.http.metrics import ServerMetrics
from talkverse_jax.serve.http.original_routes import OriginalRoutes
from talkverse_jax.serve.http.page_files import page_routes
from talkverse_jax.serve.http.router import Handler, Router
from talkverse_jax.serve.http.server_routes import ServerRoutes
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.http.video_routes import VideoRoutes
from talkverse_jax.serve.jobs.job import Refused

__all__ = ["Setup", "make_app"]

_SAFE = ("GET", "HEAD")
_THREADS = 32
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, If-Range",
    "Access-Control-Max-Age": "600",
}


def make_app(setup: Setup) -> ASGIApp:
    """The app of a server.

    Raises:
      UserError: keys cannot be read, or are needed and missing; or weights cannot be read.
    """
    options = setup.options
    looker = Looker(setup.references, setup.checker, options.max_image_pixels, options.max_sound_seconds)
    helpers = RequestHelpers(setup, looker)
    admission, metrics = Admission(setup, looker, helpers), ServerMetrics(setup)
    videos = VideoRoutes(setup, admission)
    table: dict[str, Mapping[str, Handler]] = {
        **videos.table(),
        **HelperRoutes(setup, looker, helpers).table(),
        **OriginalRoutes(setup, admission, looker, helpers, videos).table(),
        **ServerRoutes(setup).table(),
        **Login(setup).table(),
        **metrics.table(),
        **(page_routes() if options.page else {}),
    }
    live = LiveRoute(setup, admission, looker)
    return Front(App(setup, Router(table), live), options.max_connections, setup.connections, metrics.observe)


class App:
    """Behind the front: who may call, and what answers."""

    def __init__(self, setup: Setup, router: Router, live: LiveRoute):
        self._setup, self._router, self._live = setup, router, live
        _ = setup.access, setup.fields  # what is wrong with keys and weights is told at once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] == "websocket":
            await self._live(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Fault as fault:
            response = fault.answer()
        except Refused as refused:
            response = Fault.of(refused).answer()
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        setup, exchange = self._setup, request.scope["exchange"]
        host, origin = request.headers.get("host"), request.headers.get("origin")
        exchange.extra = dict(setup.origins.cors(origin))
        setup.origins.check(host, origin, request.scope["scheme"])
        found = self._router.find(request.scope["path"])
        exchange.pattern = found.pattern
        if request.method == "OPTIONS" and setup.origins.is_allowed(origin):
            return Response(status_code=204, headers=_PREFLIGHT)
        handler = found.handler(request.method)
        request.scope["path_params"] = dict(found.params)
        if not handler.public:
            request.scope["owner"] = self._owner(request)
        if handler.makes and (await asyncio.to_thread(setup.jobs.state)).state == "draining":
            raise Fault("draining", "the server is about to stop; try again in a minute", retry_after=30)
        for name in request.query_params:
            if name not in handler.query:
                raise Fault("unknown_parameter", f"{name[:100]}: no such query parameter; leave it out", name[:100])
        return await handler.run(request)

    def _owner(self, request: Request) -> str:
        access, header = self._setup.access, request.headers.get("authorization")
        if header is None and (owner := access.owner_of_session(request.cookies.get(COOKIE))) is not None:
            if request.method not in _SAFE:
                check_own_page(self._setup.origins, request, request.scope["scheme"])
            return owner
        address = request.client.host if request.client else ""
        return access.owner(header, address)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        async with _running(self._setup):
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})


@contextlib.asynccontextmanager
async def _running(setup: Setup) -> AsyncIterator[None]:
    """Has a process ready that looks at files, and threads enough for the disk and the database."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "http"))
    warming = asyncio.create_task(setup.checker.warm())
    try:
        yield
    finally:
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)
        await setup.checker.close()
