"""Lists as people and their programs write them."""

import json

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.batch import items
from talkverse_jax.run.batch.items import Base, read_list

BASE = Base("talkverse", Weights(weights=""), Machine(), {})
ITEM = {"image": "a.png", "audio": "a.wav"}


def read(tmp_path, data: str | bytes):
    path = tmp_path / "list.jsonl"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_list(str(path), BASE)


def line(**values) -> str:
    return json.dumps(ITEM | {"prompt": "Talks."} | values, ensure_ascii=False)


def prompts(found) -> list[str]:
    assert [item.error for item in found] == [None] * len(found)
    return [item.job.settings.prompt for item in found]


def test_a_prompt_may_hold_what_unicode_calls_the_end_of_a_line(tmp_path):
    said = ["one\u2028two\u2029three", "four\x85five"]
    rows = [line(prompt=text) for text in said]
    assert prompts(read(tmp_path, "\n".join(rows))) == said
    escaped = "six\x0bseven\x0ceight\x1cnine\x1dten\x1e"  # JSON writes these as escapes
    assert prompts(read(tmp_path, f"\r\n{line(prompt=escaped)}\r\n\r\n{rows[0]}\r\n")) == [escaped, said[0]]
    assert prompts(read(tmp_path, "\r".join(rows))) == said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("whole", [False, True])
def test_encodings_and_marks(tmp_path, encoding, whole):
    text = f"[{line(prompt='Zoë 你好')}]" if whole else line(prompt="Zoë 你好")
    assert prompts(read(tmp_path, text.encode(encoding))) == ["Zoë 你好"]


@pytest.mark.parametrize(
    "data, message",
    [
        (line() + "\n" + line(prompt="Zoë"), "list.jsonl line 2: byte 0xeb is not UTF-8; save it as plain text"),
        ("{'image': 1}\n{'image': 2}", "list.jsonl line 1, column 2: not JSON"),
        (f"[\n{line()}\n{line()}\n]", "list.jsonl line 3, column 1: not JSON (Expecting ',' delimiter)"),
        ('{"image": "people\\ann.png"}', "list.jsonl line 1, column 18: not JSON (Invalid \\escape)"),
        ('{"prompt": "a", "prompt": "b"}', "list.jsonl line 1: an object has the key 'prompt' twice; give it once"),
        (line(sample_shift=float("nan")), "list.jsonl line 1: NaN is no number of JSON"),
        ("[" * 10_000, "list.jsonl: nested too deeply"),
        ("", "list.jsonl: no items in it; give one object a video"),
        ("\ufeff\n \n", "list.jsonl: no items in it; give one object a video"),
        (line(id="Zoë") + "\n" + line(id="Zoe\u0308"), "list.jsonl: two items have the id 'Zoe\u0308'"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_line(tmp_path, data, message):
    with pytest.raises(UserError) as error:
        read(tmp_path, data.encode("cp1252") if "ë" in data and "\u0308" not in data else data)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "row, message",
    [
        ("{'image': 1}", "list.jsonl line 2, column 2: not JSON"),
        ('{"id": “x”}', 'list.jsonl line 2, column 8: not JSON (Expecting value); write straight quotes (")'),
        ("[" * 100_000, "list.jsonl line 2: nested too deeply"),
        ('{"id": ' + "[" * 100_000, "list.jsonl line 2: nested too deeply"),
        ('{"id": "a", "id": "b"}', "list.jsonl line 2: an object has the key 'id' twice"),
        ("7", "7: not an object; give image, audio and prompt by their names"),
        ("[1, 2]", "[1, 2]: not an object"),
        (line(prompt="x" * 10_001), "item: prompt: has 10,001 characters; give 10,000 or fewer (512 tokens count"),
        (line(prompt="&amp;" * 16_000), "item: prompt: has 80,000 characters"),
        (line(negative_prompt=" " * 5_000_000), "item: negative_prompt: has 5,000,000 characters"),
        (line(prompt="a\0b"), "item: prompt: 'a\\x00b': has a character 0; leave it out"),
        ('{"image": "a.png", "prompt": "\\ud83d"}', "item: prompt: '\\ud83d': has bytes that are not UTF-8, or half a"),
        (
            '{"image": "C:\\new\\tom.png", "prompt": ""}',
            "C:\\new\\tom.png': has a line break or a tab; in TOML and JSON",
        ),
        (line(image="D:\\people\\ann.png"), "'D:\\\\people\\\\ann.png': a path of Windows; give one that starts"),
        (line(image=r"\\nas\ann.png"), "a path of Windows"),
        (line(image=""), "a path is empty; name the file, or leave it out"),
        (line(id="\ud83d").encode("utf-8", "replace").decode(), None),  # a question mark is a name
        ('{"id": "\\ud83d"}', "id '\\ud83d': no name for files; it has U+D83D"),
        (line(id={"a": 1}), "id {'a': 1}: no name for files; give a text or a number"),
        (line(id=[[]]), "id [[]]: no name for files"),
        (
            '{"image": "\\ud83d.png", "audio": "a.wav", "prompt": ""}',
            "/\\ud83d.png': has bytes that are not UTF-8, or half a character; rename it",
        ),
        (line(image=[["a"]]), "item: image: expected str"),
        (line(prompt=["a"]), "item: prompt: expected str"),
    ],
)
def test_a_bad_item_is_one_line_and_leaves_the_others(tmp_path, row, message):
    good, bad = read(tmp_path, f"{line()}\n{row}\n")
    assert good.error is None
    if message is None:
        assert bad.error is None
    else:
        assert message in bad.error and "\n" not in bad.error


def test_a_bad_first_line_is_one_item_too(tmp_path):
    """A line that begins like a list makes none of the file."""
    bad, good, _ = read(tmp_path, "[1, 2]\n" + line() + "\n" + line())
    assert "not an object" in bad.error and good.error is None
    bad, good, _ = read(tmp_path, "[" * 100_000 + "\n" + line() + "\n" + line())
    assert bad.error.endswith("line 1: nested too deeply; give plain values") and good.error is None


def test_what_nobody_foresaw_stays_in_its_item(tmp_path, monkeypatch):
    build = items.options.build

    def fails(groups, values, where):
        if values["prompt"] == "odd":
            raise LookupError("of the program")
        return build(groups, values, where)

    monkeypatch.setattr(items.options, "build", fails)
    good, bad = read(tmp_path, line() + "\n" + line(id="b", prompt="odd"))
    assert good.error is None
    assert (bad.id, bad.error) == ("b", "LookupError: of the program") and "Traceback" in bad.trace


def test_paths_of_windows_below_the_list(tmp_path):
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "ann.png").touch()
    [item] = read(tmp_path, line(image="people\\ann.png"))
    assert item.job.files.image == f"{tmp_path}/people/ann.png"
