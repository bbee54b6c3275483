"""Connections that ask nothing, or no HTTP."""

import socket

import httpx

from talkverse_jax.serve.http import protocol
from tests.serve.http.serving import serving


def _connected(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10)


def test_heads_that_do_not_come(tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "_SECONDS", 0.3)
    with serving(tmp_path) as server:
        with _connected(server) as silent, _connected(server) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: ")
            assert silent.recv(100) == b"" and slow.recv(100) == b""
        with _connected(server) as second:
            second.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert second.recv(65536).startswith(b"HTTP/1.1 200")
            second.sendall(b"GET /health HTTP/1.1\r\n")
            while piece := second.recv(65536):
                assert b"HTTP/1.1 400" not in piece
        with httpx.Client(base_url=server.url, trust_env=False) as kept:
            assert [kept.get("/health").status_code for _ in range(3)] == [200, 200, 200]


def test_what_is_no_http(tmp_path):
    with serving(tmp_path) as server, _connected(server) as connection:
        connection.sendall(b"HELLO\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 400") and b'{"error": {"message"' in answer
