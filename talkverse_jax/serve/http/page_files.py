"""The page's files: a fixed table, read once, so that no path of a request is ever opened."""

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from talkverse_jax.serve.http.router import Handler

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/static/page.css": ("page.css", "text/css; charset=utf-8"),
    "/static/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
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
    return {path: _routes(*file) for path, file in _FILES.items()}


def _routes(name: str, kind: str) -> dict[str, Handler]:
    content = (resources.files("talkverse_jax.serve") / "page" / name).read_bytes()
    headers = _HEADERS | {"Content-Type": kind, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            return Response(headers=headers | {"Content-Length": str(len(content))})
        return Response(content, headers=headers)

    handler = Handler(answer, public=True)
    return {"GET": handler, "HEAD": handler}
