"""Whatever stands in a list, a table or a TOML file: it is used, or refused in one line, within 10 s and 1 GB."""

import json
import resource
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from talkverse_jax.core import presets
from talkverse_jax.core.config import load_toml
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import build
from talkverse_jax.data.catalogue import VideoRules, make_catalogue
from talkverse_jax.data.metadata import longest_scene, read_metadata
from talkverse_jax.data.windows import Lengths
from talkverse_jax.families.talkverse import settings as family
from talkverse_jax.models.vae.config import Strides
from talkverse_jax.pipeline.encoders import clean_prompt
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.sharding.mesh_config import MeshConfig

GROUPS = {"files": family.Files, "settings": family.Settings}
BASE = Base("talkverse", Weights(weights=""), Machine(), {})
RULES = VideoRules("tiny-128", Lengths(8, 4, strides=Strides(4, 16)), roi=True)

# What programs, keyboards and mishaps put into texts.
ODD = [
    *"\u2028\x85\x0b\x0c\x1c\x1e\r\n\t\0\ufeff\ud800\udce9é“”\"',;\\{}[]=:#", "e\u0301", "\r\n", '""', "'''", '"""',
    "\\u", "\\ud83d", "\\n", "C:\\", "NaN", "1e999", "-0", "null", "true", "1979-05-27", "&amp;" * 9, "{here}/", "../",
    "~nobody-here/", "://", "sep=;", 
]  # fmt: skip
OPTIONS = ["image", "audio", "prompt", "negative_prompt", "id", "seed", "base_seed", "num_clip", "sample_shift", "fsdp"]
COLUMNS = ["video_path", "caption", "fps", "FPS", "scenes", "roi_path", " caption ", "", '"caption"']

ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "gbk"]

counts = st.integers(0, 4)
many = st.tuples(st.sampled_from(["[", '{"a":', "9", "x", "a."]), st.sampled_from([400, 5000])).map(
    lambda made: made[0] * made[1]
)
pieces = st.one_of(st.sampled_from(ODD), many, st.text(max_size=8), st.integers().map(str), st.floats().map(str))
texts = st.lists(pieces, max_size=5).map("".join)
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


def files(lines: st.SearchStrategy[list[str]]) -> st.SearchStrategy[bytes]:
    """Files of such lines in some encoding, some of them damaged."""

    @st.composite
    def made(draw) -> bytes:
        text = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])).join(draw(lines))
        data = text.encode(draw(st.sampled_from(["utf-8"] * 9 + ENCODINGS)), "replace")
        if draw(st.integers(0, 9)):
            return data
        cut = draw(st.integers(0, 200))
        return data[:cut] + draw(st.binary(max_size=4)) + data[cut:]

    return made() | st.binary(max_size=99)


def use_list(path: Path) -> None:
    for item in read_list(str(path), BASE):
        assert item.job or "\n" not in item.error
        json.dumps([item.id, item.error], ensure_ascii=False).encode()  # as results.jsonl has it
        if item.job:
            clean_prompt(item.job.settings.prompt)


def use_table(path: Path) -> None:
    rows = read_metadata([str(path)], str(path.parent))
    make_catalogue(rows, RULES, threads=1)
    assert all(0 <= frame < 99 for row in rows for frame in longest_scene(row.scenes, row.fps, 99))


def use_toml(path: Path) -> None:
    for use in (lambda: load_toml(MeshConfig, path), lambda: build(GROUPS, presets.read(path), str(path))):
        try:
            use()
        except UserError as error:
            assert "\n" not in str(error)


@st.composite
def list_lines(draw) -> list[str]:
    objects = st.dictionaries(st.sampled_from(OPTIONS) | texts, values, max_size=5)
    return [draw(texts) if draw(st.integers(0, 3)) == 0 else json.dumps(draw(objects)) for _ in range(draw(counts))]


@st.composite
def table_lines(draw) -> list[str]:
    separator, width = draw(st.sampled_from(",,;\t")), draw(st.integers(2, 8))
    cells = texts | texts.map(lambda text: f'"{text}"')
    header = draw(st.permutations(COLUMNS))[:width]
    rows = [
        draw(st.lists(cells, min_size=draw(st.sampled_from([0, width])), max_size=width)) for _ in range(draw(counts))
    ]
    return [separator.join(row) for row in (header, *rows)]


@st.composite
def toml_lines(draw) -> list[str]:
    right = texts | values.map(json.dumps) | texts.map(repr)
    keys = st.sampled_from(OPTIONS) | texts
    return [
        draw(texts) if draw(st.integers(0, 9)) == 0 else f"{draw(keys)} = {draw(right)}" for _ in range(draw(counts))
    ]


KINDS = {
    "list": (files(list_lines()), use_list),
    "table": (files(table_lines()), use_table),
    "toml": (files(toml_lines()), use_toml),
}


@pytest.mark.parametrize("batches, size", [(1, 60), pytest.param(10, 1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_text_is_used_or_refused_in_one_line(kind, batches, size, tmp_path):
    data, use = KINDS[kind]
    for number in range(batches):  # of one large batch hypothesis would remember a gigabyte
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KB
        check(data, use, number, size, tmp_path / "file")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


def check(data: st.SearchStrategy[bytes], use: Callable[[Path], None], number: int, size: int, path: Path) -> None:
    @seed(number)
    @settings(max_examples=size, deadline=timedelta(seconds=10), database=None, suppress_health_check=list(HealthCheck))
    @given(data)
    def every(content: bytes) -> None:
        path.write_bytes(content)
        try:
            use(path)
        except UserError as error:
            assert "\n" not in str(error)

    every()
