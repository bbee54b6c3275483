"""The page's live mode: a browser's microphone that speaks, and a picture that answers."""

import pytest
import soundfile

from tests.serve.page.visit import PICTURE, SOUND, Server, Visit, browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def speaking(tmp_path_factory):
    """A Chromium whose microphone says the demo's sentence again and again."""
    samples, rate = soundfile.read(SOUND, dtype="int16")
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    soundfile.write(path, samples, rate)
    with browser(f"--use-file-for-fake-audio-capture={path}") as found:
        yield found


@pytest.fixture(scope="module")
def server(weights, tmp_path_factory):
    made = Server(
        weights,
        tmp_path_factory.mktemp("server") / "data",
        "--config",
        "demo",
        "--sample_steps",
        "2",
        "--decode_context",
        "4",
    )
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_one_speaks_and_the_picture_follows(speaking, server, tmp_path):
    visit = Visit(speaking, server.url)
    try:
        visit.wait_for("idle")
        page = visit.page
        page.set_input_files("#image", PICTURE)
        page.get_by_role("radio", name="Live").check()
        page.get_by_label("Prompt", exact=True).fill("A person with parted black hair talks to the camera.")
        visit.check()
        page.get_by_role("button", name="Begin").click()
        visit.wait_for("live")
        page.wait_for_selector("text=/Speak/", timeout=300_000)
        page.wait_for_function("document.getElementById('player').currentTime > 4", timeout=120_000)
        now = visit.player()
        assert now["error"] is None and not now["paused"]
        page.wait_for_selector("text=/the picture follows after/", timeout=120_000)
        visit.check()
        page.screenshot(path=str(tmp_path / "live.png"))
        page.get_by_role("button", name="Stop").click()
        visit.wait_for("idle")
    finally:
        visit.close()
