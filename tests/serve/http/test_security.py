"""Names, pages, keys, cookies and headers."""

import socket

import httpx
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.serve.http.access import Access, read_keys
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.origin import Origins
from talkverse_jax.serve.options import ServeOptions
from tests.serve.http.finished import completed, waiting
from tests.serve.http.serving import fault, serving

KEYS = {"Authorization": "Bearer first"}
PUBLIC = ("/health", "/", "/static/page.css", "/static/page.js", "/static/icon.svg")


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server with keys, which looks at no files."""
    environ = {"TALKVERSE_API_KEY": "second, third"}
    with serving(tmp_path_factory.mktemp("data"), api_key=["first"], environ=environ) as made:
        yield made


@pytest.mark.parametrize(
    "host, ours",
    [
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:8765", True),
        ("[::1]:80", True),
        ("192.168.1.7", True),
        ("talk.example", True),
        ("talk.example:443", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("localhost@evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        (None, False),
        ("[::1", False),
    ],
)
def test_names(host, ours):
    origins = Origins(ServeOptions(allowed_hosts=("Talk.example",)))
    if ours:
        origins.check(host, None, "http")
        return
    with pytest.raises(Fault) as raised:
        origins.check(host, None, "http")
    assert raised.value.code == "forbidden_host"


@pytest.mark.parametrize(
    "origin, may",
    [
        ("http://localhost:8765", True),
        ("https://page.example", True),
        ("https://PAGE.example:443", True),
        ("http://page.example", False),
        ("https://localhost:8765", False),
        ("http://localhost", False),
        ("null", False),
        ("", False),
    ],
)
def test_pages(origin, may):
    origins = Origins(ServeOptions(allowed_origins=("https://page.example",)))
    if may:
        origins.check("localhost:8765", origin, "http")
        return
    with pytest.raises(Fault) as raised:
        origins.check("localhost:8765", origin, "http")
    assert raised.value.code == "forbidden_origin"


def test_a_page_behind_a_proxy():
    origins = Origins(ServeOptions(allowed_origins=("https://talk.example", "https://page.example")))
    assert origins.is_page_of_ours("talk.example", "https://talk.example", "http")
    assert not origins.is_page_of_ours("talk.example", "https://page.example", "http")
    assert not Origins(ServeOptions()).is_page_of_ours("talk.example", "https://talk.example", "http")


def test_names_and_pages_come_before_all_else(server):
    for path in ("/health", "/nothing", "/v1/videos"):
        for headers, code in (({"Host": "evil.example"}, "forbidden_host"), ({"Origin": "null"}, "forbidden_origin")):
            assert fault(server.client.get(path, headers=headers)) == (403, code, None)


def test_other_pages_that_may_call(server):
    headers = {"Origin": "https://page.example"}
    answer = server.client.get("/health", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert "access-control-allow-credentials" not in answer.headers and answer.headers["vary"] == "Origin"
    ask = headers | {"Access-Control-Request-Method": "POST"}
    assert server.client.options("/v1/videos", headers=ask).status_code == 204
    assert fault(server.client.options("/v1/videos")) == (405, "method_not_allowed", None)
    assert "access-control-allow-origin" not in server.client.get("/health").headers


def test_routes_and_methods(server):
    for path in ("/nothing", "/v1/videos/", "/docs", "/v1/videos/x/remix", "/static/../etc/passwd", "/v1"):
        assert fault(server.client.get(path)) == (404, "unknown_url", None)
    answer = server.client.put("/v1/videos", content=b"x")
    assert fault(answer) == (405, "method_not_allowed", None) and answer.headers["allow"] == "GET, POST"
    assert fault(server.client.patch("/health"))[0] == 405
    assert server.client.head("/v1/models").status_code == 405


def test_headers_of_all_answers(server):
    for path in ("/health", "/nothing", "/", "/v1/videos"):
        headers = server.client.get(path).headers
        assert headers["x-request-id"].startswith("req_") and len(headers["x-request-id"]) == 36
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin" and "server" not in headers
        assert path == "/" or headers["cache-control"] == "no-store"


def test_the_page(server):
    page = server.client.get("/")
    assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';") and policy.endswith("frame-ancestors 'none'")
    assert page.headers["cross-origin-opener-policy"] == "same-origin" and "permissions-policy" in page.headers
    head = server.client.head("/static/page.js")
    assert head.content == b"" and int(head.headers["content-length"]) > 1000
    again = server.client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304


def test_keys(locked):
    for path in PUBLIC:
        assert locked.client.get(path).status_code == 200
    assert locked.client.get("/ready").status_code == 503
    for path in ("/v1/videos", "/v1/models", "/metrics", "/v1/audio/voices", "/static/outputs/x.mp4"):
        answer = locked.client.get(path)
        assert fault(answer) == (401, "invalid_api_key", None) and answer.headers["www-authenticate"] == "Bearer"
    for key in ("first", "second", "third"):
        assert locked.client.get("/v1/videos", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    figures = locked.client.get("/metrics", headers=KEYS).text
    assert "talkverse_jax_jobs_queued 0.0" in figures
    assert 'talkverse_jax_http_requests_total{method="GET",route="/health",status="200"}' in figures
    assert fault(locked.client.get("/v1/videos?api_key=first"))[0] == 401


def test_a_key_comes_before_the_form_and_after_the_method(locked):
    assert fault(locked.post({}))[0] == 401
    assert fault(locked.client.put("/v1/videos"))[0] == 405


def test_owners_see_their_own(locked):
    access = locked.setup.access
    first, second = (access.owner_of_key(key, "here") for key in ("first", "second"))
    job = completed(locked.jobs, owner=first)
    other = {"Authorization": "Bearer second"}
    for route in ("", "/content", "/events", "/stream"):
        assert fault(locked.client.get(f"/v1/videos/{job}{route}", headers=other)) == (404, "video_not_found", None)
    assert fault(locked.client.delete(f"/v1/videos/{job}", headers=other))[0] == 404
    assert fault(locked.client.post(f"/v1/videos/{job}/cancel", headers=other))[0] == 404
    assert locked.client.get("/v1/videos", headers=other).json()["data"] == []
    assert locked.client.get(f"/v1/videos/{job}", headers=KEYS).json()["id"] == job
    assert first != second and "first" not in first


def test_a_cookie_stands_for_a_key(locked):
    own = {"Origin": locked.url}
    with httpx.Client(base_url=locked.url, trust_env=False) as browser:
        assert fault(browser.post("/login", json={"api_key": "wrong"}, headers=own))[:2] == (401, "invalid_api_key")
        answer = browser.post("/login", json={"api_key": "first"}, headers=own)
        cookie = answer.headers["set-cookie"]
        assert answer.status_code == 204 and "HttpOnly; SameSite=Strict; Path=/" in cookie and "first" not in cookie
        assert browser.get("/v1/videos").status_code == 200
        job = waiting(locked.jobs, locked.setup.access.owner_of_key("first", "here"))
        assert fault(browser.delete(f"/v1/videos/{job}")) == (403, "forbidden_origin", None)
        assert browser.delete(f"/v1/videos/{job}", headers=own).status_code == 200
        assert fault(browser.delete("/login")) == (403, "forbidden_origin", None)
        assert browser.delete("/login", headers=own).status_code == 204
        browser.cookies.set(*cookie.partition(";")[0].split("=", 1))
        assert fault(browser.get("/v1/videos"))[0] == 401


@pytest.mark.parametrize(
    "body, expected",
    [
        ({}, (400, "missing_required_parameter", "api_key")),
        ({"api_key": 3}, (400, "invalid_type", "api_key")),
        ({"key": "x"}, (400, "unknown_parameter", "key")),
        ([], (400, "invalid_json", None)),
        ({"api_key": "x" * 5000}, (413, "request_too_large", None)),
    ],
)
def test_logins_that_are_none(locked, body, expected):
    assert fault(locked.client.post("/login", json=body)) == expected


def test_too_many_wrong_keys():
    access = Access(["right"])
    for _ in range(10):
        with pytest.raises(Fault) as raised:
            access.owner("Bearer wrong", "there")
        assert raised.value.code == "invalid_api_key"
    with pytest.raises(Fault) as raised:
        access.owner("Bearer right", "there")
    assert raised.value.code == "too_many_attempts" and 50 <= int(raised.value.headers["Retry-After"]) <= 60
    assert access.owner("bearer right", "elsewhere") != "right"


def test_where_keys_come_from(tmp_path):
    (tmp_path / "keys").write_text("# of the house\nfourth # of a friend\n\nfifth\n")
    options = ServeOptions(api_key=("first",), api_key_file=str(tmp_path / "keys"))
    assert read_keys(options, {"TALKVERSE_API_KEY": "second,third,first"}) == [
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
    ]
    (tmp_path / "keys").write_text("# none\n")
    with pytest.raises(UserError, match="has no key"):
        read_keys(options, {})


def test_others_need_keys_unless_told_otherwise():
    with pytest.raises(UserError, match="allow_anonymous"):
        read_keys(ServeOptions(host="0.0.0.0"), {})
    assert read_keys(ServeOptions(host="0.0.0.0", allow_anonymous=True), {}) == []
    assert read_keys(ServeOptions(host="0.0.0.0"), {"TALKVERSE_API_KEY": "a"}) == ["a"]


def test_figures_are_not_for_strangers(tmp_path):
    with serving(tmp_path, host="0.0.0.0", allow_anonymous=True, page=False) as open_to_all:
        assert fault(open_to_all.client.get("/metrics"))[0] == 404
        assert fault(open_to_all.client.get("/"))[0] == 404
        assert open_to_all.client.get("/v1/videos").status_code == 200


def test_too_many_connections(tmp_path):
    with serving(tmp_path, max_connections=3) as small:
        address = ("127.0.0.1", int(small.url.rpartition(":")[2]))
        held = [socket.create_connection(address) for _ in range(3)]
        answer = httpx.get(f"{small.url}/health", trust_env=False)
        assert fault(answer) == (503, "busy", None) and int(answer.headers["retry-after"]) >= 1
        for each in held:
            each.close()
