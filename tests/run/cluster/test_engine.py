"""Who gets a worker, and another one, and when it is over: on hosts that are made up."""

import dataclasses
import json
from collections.abc import Callable

import pytest

from talkverse_jax.run.batch.store import open_store
from talkverse_jax.run.cluster import engine
from talkverse_jax.run.cluster.engine import MOST_DEATHS, BatchFolder, Keeper
from talkverse_jax.run.cluster.hosts import News
from talkverse_jax.run.options import EngineOptions
from tests.run.batch.drawn import Said
from tests.run.cluster.test_seats import node


@dataclasses.dataclass(eq=False)
class MadeUpWorker:
    seat: str
    waits: bool = False


class MadeUpHosts:
    """Hosts whose workers all do what `act(worker, number)` says, once each.

    Attributes:
      begun: the seats' names, a worker each.
      stopped: those that were told to end.
    """

    def __init__(self, names: str, act: Callable[[MadeUpWorker, int], News | None]):
        self.names, self._act = names, act
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self.asked: list[tuple[str, int]] = []
        self._new: list[tuple[MadeUpWorker, int]] = []

    def nodes(self):
        return [node(name, CPU=4) for name in self.names]

    def ask_for(self, seat, count):
        self.asked.append((seat.name, count))

    def begin(self, seat, arguments, environ):
        assert arguments == ["sample"] and environ["TQDM_DISABLE"] == "1"
        worker = MadeUpWorker(seat.name)
        self._new.append((worker, len(self.begun)))
        self.begun.append(seat.name)
        return worker

    def listen(self, workers, seconds):
        new, self._new = self._new, []
        heard = [self._act(worker, number) for worker, number in new if worker in workers]
        return [one for one in heard if one]

    def stop(self, workers):
        self.stopped += [worker.seat for worker in workers]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run(hosts)` is the exit code of a batch of two videos, and what was said."""
    for name in ("_LOOK_EVERY", "_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(engine, name, 0.0)
    monkeypatch.setattr(engine, "_LAST_WORDS", 0.05)

    def of(hosts: MadeUpHosts, /, **options) -> tuple[int, list[str]]:
        said, folder = Said(), BatchFolder(open_store(str(tmp_path)), ["a", "b"])
        code = Keeper(hosts, folder, ["sample"], EngineOptions(engine="ray", **options), said).run()
        return code, said.lines

    return of


def report(folder, **states: str) -> None:
    lines = [json.dumps({"id": name, "state": state}) for name, state in states.items()]
    (folder / "results.jsonl").write_text("\n".join(lines) + "\n")


def test_every_host_has_a_worker_and_the_first_to_see_the_end_ends_all(run):
    hosts = MadeUpHosts("ab", lambda worker, n: News(worker, ["made"], 0) if worker.seat == "b" else None)
    assert run(hosts) == (0, ["b: made"])
    assert hosts.begun == ["a", "b"] and sorted(hosts.stopped) == ["a", "b"]


def test_failed_items_are_exit_code_1(run, tmp_path):
    report(tmp_path, a="done", b="failed")
    assert run(MadeUpHosts("a", lambda worker, n: News(worker, code=1))) == (1, [])


def test_a_worker_that_dies_is_started_again(run, tmp_path):
    report(tmp_path, a="done", b="waiting")  # so exit code 1 was no end of the batch
    ends = [News(None, code=-9), News(None, code=1), News(None, lost="no such host"), News(None, code=0)]
    hosts = MadeUpHosts("a", lambda worker, n: dataclasses.replace(ends[n], worker=worker))
    code, said = run(hosts)
    assert code == 0 and hosts.begun == ["a"] * 4
    assert [line.partition(";")[0] for line in said] == [
        "a: its worker died (signal 9)",
        "a: its worker died (exit code 1)",
        "a: its worker died (no such host)",
    ]


def test_a_seat_on_which_workers_always_die_is_given_up(run):
    hosts = MadeUpHosts("a", lambda worker, n: News(worker, code=-11))
    code, said = run(hosts)
    assert code == 1 and len(hosts.begun) == MOST_DEATHS
    assert said[-1] == f"a: its worker died (signal 11), the {MOST_DEATHS}th running; gets no other"


def test_deaths_count_anew_when_a_video_came_between(run, tmp_path):
    def act(worker, number):
        if number == MOST_DEATHS - 1:
            (tmp_path / "a.mp4").touch()
        return News(worker, code=0 if number == MOST_DEATHS + 3 else -9)

    assert run(MadeUpHosts("a", act))[0] == 0


def test_a_host_that_cannot_go_on_is_left_to_the_others(run):
    def act(worker, number):
        return News(worker, code=2 if worker.seat == "a" or number > 2 else None if number < 2 else 0)

    hosts = MadeUpHosts("a", act)
    code, said = run(hosts)
    assert (code, hosts.begun) == (2, ["a"]) and "gets no other worker" in said[0]


def test_new_hosts_get_workers_and_lost_ones_are_left(run):
    def act(worker, number):
        hosts.names = "bc"
        return News(worker, code=0) if worker.seat == "c" else None

    hosts = MadeUpHosts("ab", act)
    code, said = run(hosts)
    assert code == 0 and hosts.begun == ["a", "b", "c"] and hosts.stopped[0] == "a"
    assert said == ["a: is gone, or not used any more"]


def test_as_many_hosts_as_wanted_and_an_autoscaler_is_told(run):
    hosts = MadeUpHosts("abc", lambda worker, n: News(worker, code=0))
    assert run(hosts, hosts=2, workers=3)[0] == 0
    assert hosts.begun == ["a#1", "a#2", "a#3", "b#1", "b#2", "b#3"] and hosts.asked == [("a#1", 6)]


def test_an_interruption_stops_all(run):
    def act(worker, number):
        raise KeyboardInterrupt

    hosts = MadeUpHosts("ab", act)
    with pytest.raises(KeyboardInterrupt):
        run(hosts)
    assert sorted(hosts.stopped) == ["a", "b"]


def test_how_far_a_batch_is(tmp_path):
    folder = BatchFolder(open_store(str(tmp_path)), ["a", "b"])
    assert (folder.count, folder.done(), folder.is_over()) == (2, 0, False)
    for name in ("a.mp4", "a.json", "other.mp4"):
        (tmp_path / name).touch()
    report(tmp_path, a="done", b="waiting")
    assert folder.done() == 1 and not folder.is_over()
    report(tmp_path, a="done", b="failed", other="waiting")
    assert folder.is_over()
