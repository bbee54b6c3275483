"""A server with the toy model, and a browser that visits its page."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, free_address

TOY = ROOT / "assets" / "toy"
PICTURE, SOUND = ROOT / "assets" / "face.png", ROOT / "assets" / "speech.flac"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

_READY = 180.0  # seconds for models to load on two cores that others use too


def convert_toy(folder: Path) -> Path:
    """The weights of `make demo`."""
    words = ["--config", "model_toy", "--ckpt_dir", TOY / "Wan2.2-TI2V-5B", "--output", folder]
    words += ["--lora_ckpt", TOY / "talkverse_s2v_5b.safetensors"]
    words += ["--wav2vec_dir", TOY / "wav2vec2-large-xlsr-53-english"]
    subprocess.run([sys.executable, "-m", "talkverse_jax", "convert", *words], check=True, cwd=ROOT, env=_environ())
    return folder


def _environ() -> dict[str, str]:
    # The optimisations are worth their time here: whole videos are made.
    found = {name: value for name, value in os.environ.items() if name != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    return found | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}


class Server:
    """`talkverse-jax serve`; it can be stopped and started again at the same place.

    Args:
      folder: for its jobs.
    """

    def __init__(self, weights: Path, folder: Path, *flags: str):
        self.url = f"http://{free_address()}"
        port = self.url.rpartition(":")[2]
        self._command = [sys.executable, "-m", "talkverse_jax", "serve", "--weights", weights]
        self._command += ["--port", port, "--data_dir", folder, *flags]
        self._log = folder.with_suffix(".log")
        self._lines: queue.Queue[str] = queue.Queue()
        self._process: subprocess.Popen | None = None

    def start(self, until: str = "ready") -> None:
        """Raises:
        AssertionError: it ended, or did not say `until` in time.
        """
        with self._log.open("a") as log:
            pipes = dict(stdout=subprocess.PIPE, stderr=log, text=True)
            process = subprocess.Popen(self._command, cwd=ROOT, env=_environ(), **pipes)
        self._process = process
        lines = self._lines = queue.Queue()

        def read():
            for line in process.stdout or ():
                lines.put(line)
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        self.wait_for(until)

    def wait_for(self, words: str) -> None:
        """Wait for a line that it prints."""
        end = time.monotonic() + _READY
        while words not in (line := self._lines.get(timeout=end - time.monotonic())):
            assert line, f"the server ended before it said {words!r}: {self._log.read_text()[-2000:]}"

    def ask_to_stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit code."""
        assert self._process is not None
        return self._process.wait(timeout=90)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.ask_to_stop()
            try:
                self.wait()
            finally:
                self._process.kill()
                self._process.wait()


@contextmanager
def browser(*more: str) -> Iterator[Any]:
    """A headless Chromium with a microphone that peeps.

    Args:
      more: of its flags.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium; install Debian's package chromium")
    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", *more]
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


# Every state that the page was in.
_WATCH = """
window.states = [];
const note = () => {
  const state = document.body?.dataset.state;
  if (state && state !== window.states.at(-1)) window.states.push(state);
};
new MutationObserver(note).observe(document, {subtree: true, childList: true, attributeFilter: ["data-state"]});
"""


_PLAYER = """() => {
  const {currentTime, duration, paused, ended, currentSrc, error} = document.getElementById("player");
  return {at: currentTime, duration, paused, ended, source: currentSrc, error: error && error.message};
}"""

_SMALL = """targets => [...document.querySelectorAll(targets)]
  .filter(each => each.checkVisibility())
  .filter(each => each.getBoundingClientRect().height < 43.9 || parseFloat(getComputedStyle(each).fontSize) < 16)
  .map(each => each.id || each.textContent)"""


class Visit:
    """A tab with the page."""

    def __init__(self, browser: Any, url: str, width: int = 1280, scheme: str = "light"):
        height = 900 if width > 600 else 640
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.faults: list[str] = []
        self.urls: set[str] = set()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.urls.add(request.url))
        self.page.add_init_script(_WATCH)
        self.url = url
        self.page.goto(url)

    def _note(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.faults.append(message.text)

    @property
    def state(self) -> str:
        return self.page.evaluate("document.body.dataset.state")

    @property
    def states(self) -> list[str]:
        """All since it was loaded."""
        return self.page.evaluate("window.states")

    def wait_for(self, *states: str, seconds: float = 120) -> None:
        chosen = ",".join(f"body[data-state={state}]" for state in states)
        self.page.wait_for_selector(chosen, timeout=seconds * 1000)

    def fill(self, prompt: str) -> None:
        """Picture, sound and prompt."""
        self.page.set_input_files("#image", PICTURE)
        self.page.set_input_files("#audio", SOUND)
        self.page.fill("#prompt", prompt)

    def shown_id(self) -> str:
        """The id of the video that is shown: it is marked in the list."""
        return self.page.locator("#jobs li.shown").get_attribute("data-video-id")

    def player(self) -> dict[str, Any]:
        return self.page.evaluate(_PLAYER)

    def check(self) -> None:
        """What must hold in every state: axe, no sideways scrolling, large targets and letters."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response
        assert found["passes"]
        serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
        assert not serious, (self.state, [(each["id"], each["nodes"][0]["target"]) for each in serious])
        page = self.page
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        targets = "button, a, select, textarea, summary, .choices label, input:not([type=radio], [type=checkbox])"
        small = page.evaluate(_SMALL, targets)
        assert not small, (self.state, small)

    def close(self) -> None:
        """Raises:
        AssertionError: the page had a fault, or asked another server for something.
        """
        self.context.close()
        assert not self.faults
        assert all(url.startswith((self.url, "blob:")) for url in self.urls), self.urls
