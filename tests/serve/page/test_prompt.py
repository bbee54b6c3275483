"""The button that improves a prompt, with an endpoint that says what the test wants."""

import pytest

from tests.helpers.stub import Answer, chat, stub
from tests.serve.page.visit import PICTURE, Server, Visit

pytestmark = pytest.mark.slow

_IS_SEEN = """each => {
  const {top, bottom} = each.getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight;
}"""


def test_a_prompt_is_improved_and_comes_back(chromium, weights, tmp_path):
    answers = [chat("A calm shot of a person who talks."), Answer(b"my secret", 500)]
    with stub(lambda asked: answers[len(endpoint.asked) - 1]) as endpoint:
        flags = ("--prompt_extend_url", endpoint.url, "--prompt_extend_model", "seer")
        server = Server(weights, tmp_path / "data", "--config", "demo", *flags)
        try:
            server.start("listening")
            visit = Visit(chromium, server.url, 320)
            page = visit.page
            visit.wait_for("loading", "idle")
            undo = page.get_by_role("button", name="Undo")
            assert undo.is_hidden()
            page.set_input_files("#image", PICTURE)
            page.fill("#prompt", "She talks.")
            page.get_by_role("button", name="Improve prompt").click()
            undo.wait_for()
            visit.check()
            assert page.input_value("#prompt") == "A calm shot of a person who talks."
            [words, picture] = endpoint.asked[0].body["messages"][1]["content"]
            assert words["text"] == "She talks." and picture["type"] == "image_url"
            undo.click()
            assert page.input_value("#prompt") == "She talks." and undo.is_hidden()

            page.get_by_role("button", name="Improve prompt").click()
            page.wait_for_selector("#error:not(:empty)")
            error = page.locator("#error").inner_text()
            assert "prompt" in error and "secret" not in error
            assert page.locator("#error").evaluate(_IS_SEEN)
            assert page.input_value("#prompt") == "She talks." and undo.is_hidden()
            visit.check()
            visit.close()
        finally:
            server.stop()
