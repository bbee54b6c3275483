"""A video is given instead of a picture, and its person says something else, or the same again."""

import pytest

from tests.serve.page.visit import PICTURE, Server, Visit
from tests.videos import write_video

pytestmark = pytest.mark.slow


def test_a_video_with_sound_is_dubbed(chromium, weights, tmp_path):
    talk = write_video(tmp_path / "talk.mp4", 1.2, size=(96, 128))
    mute = write_video(tmp_path / "mute.mp4", 1.2, sound=None)
    server = Server(weights, tmp_path / "data", "--config", "demo", "--sample_steps", "2")
    try:
        server.start("listening")
        visit = Visit(chromium, server.url)
        page = visit.page
        visit.wait_for("loading", "idle")
        page.locator("#settings summary").click()
        page.set_input_files("#image", PICTURE)
        for name in ("dubbing-noise", "video-end"):
            assert page.locator(f"#{name}").is_hidden()
        page.fill("#prompt", "A person talks.")
        make = page.get_by_role("button", name="Make video")
        make.click()
        page.wait_for_selector("#audio[aria-invalid=true]")  # a picture says nothing

        page.set_input_files("#image", mute)
        make.click()
        page.wait_for_selector("#image[aria-invalid=true]")
        assert "no sound" in page.locator("#image-wrong").inner_text()

        page.set_input_files("#image", talk)
        assert page.locator("#image-preview").evaluate("each => each.localName") == "video"
        for name in ("dubbing-noise", "video-end"):
            assert page.locator(f"#{name}").is_visible()
        page.fill("#dubbing-noise", "0.5")
        page.get_by_label("After the end of the video to dub").select_option("loop")
        visit.check()
        make.click()
        visit.wait_for("running", "playing", "completed")
        visit.check()
        visit.wait_for("completed")
        assert abs(visit.player()["duration"] - 1.2) < 0.05
        made = page.evaluate("id => fetch(`/v1/videos/${id}`).then(answer => answer.json())", visit.shown_id())
        assert made["inputs"]["image"]["kind"] == made["inputs"]["audio"]["source"] == "video"
        assert made["settings"]["dubbing_noise_strength"] == 0.5 and made["settings"]["video_end"] == "loop"
        visit.close()
    finally:
        server.stop()
