"""From a path and a method to what answers; nothing is redirected or guessed."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from talkverse_jax.serve.http.errors import Fault

LIVE = "/v1/live"  # a WebSocket, which stands in no table


@dataclass(frozen=True)
class Handler:
    """What answers a method of a route.

    Attributes:
      run: makes the answer.
      public: no key is needed.
      query: query parameters that it knows.
      makes: it starts something, which a server that is draining does not.
    """

    run: Callable[[Request], Awaitable[Response]]
    public: bool = False
    query: frozenset[str] = frozenset()
    makes: bool = False


@dataclass(frozen=True)
class Found:
    """The route of a path: its pattern, its methods, and what stands in the pattern's places."""

    pattern: str
    methods: Mapping[str, Handler]
    params: Mapping[str, str]

    def handler(self, method: str) -> Handler:
        """Raises:
        Fault: the route has no such method.
        """
        if method not in self.methods:
            allowed = ", ".join(sorted(self.methods))
            raise Fault("method_not_allowed", f"this route has {allowed}", headers={"Allow": allowed})
        return self.methods[method]


class Router:
    """A table of patterns such as /v1/videos/{id}, whose places hold no slash."""

    def __init__(self, table: Mapping[str, Mapping[str, Handler]]):
        self._table = [(pattern, _compiled(pattern), methods) for pattern, methods in table.items()]

    def find(self, path: str) -> Found:
        """The route of a path.

        Raises:
          Fault: there is none.
        """
        for pattern, expression, methods in self._table:
            if match := expression.fullmatch(path):
                return Found(pattern, methods, match.groupdict())
        raise Fault("unknown_url", "there is no such route; docs/serving.md lists them")


def _compiled(pattern: str) -> re.Pattern[str]:
    places = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(pattern))
    return re.compile(places, re.DOTALL)
