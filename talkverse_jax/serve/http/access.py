"""Who may call: keys, kept as digests only, and the cookies that stand for them in a browser."""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping

from starlette.requests import HTTPConnection

import talkverse_jax
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.text import read_text
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.origin import Origins
from talkverse_jax.serve.options import ServeOptions

ANONYMOUS = "anonymous"
COOKIE = talkverse_jax.__name__.removesuffix("_jax")
COOKIE_SECONDS = 12 * 3600

_ENVIRONMENT = "TALKVERSE_API_KEY"
_MOST_FILE = 2**20  # bytes
_MOST_WRONG, _WITHIN = 10, 60.0  # wrong keys from an address in so many seconds
_MOST_REMEMBERED = 10_000  # addresses, and cookies


def read_keys(options: ServeOptions, environ: Mapping[str, str]) -> list[str]:
    """The keys of the flags, the environment and the file.

    Raises:
      UserError: the file cannot be read or has none; or others could call without a key, which nobody asked for.
    """
    found = [*options.api_key, *environ.get(_ENVIRONMENT, "").split(",")]
    if options.api_key_file is not None:
        lines = read_text(options.api_key_file, "keys, one a line", _MOST_FILE).splitlines()
        in_file = [key for line in lines if (key := line.partition("#")[0].strip())]
        if not in_file:
            raise UserError(f"{options.api_key_file}: has no key; give one a line", field="api_key_file")
        found += in_file
    keys = list(dict.fromkeys(key.strip() for key in found if key.strip()))
    if not keys and not options.is_local and not options.allow_anonymous:
        raise UserError(
            f"{options.host}: other machines could call without a key; give --api_key, or --allow_anonymous true",
            field="host",
        )
    return keys


class Access:
    """Tells the owner of a request. Of keys only digests are kept."""

    def __init__(self, keys: Iterable[str]):
        self._digests = [_digest(key) for key in keys]
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    @property
    def has_keys(self) -> bool:
        return bool(self._digests)

    def owner(self, authorization: str | None, address: str) -> str:
        """Whose request it is by its header.

        Raises:
          Fault: the key is missing or wrong, or too many wrong ones came from the address.
        """
        if not self._digests:
            return ANONYMOUS
        if not authorization:
            raise Fault("invalid_api_key", "no API key; send the header Authorization: Bearer KEY")
        scheme, _, key = authorization.partition(" ")
        return self.owner_of_key(key.strip() if scheme.lower() == "bearer" else "", address)

    def owner_of_key(self, key: str, address: str) -> str:
        """As `owner`, by the key itself."""
        self._check_attempts(address)
        given, found = _digest(key), None
        for known in self._digests:  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, given):
                found = known
        if found is None:
            self._wrong.setdefault(address, deque(maxlen=_MOST_WRONG)).append(time.monotonic())
            self._wrong.move_to_end(address)
            if len(self._wrong) > _MOST_REMEMBERED:
                self._wrong.popitem(last=False)
            raise Fault("invalid_api_key", "the API key is wrong; send the header Authorization: Bearer KEY")
        return found.hex()

    def _check_attempts(self, address: str) -> None:
        times = self._wrong.get(address, ())
        if len(times) == _MOST_WRONG and (left := times[0] + _WITHIN - time.monotonic()) > 0:
            raise Fault("too_many_attempts", "too many wrong API keys; wait a minute", retry_after=left)

    def open_session(self, owner: str) -> str:
        """A cookie that stands for the owner's key."""
        token = secrets.token_urlsafe(32)
        self._sessions[token] = owner, time.monotonic() + COOKIE_SECONDS
        if len(self._sessions) > _MOST_REMEMBERED:
            self._sessions.popitem(last=False)
        return token

    def owner_of_session(self, token: str | None) -> str | None:
        """Whose cookie it is; None of an unknown or old one."""
        owner, until = self._sessions.get(token or "", ("", 0.0))
        return owner if time.monotonic() < until else None

    def close_session(self, token: str | None) -> None:
        """The cookie stands for nothing any more."""
        self._sessions.pop(token or "", None)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def check_own_page(origins: Origins, request: HTTPConnection, scheme: str) -> None:
    """Args:
      scheme: by which the page was fetched.

    Raises:
    Fault: a cookie was sent, but not by a page of ours.
    """
    host, origin = request.headers.get("host"), request.headers.get("origin")
    if origin is None or not origins.is_page_of_ours(host, origin, scheme):
        raise Fault("forbidden_origin", "a cookie is taken from a page of this server only; send the API key")
