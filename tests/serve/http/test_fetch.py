"""Fetching references: from allowed hosts, and from nowhere that a name may lead to."""

import ipaddress

import pytest

from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.fetch import Fetcher, is_public
from talkverse_jax.serve.options import ServeOptions
from tests.serve.http.files_server import SEEN
from tests.serve.http.serving import data_url, fault, sound


def _ask(server, url: str):
    return server.post({"prompt": "a", "input_reference": {"image_url": url}, "audio_reference": data_url(sound())})


def test_a_picture_is_fetched(clean, files, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    answer = _ask(clean, f"http://localhost:{files}/a.png?x=1")
    assert answer.status_code == 200, answer.text
    assert SEEN[-1]["Host"] == f"localhost:{files}" and "Cookie" not in SEEN[-1]
    assert _ask(clean, f"http://127.0.0.1:{files}/a.png").status_code == 200


@pytest.mark.parametrize("path", ["/away", "/none", "/endless"])
def test_what_cannot_be_fetched(server, files, path):
    answer = _ask(server, f"http://127.0.0.1:{files}{path}")
    assert fault(answer) == (400, "url_fetch_failed", "input_reference.image_url")
    assert "secret" not in answer.text and server.left() == []


def test_a_name_without_address(server):
    assert fault(_ask(server, "http://name.invalid/a"))[:2] == (400, "url_fetch_failed")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a",
        "http://127.1:{port}/a",
        "http://u:p@127.0.0.1:{port}/a",
        "http://127.0.0.1:{port}.evil/a",
        "http://name.invalid:8080/a",
        "https://NAME.invalid.evil/a",
        "http://127.0.0.1:{port}/a b",
        "http://[::1]:{port}/a",
        "gopher://127.0.0.1:{port}/a",
    ],
)
def test_where_nothing_is_fetched_from(server, files, url):
    assert fault(_ask(server, url.format(port=files)))[:2] == (400, "url_not_allowed")


def test_ports_that_go_without_saying():
    fetcher = Fetcher(ServeOptions(allowed_url_hosts=("a.example", "b.example:8443")))
    assert fetcher.check("https://A.example/x", "p")[1] == 443 and fetcher.check("http://a.example", "p")[1] == 80
    assert fetcher.check("https://b.example:8443/x", "p")[1] == 8443
    for url in ("https://b.example/x", "https://a.example:8443/x"):
        with pytest.raises(Fault):
            fetcher.check(url, "p")


@pytest.mark.parametrize(
    "address, public",
    [
        ("93.184.216.34", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("2606:4700::1", True),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a00:1::", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public(ipaddress.ip_address(address)) is public
