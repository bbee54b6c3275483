"""A server's options: checks, and what follows from them."""

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build
from talkverse_jax.serve.options import ServeOptions


def _options(**values) -> ServeOptions:
    return build({"serve": ServeOptions}, values, "test")["serve"]


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("port", 65536, "give a number from 0 to 65535"),
        ("max_upload_bytes", 0, "give 1 or more"),
        ("max_queue", -1, "give 0 or more"),
        ("heartbeat_seconds", 0, "give a number above 0"),
        ("upload_timeout", float("nan"), "give a number"),
        ("max_image_pixels", 200_000_000, "give a number from 1 to 178000000"),
        ("served_model_name", "a,,b", "give NAME or NAME,ALIAS"),
        ("allowed_hosts", ["http://a"], "such as talk.example.org"),
        ("allowed_origins", ["example.org"], "such as https://example.org"),
        ("allowed_url_hosts", ["user@a"], "such as files.example.org"),
        ("api_key", [" "], "a key is empty"),
        ("size_buckets", ["huge"], "no such bucket; there are"),
    ],
)
def test_what_cannot_be_is_told(name, value, said):
    with pytest.raises(UserError, match=said) as raised:
        _options(**{name: value})
    assert raised.value.field == name


@pytest.mark.parametrize(
    "host, local",
    [("127.0.0.1", True), ("127.1.2.3", True), ("LOCALHOST", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_local(host, local):
    assert _options(host=host).is_local is local


def test_names_and_buckets_have_the_usual_one_first():
    assert _options().names("some") == ("some",)
    assert _options(served_model_name="a, b").names("some") == ("a", "b")
    assert _options(size_buckets=["tiny-128", "fasttalk-720"]).buckets("fasttalk-720") == ("fasttalk-720", "tiny-128")
