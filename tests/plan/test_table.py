"""docs/tpu.md and the file of its rows; a stand-in plans them."""

import dataclasses
import json

import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import SILENT
from talkverse_jax.plan import table, table_rows
from talkverse_jax.plan.options import TableOptions
from talkverse_jax.plan.table_cases import Case, cases, chosen
from talkverse_jax.plan.table_page import markdown, page_of
from talkverse_jax.plan.table_rows import Figures, TableRow
from tests.conftest import CONFIGS

PAGE = CONFIGS.parent / "docs" / "tpu.md"
STEP = Figures(12.18, 33.54, True, 50.12, "compute", 0.0048, 1.814, 41.9, 98.0, 4.9, 0.51, 70.6)
ROW = TableRow("2026-11-28", "1.2.3", "0.1.2", "data=2, ulysses=4", 8, "640x640", 50, {"step": STEP})


def made(case: Case, dump: None) -> TableRow:
    """Another row than that of the page."""
    return ROW if case.batch is None else dataclasses.replace(ROW, programs={"update": STEP})


def line(page: str, *cells: str) -> list[str]:
    """The first line of a page that begins so."""
    start = f"| {' | '.join(cells)} | "
    return next(each for each in page.splitlines() if each.startswith(start)).strip("| ").split(" | ")


def test_the_page_is_that_of_its_rows():
    kept = table_rows.read(PAGE.with_suffix(".json"))
    assert page_of(kept) == PAGE.read_text(encoding="utf-8")
    assert kept.keys() <= {case.key for case in cases()}


def test_rows_are_what_was_written(tmp_path):
    path, clip = tmp_path / "tpu.json", dataclasses.replace(ROW, programs={"step": STEP, "decode": STEP}, note="small")
    assert table_rows.read(path) == {}
    rows = {"v6e-8 sample_480": clip, "H100-1 sample_480": dataclasses.replace(ROW, libtpu=None)}
    table_rows.write(path, rows | {"v9-8 sample_480": ROW})  # which is no row any more
    assert table_rows.read(path) == rows


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": {"v6e-8": {}}}', '{"rows": {"v6e-8": {"programs": {}}}}'])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "tpu.json").write_text(text)
    with pytest.raises(UserError, match=r"tpu\.json: does not hold the page's rows"):
        table.run(TableOptions(str(tmp_path / "tpu.md")), SILENT, None, made)


@pytest.mark.parametrize(
    ("only", "count"),
    [
        ("v6e-1", 3),  # and none of v6e-16
        ("v5e-4 sample_480 data=2,context=2", 1),
        ("v6e-8 train", 2),
        ("v6e-8 sample_480", 1),
    ],
)
def test_rows_by_name_and_by_their_beginning(only, count):
    found = chosen((only,))
    assert len(found) == count and all(case.key.startswith(only) for case in found)


def test_a_beginning_that_no_row_has():
    with pytest.raises(UserError, match="v9: no row begins so; they begin with v5e-1, v5e-4"):
        chosen(("v5e-1", "v9"))


def test_all_rows_are_of_one_name_each():
    assert len({case.key for case in cases()}) == len(cases()) == len(chosen(()))


def test_one_row_is_renewed_and_the_others_stay(tmp_path):
    page, kept = tmp_path / "tpu.md", tmp_path / "tpu.json"
    before = PAGE.with_suffix(".json").read_text()
    kept.write_text(before)
    table.run(TableOptions(str(page), ("v6e-8 sample_480",)), SILENT, None, made)
    rows, now = (json.loads(text)["rows"] for text in (before, kept.read_text()))
    assert now.pop("v6e-8 sample_480")["libtpu"] == "0.1.2"
    assert now == {key: row for key, row in rows.items() if key != "v6e-8 sample_480"}
    cells = line(page.read_text(), "v6e-8", "data=2, ulysses=4")
    assert cells[2:7] == ["12.2 of 33.5", "yes", "0.5%", "1.81", "compute"]
    assert cells[7:] == ["50.1 ms", "98.0 ms", "51.0%", "5.0%", "2.51 s", "20.0", cells[-1]]
    assert cells[-1] == "2026-11-28, jaxlib 1.2.3, libtpu 0.1.2"


def test_what_is_interrupted_keeps_the_finished_rows(tmp_path):
    count = 0

    def stopped(case: Case, dump: None) -> TableRow:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return made(case, dump)

    with pytest.raises(KeyboardInterrupt):
        table.run(TableOptions(str(tmp_path / "tpu.md")), SILENT, None, stopped)
    rows = table_rows.read(tmp_path / "tpu.json")
    assert list(rows) == [case.key for case in cases()[:2]]
    assert (tmp_path / "tpu.md").read_text() == page_of(rows)
    table.run(TableOptions(str(tmp_path / "tpu.md")), SILENT, None, made)
    assert len(table_rows.read(tmp_path / "tpu.json")) == len(cases())


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_planned(tmp_path):
    with pytest.raises(UserError, match=r"tpu\.json: here its rows are kept; give the page"):
        TableOptions(str(tmp_path / "tpu.json"))
    with pytest.raises(UserError, match="there is no such folder; make it or give another path"):
        TableOptions(str(tmp_path / "none" / "tpu.md"))


def test_columns_that_are_empty_are_left_out():
    assert markdown([{"a": "1", "b": "", "c": ""}, {"a": "", "b": "", "c": "2"}]) == (
        "| a | c |\n| --- | --- |\n| 1 |  |\n|  | 2 |\n"
    )
    assert markdown([]) == ""
