"""By which name the server is called, and from which web page: against DNS rebinding and forged requests."""

import ipaddress
import re
from collections.abc import Mapping

from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.options import ServeOptions

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@?#\[\]\\]+)(?::(\d{1,5}))?")
_PORTS = {"http": "80", "https": "443"}


class Origins:
    """Which names and pages may call."""

    def __init__(self, options: ServeOptions):
        self._hosts = {"localhost", *(name.lower() for name in (options.host, *options.allowed_hosts))}
        self._origins = {_plain_origin(origin) for origin in options.allowed_origins}

    def check(self, host: str | None, origin: str | None, scheme: str) -> None:
        """Raises:
        Fault: the server is not called so, or the page may not call it.
        """
        match = _HOST.fullmatch(host or "")
        if match is None or not self._is_ours(match[1].lower()):
            raise Fault("forbidden_host", "the server is not called by this name; add it by --allowed_hosts")
        if origin is not None and not (self.is_own(host, origin, scheme) or self.is_allowed(origin)):
            raise Fault("forbidden_origin", "pages of this origin may not call; add it by --allowed_origins")

    def _is_ours(self, name: str) -> bool:
        """No attacker's name can be an address."""
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def is_own(self, host: str | None, origin: str, scheme: str) -> bool:
        """Whether a page of this server calls it."""
        return _plain_origin(origin) == _plain_origin(f"{scheme}://{host}")

    def is_page_of_ours(self, host: str | None, origin: str, scheme: str) -> bool:
        """As `is_own`, also behind a proxy that speaks HTTPS, where the owner has listed that origin of our name."""
        return self.is_own(host, origin, scheme) or (self.is_allowed(origin) and self.is_own(host, origin, "https"))

    def is_allowed(self, origin: str | None) -> bool:
        """Whether a page of another server may."""
        return origin is not None and _plain_origin(origin) in self._origins

    def cors(self, origin: str | None) -> Mapping[str, str]:
        """Headers for the page's browser."""
        if not self._origins:
            return {}
        if origin is None or not self.is_allowed(origin):
            return {"Vary": "Origin"}
        exposed = "X-Request-Id, ETag, Content-Range, Retry-After, openai-poll-after-ms, X-Video-Id, X-Voice"
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", "Access-Control-Expose-Headers": exposed}


def _plain_origin(origin: str) -> str:
    """In lower case, without the port that goes without saying."""
    scheme, _, rest = origin.strip().lower().partition("://")
    host, _, port = rest.rpartition(":")
    return f"{scheme}://{host}" if host and port == _PORTS.get(scheme) else f"{scheme}://{rest}"
