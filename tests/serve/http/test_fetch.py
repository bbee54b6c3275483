"""Fetching references: from allowed hosts, and from nowhere that a name may lead to."""

import http.server
import ipaddress
import threading

import pytest

from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.fetch import Fetcher, is_public
from talkverse_jax.serve.options import ServeOptions
from tests.serve.http.serving import data_url, fault, picture, serving, sound


class _Files(http.server.BaseHTTPRequestHandler):
    seen: list[dict[str, str]] = []

    def do_GET(self):
        self.seen.append(dict(self.headers))
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
        elif self.path.startswith("/a.png"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(65536))
            except OSError:
                pass
        else:
            self.send_error(404, "secret words")

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def files():
    """The port of a server of files."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="module")
def fetching(files, tiny_weights, tmp_path_factory):
    hosts = [f"127.0.0.1:{files}", f"localhost:{files}", "name.invalid"]
    folder = tmp_path_factory.mktemp("data")
    with serving(folder, tiny_weights, allowed_url_hosts=hosts, max_upload_bytes=1_000_000) as made:
        yield made


def _ask(server, url: str):
    return server.post({"prompt": "a", "input_reference": {"image_url": url}, "audio_reference": data_url(sound())})


def test_a_picture_is_fetched(fetching, files, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    answer = _ask(fetching, f"http://localhost:{files}/a.png?x=1")
    assert answer.status_code == 200, answer.text
    assert _Files.seen[-1]["Host"] == f"localhost:{files}" and "Cookie" not in _Files.seen[-1]
    assert _ask(fetching, f"http://127.0.0.1:{files}/a.png").status_code == 200


@pytest.mark.parametrize("path", ["/away", "/none", "/endless"])
def test_what_cannot_be_fetched(fetching, files, path):
    answer = _ask(fetching, f"http://127.0.0.1:{files}{path}")
    assert fault(answer) == (400, "url_fetch_failed", "input_reference.image_url")
    assert "secret" not in answer.text and fetching.left() == []


def test_a_name_without_address(fetching):
    assert fault(_ask(fetching, "http://name.invalid/a"))[:2] == (400, "url_fetch_failed")


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
def test_where_nothing_is_fetched_from(fetching, files, url):
    assert fault(_ask(fetching, url.format(port=files)))[:2] == (400, "url_not_allowed")


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
