"""Workers of a batch on all hosts of a cluster: who gets one, who gets another, and when it is over.

A worker is a process that runs `run_batch`, and all that it must know of the others lies in the folder of the batch. So
nothing here is needed for a video to be made once: hosts come and go, and this program may be killed.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from talkverse_jax.core.reporting import Bar, Reporter
from talkverse_jax.run.batch.items import Base, read_list
from talkverse_jax.run.batch.results import RESULTS
from talkverse_jax.run.batch.store import Store, open_store
from talkverse_jax.run.cluster.hosts import Hosts
from talkverse_jax.run.cluster.seats import Seat, choose, find_seats
from talkverse_jax.run.options import BatchOptions, EngineOptions

MOST_DEATHS = 11  # of a seat's workers with no video between; an item that kills fails when the eleventh looks at it
_LONGEST_PAUSE = 30.0  # seconds before the next worker of a seat, after many deaths
_LOOK_EVERY = 2.0  # seconds, at nodes and at what is done
_PAUSE = 0.2  # seconds, where nobody works
_LAST_WORDS = 15.0  # seconds for the other workers to see that all is done
_LONG = 30.0  # seconds for which a worker waits without a word


@dataclass
class _Post:
    """A seat, and who works there.

    Attributes:
      deaths: of its workers since a video was made.
      done: how many videos there were at the last of them.
      since: when the worker was, or the next one may be, started.
      closed: the exit code after which nobody is started any more.
    """

    worker: Any = None
    deaths: int = 0
    done: int = 0
    since: float = 0.0
    told: bool = False
    closed: int | None = None


class BatchFolder:
    """How far a batch is, by what is in its folder.

    Args:
      names: the ids of its items.
    """

    def __init__(self, store: Store, names: Iterable[str]):
        self._store, self._names = store, set(names)

    @property
    def count(self) -> int:
        return len(self._names)

    def done(self) -> int:
        """How many videos are there."""
        return len(self._names & {name.removesuffix(".mp4") for name in self._store.names() if name.endswith(".mp4")})

    def is_over(self) -> bool:
        """Whether the report tells of every item that it is done or failed."""
        lines = map(json.loads, (self._store.read(RESULTS) or b"").splitlines())
        states = {line["id"]: line["state"] for line in lines}
        return all(states.get(name) in ("done", "failed") for name in self._names)


class Keeper:
    """Keeps a worker on every seat until the batch is over.

    Args:
      arguments: a worker's command: what stands behind `python -m`.
    """

    def __init__(
        self, hosts: Hosts, folder: BatchFolder, arguments: Sequence[str], options: EngineOptions, reporter: Reporter
    ):
        self._hosts, self._folder, self._arguments = hosts, folder, arguments
        self._options, self._reporter = options, reporter
        # What Ray would set otherwise; and bars of many workers make no sense on one terminal.
        self._environ = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"), "TQDM_DISABLE": "1"}
        self._posts: dict[Seat, _Post] = {}
        self._looked = float("-inf")
        self._asked = self._told = False
        self._done = 0

    def run(self) -> int:
        """Work until everything is done or failed, or no seat is left.

        Returns:
          the exit code: 0, 1 where items failed or workers died over and over, 2 where no host could go on.
        """
        try:
            self._done = self._folder.done()
            with self._reporter.bar(self._folder.count, "videos", "video", done=self._done) as bar:
                while (code := self._turn(bar)) is None:
                    pass
                self._part()
                self._count(bar)
            return code
        finally:
            self._hosts.stop([post.worker for post in self._posts.values() if post.worker])

    def _turn(self, bar: Bar) -> int | None:
        """A second's work; the exit code when it was the last."""
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            self._count(bar)
            self._place()
        if (code := self._listen()) is not None:
            return code
        closed = [post.closed for post in self._posts.values()]
        return max(code for code in closed if code is not None) if closed and None not in closed else None

    def _count(self, bar: Bar) -> None:
        done = self._folder.done()
        if done != self._done:
            bar.update(done - self._done)
            self._done = done

    def _place(self) -> None:
        """Fill the seats that there are; leave those that are no more."""
        seats = choose(find_seats(self._hosts.nodes(), self._options.workers), self._posts, self._options.hosts)
        if not seats and not self._told:
            self._reporter.say("the cluster has no host with GPUs, TPUs or CPUs; waits for one")
        self._told = not seats
        if seats and self._options.hosts and not self._asked:
            alike = [seat for seat in seats if seat.nodes == seats[0].nodes]
            self._hosts.ask_for(seats[0], self._options.hosts * len(alike))
            self._asked = True
        for seat in self._posts.keys() - set(seats):
            post = self._posts.pop(seat)
            self._reporter.say(f"{seat.name}: is gone, or not used any more")
            self._hosts.stop([post.worker] if post.worker else [])
        for seat in seats:
            self._fill(seat, self._posts.setdefault(seat, _Post()))

    def _fill(self, seat: Seat, post: _Post) -> None:
        now = time.monotonic()
        if post.worker is None and post.closed is None and now >= post.since:
            arguments = [*self._arguments, *(("--together", "true") if len(seat.nodes) > 1 else ())]
            post.worker, post.since, post.told = self._hosts.begin(seat, arguments, self._environ), now, False
        elif post.worker and post.worker.waits and not post.told and now - post.since > _LONG:
            taken = " and ".join(f"{amount:g} {kind}" for kind, amount in seat.takes)
            self._reporter.say(f"{seat.name}: waits until {taken} of it are free")
            post.told = True

    def _listen(self) -> int | None:
        """The exit code when a worker has seen the end of the batch."""
        for seat, code, lost in self._ended():
            if code == 0 or (code == 1 and self._folder.is_over()):
                return code
            self._mourn(seat, code, lost)
        return None

    def _ended(self) -> Iterator[tuple[Seat, int | None, str]]:
        """Tell what workers say; those that have ended, with the exit code, or why there is none."""
        working = {post.worker: seat for seat, post in self._posts.items() if post.worker}
        if not working:
            time.sleep(_PAUSE)
        for heard in self._hosts.listen(working, 1.0):
            seat = working[heard.worker]
            for line in heard.lines:
                self._reporter.say(f"{seat.name}: {line}")
            if heard.lost or heard.code is not None:
                self._posts[seat].worker = None
                self._hosts.stop([heard.worker])
                yield seat, heard.code, heard.lost

    def _mourn(self, seat: Seat, code: int | None, lost: str) -> None:
        """A worker has ended before the batch: another one, or none where that would end in the same way."""
        post = self._posts[seat]
        if code == 2:
            post.closed = code
            self._reporter.say(f"{seat.name}: gets no other worker; the others go on")
            return
        done = self._folder.done()
        post.deaths = 1 if done > post.done else post.deaths + 1
        post.done = done
        what = lost or (f"signal {-code}" if code and code < 0 else f"exit code {code}")
        if post.deaths >= MOST_DEATHS:
            post.closed = 1
            self._reporter.say(f"{seat.name}: its worker died ({what}), the {post.deaths}th running; gets no other")
        else:
            pause = min(_LONGEST_PAUSE, 2.0 ** (post.deaths - 1))
            post.since = time.monotonic() + pause
            self._reporter.say(f"{seat.name}: its worker died ({what}); another one starts in {pause:.0f} s")

    def _part(self) -> None:
        """Let the others see that all is done."""
        end = time.monotonic() + _LAST_WORDS
        while time.monotonic() < end and any(post.worker for post in self._posts.values()):
            for _ in self._ended():
                pass


def run_on_hosts(
    arguments: Sequence[str], base: Base, batch: BatchOptions, options: EngineOptions, reporter: Reporter
) -> int:
    """Make the videos of a list with workers on the hosts of a cluster of Ray.

    Args:
      arguments: a worker's command: what stands behind `python -m`.

    Returns:
      the exit code, see `Keeper.run`.

    Raises:
      UserError: the list or the folder cannot be used, or no cluster is there.
    """
    assert batch.batch and batch.output_dir  # what BatchOptions sees to
    folder = BatchFolder(open_store(batch.output_dir), [item.id for item in read_list(batch.batch, base)])

    from talkverse_jax.run.cluster.ray_hosts import RayHosts  # imports Ray

    hosts = RayHosts(options.ray_address)
    try:
        return Keeper(hosts, folder, arguments, options, reporter).run()
    finally:
        hosts.close()
