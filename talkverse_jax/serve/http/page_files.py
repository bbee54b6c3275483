"""The page's files: a fixed table, read once, so that no path of a request is ever opened."""

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from talkverse_jax.serve.http.router import Handler

# Of script and style the parts, which are served one behind the other.
_STYLE = ("base", "frame", "controls", "picture", "choices", "settings", "screen", "videos")
_SCRIPT = ("page", "server", "model", "presets", "inputs", "people", "sending", "playing", "live", "videos", "kept")
_SCRIPT += ("rendering", "beginning")
_FILES = {
    "/": (("index.html",), "text/html; charset=utf-8"),
    "/static/page.css": (tuple(f"style/{name}.css" for name in _STYLE), "text/css; charset=utf-8"),
    "/static/page.js": (tuple(f"script/{name}.js" for name in _SCRIPT), "text/javascript; charset=utf-8"),
    "/static/microphone.js": (("microphone.js",), "text/javascript; charset=utf-8"),
    "/static/icon.svg": (("icon.svg",), "image/svg+xml"),
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}


def page_routes() -> dict[str, dict[str, Handler]]:
    """The routes of the page."""
    return {path: _routes(content_of(path), kind) for path, (_, kind) in _FILES.items()}


def content_of(path: str) -> bytes:
    """What is served there."""
    names, _ = _FILES[path]
    page = resources.files("talkverse_jax.serve") / "page"
    return b"\n".join((page / name).read_bytes() for name in names)


def _routes(content: bytes, kind: str) -> dict[str, Handler]:
    headers = _HEADERS | {"Content-Type": kind, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            return Response(headers=headers | {"Content-Length": str(len(content))})
        return Response(content, headers=headers)

    handler = Handler(answer, public=True)
    return {"GET": handler, "HEAD": handler}
