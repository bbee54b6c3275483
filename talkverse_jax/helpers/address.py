"""Addresses of OpenAI-compatible endpoints, as flags give them. Imports no JAX."""

from urllib.parse import urlsplit

from talkverse_jax.core.errors import UserError


def check_base_url(url: str, field: str) -> None:
    """Check the address that routes such as `/chat/completions` are appended to.

    Raises:
      UserError: it is no such address.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of a port that is no number, of half an IPv6 address
        usable = False
    if not usable or not url.isascii() or any(letter <= " " for letter in url):
        raise UserError("is no address; give one such as http://localhost:8000/v1", field=field)
    if "@" in parts.netloc:
        raise UserError("has a name or a password in it; keys come from the environment", field=field)
    if parts.query or parts.fragment:
        raise UserError("has a ? or a # in it; give the address up to /v1", field=field)
