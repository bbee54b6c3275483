"""Downloads from a small hub on this machine."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from talkverse_jax.cli import convert as command
from talkverse_jax.convert import hub
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Bar, Reporter
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.published import ADAPTER, VAE_FILE, WAN, WAV2VEC2

ROOT = Path(__file__).parent.parent.parent
COMMIT = "0123456789" * 4


class _Hub(ThreadingHTTPServer):
    """Serves files as the Hugging Face hub's `resolve` route does, ranges included.

    Attributes:
      files: by "owner/name/path".
      asked: (method, file, Range header) of every request.
      closed: repositories to which only those with access are let.
      cut: a file's transfer that breaks off after so many bytes, once.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, Path]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.asked: list[tuple[str, str, str | None]] = []
        self.closed: set[str] = set()
        self.cut: dict[str, int] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Hub

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *_):
        pass

    def _answer(self, body: bool):
        owner, name, _, _, *rest = self.path.strip("/").split("?")[0].split("/")
        repo, file = f"{owner}/{name}", "/".join([owner, name, *rest])
        self.server.asked.append((self.command, file, self.headers.get("Range")))
        if repo in self.server.closed:
            return self._refuse(403, "GatedRepo")
        if not any(known.startswith(repo + "/") for known in self.server.files):
            return self._refuse(404, "RepoNotFound")
        if file not in self.server.files:
            return self._refuse(404, "EntryNotFound")
        data = self.server.files[file].read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body:
            end = self.server.cut.pop(file, len(data))
            self.wfile.write(data[start:end])
            self.close_connection = end < len(data)

    def _refuse(self, status: int, code: str):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_random_checkpoint(FAMILY, folder, FAMILY.configs_from_toml(ROOT / "configs" / "model_tiny.toml"), seed=0)
    return folder


@pytest.fixture
def server(checkpoint, monkeypatch):
    homes = {
        WAN.name: checkpoint / WAN.folder,
        WAV2VEC2.name: checkpoint / WAV2VEC2.folder,
    }
    files = {
        f"{repo}/{path.relative_to(home)}": path
        for repo, home in homes.items()
        for path in home.rglob("*")
        if path.is_file()
    }
    for optional in ("special_tokens_map.json", "spiece.model"):
        files[f"{WAN.name}/google/umt5-xxl/{optional}"] = checkpoint / WAV2VEC2.folder / "config.json"
    files[f"{ADAPTER.repository}/{ADAPTER.file}"] = checkpoint / ADAPTER.file
    server = _Hub(files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_everything(checkpoint, server, tmp_path):
    flags = hub.download(FAMILY, tmp_path, ("dit", "vae", "text", "audio"))
    assert flags == {
        "ckpt_dir": str(tmp_path / "Wan2.2-TI2V-5B"),
        "lora_ckpt": str(tmp_path / ADAPTER.file),
        "wav2vec_dir": str(tmp_path / WAV2VEC2.folder),
    }
    for path in checkpoint.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(checkpoint)).read_bytes() == path.read_bytes()
    assert {file for _, file, _ in server.asked} == set(server.files)


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    hub.download(FAMILY, tmp_path, ("audio",))
    server.asked.clear()
    hub.download(FAMILY, tmp_path, ("audio",))
    assert not [file for method, file, _ in server.asked if method == "GET"]


def test_only_what_the_components_need(server, tmp_path):
    assert hub.download(FAMILY, tmp_path, ("vae",)) == {"ckpt_dir": str(tmp_path / "Wan2.2-TI2V-5B")}
    assert {file for _, file, _ in server.asked} == {f"{WAN.name}/{VAE_FILE}"}


def test_progress_is_told_and_not_drawn(server, tmp_path, capfd):
    told: dict[str, float] = {}

    class Listening(Reporter):
        @contextmanager
        def bar(self, total, what, unit="", done=0):
            class Counting(Bar):
                def update(self, count=1):
                    told[what] = told.get(what, 0) + count

            yield Counting()

    hub.download(FAMILY, tmp_path, ("vae",), Listening())
    assert told == {VAE_FILE: (tmp_path / WAN.folder / VAE_FILE).stat().st_size}
    assert capfd.readouterr() == ("", "")


def test_a_broken_transfer_goes_on_where_it_stopped(server, tmp_path):
    file, source = f"{WAN.name}/{VAE_FILE}", tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 100_000)  # 25 MB; the hub's library keeps every 10 MB
    server.files[file], server.cut[file] = source, 22_000_000
    try:
        hub.download(FAMILY, tmp_path, ("vae",))
    except UserError as error:  # the hub's library may give up, or go on by itself
        assert "run this again" in str(error)
        hub.download(FAMILY, tmp_path, ("vae",))
    assert (tmp_path / "Wan2.2-TI2V-5B" / VAE_FILE).read_bytes() == source.read_bytes()
    ranges = [part for method, _, part in server.asked if method == "GET"]
    assert len(ranges) == 2 and int(ranges[1].removeprefix("bytes=").split("-")[0]) >= 10_000_000


def test_gated_missing_and_unreachable(server, tmp_path, monkeypatch):
    server.closed.add(ADAPTER.repository)
    with pytest.raises(UserError, match="snap-research/talkverse-s2v-5b/.*: the repository is gated"):
        hub.download(FAMILY, tmp_path, ("dit",))
    del server.files[f"{WAN.name}/{VAE_FILE}"]
    with pytest.raises(UserError, match=r"Wan2.2_VAE\.pth: the repository has no such file"):
        hub.download(FAMILY, tmp_path, ("vae",))
    server.files.clear()
    with pytest.raises(UserError, match="wav2vec2-large-xlsr-53-english/config.json: no such repository"):
        hub.download(FAMILY, tmp_path, ("audio",))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the library's attempts
    with pytest.raises(UserError, match="the hub cannot be reached; check the network") as error:
        hub.download(FAMILY, tmp_path, ("vae",))
    assert "\n" not in str(error.value)


def test_download_and_convert(server, tmp_path):
    arguments = ["--download", tmp_path / "hub", "--output", tmp_path / "w", "--components", "audio"]
    config = ["--config", ROOT / "configs" / "model_tiny.toml"]
    command.main([*map(str, arguments + config)], "convert")
    assert json.loads((tmp_path / "w" / "manifest.json").read_text())["components"].keys() == {"audio"}
