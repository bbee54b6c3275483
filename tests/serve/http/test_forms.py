"""Bodies: form and size, pieces and pauses, names and brackets."""

import base64
import json
import socket
import time

import pytest

from tests.serve.http.serving import data_url, fault, picture, sound

FIELDS = {"prompt": "She talks.", "input_reference": data_url(picture()), "audio_reference": data_url(sound())}


def _raw(server, body: bytes, kind: str, path: str = "/v1/videos"):
    return server.client.post(path, content=body, headers={"Content-Type": kind})


def _part(name: str, value: str) -> str:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


def test_references_in_all_forms(clean):
    image, audio = data_url(picture()), data_url(sound(), "audio/x-anything")
    forms = [
        {"input_reference": image, "audio_reference": audio},
        {"input_reference[image_url]": image, "audio_reference[audio_url]": audio},
        {"input_reference": json.dumps({"image_url": image}), "audio_reference": json.dumps({"audio_url": audio})},
        {"reference_url": image, "audio_reference": json.dumps({"audio_url": audio})},
    ]
    for form in forms:
        answer = clean.form({"prompt": "a"} | form)
        assert answer.status_code == 200, answer.text
    nested = {"input_reference": {"image_url": image}, "audio_reference": {"audio_url": audio}}
    assert clean.post(FIELDS | nested).status_code == 200


@pytest.mark.parametrize(
    "value, expected",
    [
        ({"file_id": "file-1"}, ("unsupported_parameter", "input_reference.file_id")),
        ({"image": "x"}, ("unknown_parameter", "input_reference.image")),
        ({}, ("invalid_value", "input_reference")),
        ({"image_url": 3}, ("invalid_type", "input_reference.image_url")),
        ({"image_url": "data:image/png;base64,&&&&"}, ("invalid_data_url", "input_reference.image_url")),
        ("data:image/png,abc", ("invalid_data_url", "input_reference")),
        ("data:image/png;base64,abc", ("invalid_data_url", "input_reference")),
        ("file:///etc/passwd", ("url_not_allowed", "input_reference")),
        ("/etc/passwd", ("url_not_allowed", "input_reference")),
        ("http://127.0.0.1/a.png", ("url_not_allowed", "input_reference")),
        ("ftp://a.example/a.png", ("url_not_allowed", "input_reference")),
    ],
)
def test_references_that_are_none(server, value, expected):
    assert fault(server.post(FIELDS | {"input_reference": value})) == (400, *expected)
    if isinstance(value, str) or value:
        text = value if isinstance(value, str) else json.dumps(value)
        assert fault(server.form(FIELDS | {"input_reference": text})) == (400, *expected)
    assert server.left() == []


def test_base64_of_several_pieces(clean):
    audio = sound(12)
    assert len(base64.b64encode(audio)) > 2**18
    answer = clean.post(FIELDS | {"audio_reference": data_url(audio), "num_clip": 1})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "body, code",
    [
        (b"{", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'{"prompt": NaN}', "invalid_json"),
        (b'{"prompt": "a", "prompt": "b"}', "invalid_json"),
        (b'{"prompt": "\xff"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"", "invalid_json"),
    ],
)
def test_json_that_is_none(server, body, code):
    assert fault(_raw(server, body, "application/json")) == (400, code, None)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no form at all",
        _part("prompt", "a"),  # no end
        "--b\r\n\r\nx\r\n--b--\r\n",
        '--b\r\nContent-Disposition: attachment; name="prompt"\r\n\r\nx\r\n--b--\r\n',
        _part("x" * 300, "a") + "--b--\r\n",
        "".join(_part(f"a{number}", "x") for number in range(65)) + "--b--\r\n",
    ],
)
def test_forms_that_are_none(server, body):
    answer = _raw(server, body.encode(), "multipart/form-data; boundary=b")
    assert fault(answer) == (400, "invalid_multipart", None)
    assert server.left() == []


def test_a_form_needs_a_boundary(server):
    assert fault(_raw(server, b"x", "multipart/form-data")) == (400, "invalid_multipart", None)


@pytest.mark.parametrize("second", ["prompt", "prompt[a]", "prompt[]"])
def test_a_field_twice(server, second):
    body = _part("prompt", "a") + _part(second, "b") + "--b--\r\n"
    param = second.replace("[a]", ".a").replace("[]", "")
    answer = _raw(server, body.encode(), "multipart/form-data; boundary=b")
    assert fault(answer) == (400, "invalid_value", param)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_content_types(server, kind):
    assert fault(_raw(server, b"x", kind)) == (415, "unsupported_content_type", None)


def test_too_many_bytes(server):
    large = b"x" * 3_000_000
    assert fault(_raw(server, large, "application/json")) == (413, "request_too_large", None)
    assert fault(_raw(server, large, "multipart/form-data; boundary=b")) == (413, "request_too_large", None)
    chunks = iter([large[:1_000_000]] * 3)
    headers = {"Content-Type": "application/json"}
    answer = server.client.post("/v1/videos", content=chunks, headers=headers)
    assert fault(answer) == (413, "request_too_large", None)
    text = _part("prompt", "x" * 1_600_000) + "--b--\r\n"
    answer = _raw(server, text.encode(), "multipart/form-data; boundary=b")
    assert fault(answer) == (413, "request_too_large", None)
    assert server.left() == []


def _socket(server, text: bytes) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    made = socket.create_connection((host, int(port)), timeout=20)
    made.sendall(text)
    return made


HEAD = b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


def test_a_body_that_stalls(server):
    with _socket(server, HEAD + b"{") as connection:
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408") and b"connection: close" in answer.lower()
    assert b'"request_timeout"' in answer and server.left() == []


def test_a_client_that_goes_away(server):
    _socket(server, HEAD + b"{").close()
    until = time.monotonic() + 5
    while server.left() and time.monotonic() < until:
        time.sleep(0.05)
    assert server.left() == []


def test_an_answer_that_comes_before_the_end_of_the_body_is_seen(server):
    head = HEAD.replace(b"100", b"90000000")
    with _socket(server, head) as connection:
        connection.sendall(b"x" * 3_000_000)
        assert b"413" in connection.recv(65536)
