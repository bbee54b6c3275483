"""A server from its start to its end: what is checked before it listens, what it prints, how it stops.

Standard output has `talkverse_jax: listening on http://HOST:PORT`, `ready`, `draining` and `stopped`, nothing else; the
log goes to standard error.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.lock import locked
from talkverse_jax.core.paths import new_folder
from talkverse_jax.helpers import speech
from talkverse_jax.helpers.prompt.enhancer import Enhancer
from talkverse_jax.helpers.prompt.options import PromptOptions
from talkverse_jax.helpers.speech.options import SpeechOptions
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.serve.http.app import Setup, make_app
from talkverse_jax.serve.http.protocol import TimedProtocol
from talkverse_jax.serve.jobs.crew import Crew
from talkverse_jax.serve.jobs.jobs import Jobs
from talkverse_jax.serve.options import ServeOptions
from talkverse_jax.serve.sharing import digest_of_weights, shared_jobs
from talkverse_jax.serve.terminal import States, log_to_stderr, say
from talkverse_jax.serve.worker.process import WorkerSetup
from talkverse_jax.weights import manifest

LOG = logging.getLogger("talkverse_jax.serve")

_GRACE = 3  # seconds for connections to end behind a drain
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Service:
    """What is served.

    Attributes:
      usual: settings of a request that leaves all out.
      defaults: those of them that were given.
      modules: imported first by the processes that know models, of families that are no part of the package.
    """

    family: str
    weights: Weights
    machine: Machine
    usual: Any
    defaults: Mapping[str, Any]
    options: ServeOptions
    prompt: PromptOptions
    speech: SpeechOptions
    modules: tuple[str, ...] = ()


def serve(service: Service) -> int:
    """Serve until a signal ends it; the exit code.

    Raises:
      UserError: what was given cannot be used.
    """
    options = service.options
    manifest.read(service.weights.weights)  # what is wrong with the folder is told at once
    having = own_jobs if options.database is None else shared_jobs
    with having(options) as jobs, _listening(options) as listener:
        log_to_stderr()
        return _Server(service, jobs, listener).run()


@contextlib.contextmanager
def own_jobs(options: ServeOptions) -> Iterator[Jobs]:
    """The jobs of a folder, which no other server has while the block lasts.

    Raises:
      UserError: another has it.
    """
    folder = new_folder(options.data_dir)
    held = f"--data_dir {options.data_dir}: another server has it; stop that one, or give another folder"
    with locked(Path(folder, "lock"), held):
        jobs = Jobs(options)
        jobs.recover()
        try:
            yield jobs
        finally:
            jobs.close()


@contextlib.contextmanager
def _listening(options: ServeOptions) -> Iterator[socket.socket]:
    """A socket at the host and port.

    Raises:
      UserError: nobody can listen there.
    """
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"{options.host}: no such address ({error.strerror}); give another", field="host") from None
    try:
        made = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        reason = f"{options.port}: cannot be listened at ({why}); give another, or 0 for any free one"
        raise UserError(reason, field="port") from None
    with made:
        yield made


class _Server:
    def __init__(self, service: Service, jobs: Jobs, listener: socket.socket):
        self._service, self._jobs, self._listener = service, jobs, listener
        setup = Setup(
            options=service.options,
            jobs=self._jobs,
            family=service.family,
            weights=service.weights,
            machine=service.machine,
            defaults=service.defaults,
            enhancer=Enhancer(service.prompt) if service.prompt.prompt_extend_url else None,
            engine=speech.open(service.speech),
            connections=lambda: len(self._http.server_state.connections),
            modules=service.modules,
        )
        config = uvicorn.Config(
            make_app(setup),
            http=TimedProtocol,
            ws="websockets-sansio",
            ws_max_size=service.options.max_json_bytes,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
        )
        self._http = _Http(config)
        self._shop: Any = None
        self._status = 0
        self._why: str | None = None
        self._states = States()

    def run(self) -> int:
        """Serve; the exit code.

        Raises:
          UserError: the models cannot be used.
        """
        asyncio.run(self._run())
        if self._why is not None:
            raise UserError(self._why)
        say("stopped")
        return self._status

    async def _run(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self._stop = lambda: loop.call_soon_threadsafe(stop.set)
        caught: list[signal.Signals] = []
        for each in _SIGNALS:
            loop.add_signal_handler(each, self._signalled, each, caught, stop)
        serving = asyncio.create_task(self._http.serve(sockets=[self._listener]))
        while not self._http.started and not serving.done():
            await asyncio.sleep(0.01)
        say(f"listening on {_url(self._listener)}")
        beginning = asyncio.create_task(asyncio.to_thread(self._begin))
        await stop.wait()
        await asyncio.gather(beginning, return_exceptions=True)
        if caught:
            say("draining")
            if self._shop is not None:
                await asyncio.to_thread(self._shop.drain, self._service.options.drain_seconds)
        elif self._shop is not None:
            await asyncio.to_thread(self._shop.close)
        self._http.should_exit = True
        await serving

    def _signalled(self, number: signal.Signals, caught: list[signal.Signals], stop: asyncio.Event) -> None:
        caught.append(number)
        if len(caught) > 1:
            if self._shop is not None:
                self._shop.kill()
            os._exit(128 + number)
        stop.set()

    def _begin(self) -> None:
        """Start who makes the jobs; it takes a second or two, in which requests are answered."""
        try:
            self._shop = self._others() if self._service.options.database else self._own_shop()
            self._shop.start()
        except UserError as error:
            self._broken(str(error))
        except Exception:
            LOG.exception("the server cannot begin")
            self._broken(None)

    def _others(self) -> Any:
        from talkverse_jax.serve.jobs.others import Others

        service = self._service
        weights = digest_of_weights(service.family, service.weights)
        crew = Crew(self._jobs.database, works=False, weights=weights)
        return Others(self._jobs, crew, said=self._states)

    def _own_shop(self) -> Any:
        from talkverse_jax.serve.jobs.shop import Shop

        service = self._service
        setup = WorkerSetup(
            family=service.family,
            weights=service.weights,
            machine=service.machine,
            settings=service.usual,
            modules=service.modules,
            pack=service.options.pack_size,
        )
        return Shop(self._jobs, setup, broken=self._broken, said=self._states)

    def _broken(self, why: str | None) -> None:
        """Nothing can be made: the models cannot be used, as `why` says, or the worker dies and dies."""
        self._status, self._why = 1, why
        self._stop()


class _Http(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's."""
        yield


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
