"""One server for all tests of a process; each test takes what it makes away, or does not mind."""

import pytest

from tests.serve.http.files_server import serving_files
from tests.serve.http.serving import serving


@pytest.fixture(scope="session")
def files():
    """The port of a server of files."""
    with serving_files() as port:
        yield port


@pytest.fixture(scope="session")
def server(tiny_weights, tmp_path_factory, files):
    limits = {"max_sound_seconds": 20, "max_image_pixels": 1_000_000, "max_json_bytes": 1_500_000}
    limits |= {"max_upload_bytes": 2_500_000, "upload_timeout": 1, "heartbeat_seconds": 0.3, "max_queue_per_key": 100}
    more = {"size_buckets": ["tiny-128", "fasttalk-480"], "allowed_origins": ["https://page.example"]}
    more["allowed_url_hosts"] = [f"127.0.0.1:{files}", f"localhost:{files}", "name.invalid"]
    more |= {"served_model_name": "shown,alias"}
    with serving(tmp_path_factory.mktemp("data"), tiny_weights, **limits, **more) as made:
        yield made


@pytest.fixture
def clean(server):
    """The server, whose jobs of the test go with it."""
    yield server
    for record in server.jobs.list("anonymous", 100)[0]:
        server.jobs.delete("anonymous", record.id)
