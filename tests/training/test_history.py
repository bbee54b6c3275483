"""What a run does with data that have changed since its checkpoint."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from etils import epath

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data import ledger
from talkverse_jax.data.batches import WindowShape
from talkverse_jax.data.identity import Identity
from talkverse_jax.data.ledger import Ledger, Listed
from talkverse_jax.data.skipped import Skipped
from talkverse_jax.training.checkpoint import RunRecord
from talkverse_jax.training.feed import Data
from talkverse_jax.training.history import began_with, follow, keep
from talkverse_jax.training.video_options import VideoOptions

SHAPE = WindowShape(128, 128, "motion")
STOP, GO_ON = VideoOptions(), VideoOptions(data_changed="go_on")
FIRST = "abcdefgh"


@dataclass(frozen=True)
class Names:
    """A source whose samples are letters; a capital is the letter mended."""

    names: dict[int, str]

    def numbered(self, places) -> "Names":
        return Names({number: self.names[place] for number, place in places.items()})


def open_names(names: str) -> Data:
    listed = [Listed(Identity(name, "", ""), name.lower(), SHAPE) for name in names]
    known: Any = dict(encode=None, shared=(), accept=lambda: None, skipped=Skipped(None))
    begun = Ledger.of(listed)
    source: Any = Names(dict(enumerate(names)))
    return Data(source, begun.order(2, 0), listed, begun, digest_of_before=f"before {names}", **known)


def record(batch: int, data: str, began: str = "") -> RunRecord:
    return RunRecord(step=batch, batch=batch, run={"data": began}, norms=(), options={}, versions={}, data=data)


def seen(data: Data, start: int, end: int) -> str:
    source: Any = data.source
    return "".join(source.names[id.sample] for number in range(start, end) for id in data.plan[number].samples)


class Told(Reporter):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def folder(tmp_path) -> Any:
    return SimpleNamespace(folder=epath.Path(tmp_path))


def test_a_run_with_changed_data_is_refused(folder):
    before = open_names(FIRST)
    stopped = record(2, keep(before, folder))
    with pytest.raises(UserError) as caught:
        follow(open_names("abCdefgxy"), stopped, folder.folder, STOP, Reporter())
    assert str(caught.value) == (
        "the data are not those of step 2: of 8 samples 1 has a mended video, 1 is gone; 2 are new; give those, or "
        "--data_changed go_on: the rest of this epoch then shows what it has not shown"
    )


def test_rows_in_another_order_are_the_same_data(folder):
    before = open_names(FIRST)
    again = follow(open_names(FIRST[::-1]), record(2, keep(before, folder)), folder.folder, STOP, Reporter())
    assert seen(again, 2, 12) == seen(before, 2, 12)


def test_it_goes_on_when_told_and_resumes_as_it_would_have_gone_on(folder):
    before, changed, told = open_names(FIRST), open_names("xyabCdefg"), Told()
    first = keep(before, folder)
    half = seen(before, 0, 2)
    after = follow(changed, record(2, first), folder.folder, GO_ON, told)
    [line] = told.said
    assert line.startswith("the data are not those of step 2: of 8 samples") and "goes on: " in line
    rest = sorted(set("xyabCdefg") - set(half))
    upto = after.plan.first(1)
    shown = seen(after, 2, upto)
    assert len(set(shown)) == len(shown) and set(shown) <= set(rest) and len(rest) - len(shown) < 2
    later = seen(after, 2, 40)
    second = keep(after, folder)
    assert second != first
    for batch in (3, upto, 11, 30):  # with the flag or without: nothing has changed since
        again = follow(open_names("gfedCbayx"), record(batch, second), folder.folder, STOP, told)
        assert seen(again, batch, 40) == later[2 * (batch - 2) :]
    assert len(told.said) == 1
    # the checkpoint before it is still of the first data
    assert seen(follow(before, record(1, first), folder.folder, STOP, told), 1, 12) == seen(before, 1, 12)


def test_a_run_of_an_older_program_goes_on_with_the_same_data_alone(folder):
    data = open_names(FIRST)
    same, other = record(2, "", data.digest_of_before[:12]), record(2, "", "before other")
    assert began_with(data, same) == data.digest_of_before[:12]
    assert follow(data, same, folder.folder, STOP, Reporter()) is data
    assert began_with(data, other) == began_with(data, None) == ledger.digest(data.listed)[:12]
    named = record(2, "x", "began")
    assert began_with(open_names("xyz"), named) == "began"  # whatever the data are now; `follow` looks at them


def test_a_lost_or_damaged_list_is_one_line(folder):
    data = open_names(FIRST)
    name = keep(data, folder)
    path = folder.folder / "data" / f"{name}.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"b"', '"c"', 1))
    with pytest.raises(UserError, match=f"{name}.jsonl: damaged; put it back"):
        follow(data, record(2, name), folder.folder, STOP, Reporter())
    path.unlink()
    with pytest.raises(UserError, match=f"{name}.jsonl: missing; .*put it back"):
        follow(data, record(2, name), folder.folder, STOP, Reporter())
    assert keep(replace(data), folder) == name and path.read_text() == text
