"""XLA's programs are kept in a folder, so that the next run of the same shapes compiles nothing.

JAX finds each by its code, its compiler options, the devices and the versions of jaxlib and the backend. The folder
is ~/.cache/talkverse_jax/checked-jax-<version>-<version of jaxlib>; JAX's own settings win:

  JAX_COMPILATION_CACHE_DIR=DIR          another folder, which may be shared or gs://...
  JAX_ENABLE_COMPILATION_CACHE=false     no cache

Of several processes with accelerators only process 0 writes (JAX sees to that), for all of them: hosts that share no
folder compile every time. On CPUs each keeps its own, since their keys differ (see `jax_private.keep_own_programs`).
What a disk has changed is not loaded but compiled again (`CheckedCache`), and so is what another program of JAX has
written. Programs from the cache are run as they are: share the folder with nobody you do not trust.
"""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from etils import epath

from talkverse_jax.core.checked_cache import CheckedCache
from talkverse_jax.core.jax_private import keep_own_programs, runtime, wrap_programs

_LOG = logging.getLogger(__name__)
_BUILT_EVENT = "/jax/core/compile/backend_compile_duration"  # compiled or loaded
_LOADED_EVENT = "/jax/compilation_cache/cache_hits"
_UNUSABLE = re.compile(r"Error reading persistent compilation cache entry for '(\w+)'")
_ALWAYS = {  # JAX's defaults leave out what compiles in under a second
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where programs are kept unless JAX_COMPILATION_CACHE_DIR says otherwise."""
    base = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "talkverse_jax" / f"checked-jax-{jax.__version__}-{version('jaxlib')}"


def enable(say: Callable[[str], None] = _LOG.warning) -> str | None:
    """Keep every program from now on; the folder, or None where there is no cache.

    A folder that cannot be written is one notice to `say`; the run then goes on without a cache.
    """
    settings: Any = jax.config  # its names are made at run time
    if not settings.jax_enable_compilation_cache:
        return None
    folder = epath.Path(settings.jax_compilation_cache_dir or default_folder())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if "://" not in str(folder) and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"no right to write in {folder}")
    except OSError as error:
        jax.config.update("jax_compilation_cache_dir", None)
        say(f"compile cache: off ({error}); JAX_COMPILATION_CACHE_DIR names another folder")
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    for name, value in _ALWAYS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    wrap_programs(lambda store: _checked(store, folder, say))
    if runtime().process_id:
        keep_own_programs()
    return str(folder)


def _checked(store: Any, folder: epath.Path, say: Callable[[str], None]) -> CheckedCache:
    """The cache with checksums. JAX warns of a program that XLA cannot load, compiles it, and would let the old file
    stand for ever: it is deleted."""
    checked = CheckedCache(
        store,
        lambda key: (folder / f"{key}-cache").unlink(missing_ok=True),
        lambda name: say(f"compile cache: {name} is damaged, or another program's, and compiled again"),
    )
    show = warnings.showwarning

    def showwarning(message, *args, **kwargs) -> None:
        if unusable := _UNUSABLE.match(str(message)):
            checked.discard_latest(unusable[1])
        else:
            show(message, *args, **kwargs)

    warnings.showwarning = showwarning
    return checked


class Programs:
    """How many programs a run has built, and how many of them came from the cache."""

    def __init__(self):
        self.built = self.cached = 0

    @property
    def compiled(self) -> int:
        return self.built - self.cached

    def __str__(self) -> str:
        return f"{self.compiled} programs compiled, {self.cached} from the cache"


@contextmanager
def count_programs() -> Iterator[Programs]:
    """Count the programs that the body builds, on any thread."""
    programs = Programs()

    def on_event(event: str, **_) -> None:
        programs.cached += event == _LOADED_EVENT

    def on_duration(event: str, duration_secs: float, **_) -> None:
        programs.built += event == _BUILT_EVENT

    jax.monitoring.register_event_listener(on_event)
    jax.monitoring.register_event_duration_secs_listener(on_duration)
    try:
        yield programs
    finally:
        jax.monitoring.unregister_event_listener(on_event)
        jax.monitoring.unregister_event_duration_listener(on_duration)
