"""Fetching a file from a host that the server's owner allows, and from nowhere else that its name may lead to."""

import asyncio
import ipaddress
import socket
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx

from talkverse_jax.serve.http.body import PIECE
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.options import ServeOptions

_CONNECT, _ALL = 10.0, 60.0  # seconds
_PORTS = {"http": 80, "https": 443}
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # to addresses of IPv4, whichever

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Fetcher:
    """Fetches from `--allowed_url_hosts`."""

    def __init__(self, options: ServeOptions):
        self._hosts = {host.lower() for host in options.allowed_url_hosts}
        self._most = options.max_upload_bytes

    def check(self, url: str, param: str) -> tuple[SplitResult, int]:
        """The parts of a URL that may be fetched, and its port.

        Raises:
          Fault: it may not.
        """
        refused = Fault("url_not_allowed", "files are not fetched from there; upload the file", param)
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            raise refused from None
        host = parts.hostname or ""
        shown = f"[{host}]" if ":" in host else host
        plain = not any(character <= " " or character == "\x7f" for character in url)
        usual = port in _PORTS.values() and shown in self._hosts
        if not plain or "@" in parts.netloc or not (usual or f"{shown}:{port}" in self._hosts):
            raise refused
        return parts, port

    async def fetch(self, url: str, path: Path, param: str) -> None:
        """Write what is there to a new file.

        Raises:
          Fault: it may not be fetched, or cannot be.
        """
        parts, port = self.check(url, param)
        try:
            async with asyncio.timeout(_ALL):
                await self._save(parts, port, await _resolve(parts.hostname or "", port), path)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError):
            raise Fault("url_fetch_failed", "the file could not be fetched; upload it", param) from None

    async def _save(self, parts: SplitResult, port: int, address: Address, path: Path) -> None:
        """The connection goes to the address that was checked; the name is for the other side only."""
        at = f"[{address}]" if address.version == 6 else str(address)
        url = f"{parts.scheme}://{at}:{port}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
        name = parts.netloc.lower()
        headers = {"Host": name, "Accept-Encoding": "identity", "Accept": "*/*"}
        names = {"sni_hostname": parts.hostname}
        timeout = httpx.Timeout(_ALL, connect=_CONNECT)
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout) as client,
            client.stream("GET", url, headers=headers, extensions=names) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError
            with await asyncio.to_thread(path.open, "xb") as file:
                total = 0
                async for piece in answer.aiter_raw(PIECE):
                    total += len(piece)
                    if total > self._most:
                        raise ValueError
                    await asyncio.to_thread(file.write, piece)


async def _resolve(host: str, port: int) -> Address:
    """The address of a name, asked for once.

    Raises:
      OSError, ValueError: there is none, or one of them is not public.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(each[4][0]) for each in found]
    try:
        listed = ipaddress.ip_address(host) in addresses
    except ValueError:
        listed = host == "localhost"
    if not addresses or not (listed or all(map(is_public, addresses))):
        raise ValueError
    return addresses[0]


def is_public(address: Address) -> bool:
    """Whether it is one of the whole internet, also as IPv6 hides it."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast
