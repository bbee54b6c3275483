"""One call that improves a prompt: what is sent, what is taken, what is refused."""

import base64
import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.helpers import prompt
from talkverse_jax.helpers.errors import UpstreamError
from talkverse_jax.helpers.prompt import PromptOptions
from talkverse_jax.helpers.prompt.instruction import digest, instruction
from tests.helpers.stub import Answer, chat, stub
from tests.processes import ROOT

FACE = ROOT / "assets/face.png"


def enhancer(url, **options):
    return prompt.open(PromptOptions(prompt_extend_url=url, prompt_extend_model="seer", **options))


def test_the_call(monkeypatch):
    monkeypatch.setenv("TALKVERSE_PROMPT_EXTEND_API_KEY", "secret")
    picture = np.random.default_rng(0).integers(0, 256, (400, 1000, 3), np.uint8)
    with stub(lambda asked: chat(" A calm shot.\nShe talks. ")) as server:
        made = enhancer(server.url + "/").enhance("She talks.", picture)
        chinese = enhancer(server.url).enhance("", lang="zh")
    first, second = server.asked
    assert (first.path, first.headers["Authorization"]) == ("/v1/chat/completions", "Bearer secret")
    told, wish = first.body.pop("messages")
    assert first.body == {"model": "seer", "temperature": 0, "max_tokens": 512, "stream": False}
    assert told == {"role": "system", "content": instruction("en")}
    assert wish["role"] == "user" and wish["content"][0] == {"type": "text", "text": "She talks."}
    head, _, data = wish["content"][1]["image_url"]["url"].partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
        assert (head, sent.format, sent.size) == ("data:image/jpeg;base64", "JPEG", (768, 307))
    assert (made.prompt, made.model, made.lang) == ("A calm shot. She talks.", "seer", "en")
    assert made.instruction == hashlib.sha256(told["content"].encode()).hexdigest()[:12] == digest("en")
    assert "Reply in Chinese" in second.body["messages"][0]["content"]
    assert second.body["messages"][1]["content"] == [{"type": "text", "text": ""}]
    assert (chinese.lang, chinese.instruction) == ("zh", digest("zh"))


@pytest.mark.parametrize(
    "answer",
    [
        chat("cut sho", "length"),
        chat(" \n\x07 "),
        chat("x" * 4001),
        chat(None),
        chat(["x"]),
        chat("half \ud800"),
        Answer(b"my secret"),
        Answer(b"[" * 100_000),
        Answer(b'{"choices": []}'),
        Answer(b'{"choices": [{"message": {"content": "x"}}]}'),
    ],
)
def test_what_is_no_prompt(answer):
    with (
        stub(lambda asked: answer) as server,
        pytest.raises(UpstreamError, match="no prompt that can be used") as error,
    ):
        enhancer(server.url).enhance("She talks.")
    assert "secret" not in str(error.value)


def test_the_longest_prompt_is_taken():
    with stub(lambda asked: chat("x" * 4000)) as server:
        assert len(enhancer(server.url).enhance("She talks.").prompt) == 4000


def test_pictures_are_read(tmp_path):
    large = tmp_path / "large.png"
    Image.new("RGB", (800, 1600)).save(large)
    assert prompt.read_picture(large).shape == (768, 384, 3)
    with Image.open(FACE) as face:
        assert prompt.read_picture(FACE).shape[:2] == face.size[::-1]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"prompt_extend_url": "http://a/v1"}, "--prompt_extend_url needs --prompt_extend_model"),
        ({"prompt_extend_model": "a"}, "--prompt_extend_model needs --prompt_extend_url"),
        ({"prompt_extend_method": "dashscope"}, "start an OpenAI-compatible server and give --prompt_extend_url"),
        ({"prompt_extend_timeout": 0.0}, "--prompt_extend_timeout 0.0: give seconds above 0"),
    ],
)
def test_options_that_do_not_go(options, said):
    with pytest.raises(UserError, match=said):
        PromptOptions(**options)


def test_off_unless_an_endpoint_is_given():
    assert prompt.open(PromptOptions()) is None
