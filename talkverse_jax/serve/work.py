"""A worker of servers that share a database, from its start to its end.

Standard output has `talkverse_jax: ready`, `draining` and `stopped`, nothing else; the log goes to standard error.
"""

import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.serve.jobs.crew import Crew
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.options import ServeOptions
from talkverse_jax.serve.sharing import digest_of_weights, shared_jobs
from talkverse_jax.serve.terminal import States, log_to_stderr, say
from talkverse_jax.serve.worker.process import WorkerSetup
from talkverse_jax.sharding.process_options import ProcessOptions
from talkverse_jax.weights import manifest


@dataclass(frozen=True)
class WorkerService:
    """What a worker makes videos with.

    Attributes:
      usual: settings of a request that leaves all out: devices are shared by them.
      modules: imported first by the process that has the models, of families that are no part of the package.
    """

    family: str
    weights: Weights
    machine: Machine
    usual: Any
    options: ServeOptions
    processes: ProcessOptions
    modules: tuple[str, ...] = ()


def work(it: WorkerService) -> int:
    """Work until a signal ends it; the exit code.

    Raises:
      UserError: what was given cannot be used.
    """
    manifest.read(it.weights.weights)  # what is wrong with the folder is told at once
    with shared_jobs(it.options) as jobs:
        log_to_stderr()
        return _Worker(it, jobs).run()


class _Worker:
    def __init__(self, it: WorkerService, jobs: Jobs):
        from talkverse_jax.serve.jobs.shop import Shop

        self._options, self._states = it.options, States()
        self._stop, self._caught = threading.Event(), []
        self._failed, self._why = False, None
        setup = WorkerSetup(
            family=it.family,
            weights=it.weights,
            machine=it.machine,
            settings=it.usual,
            modules=it.modules,
            pack=it.options.pack_size,
            processes=it.processes,
            data_dir=it.options.data_dir,
            scratch=str(jobs.folders.root / "follows"),
            niceness=0,
        )
        crew = Crew(jobs.database, works=True, weights=digest_of_weights(it.family, it.weights))
        self._shop = Shop(jobs, setup, broken=self._broken, said=self._states, crew=crew)

    def run(self) -> int:
        """Work; the exit code.

        Raises:
          UserError: the models cannot be used, or others have other ones.
        """
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._signalled)
        self._shop.start()
        self._stop.wait()
        if self._caught:
            say("draining")
            self._shop.drain(self._options.drain_seconds)
        else:
            self._shop.close()
        if self._why is not None:
            raise UserError(self._why)
        say("stopped")
        return 1 if self._failed else 0

    def _signalled(self, number: int, _frame: Any) -> None:
        self._caught.append(number)
        if len(self._caught) > 1:
            self._shop.kill()
            os._exit(128 + number)
        self._stop.set()

    def _broken(self, why: str | None) -> None:
        """Nothing can be made: the models cannot be used, as `why` says, or their process dies and dies."""
        self._failed, self._why = True, why
        self._stop.set()
