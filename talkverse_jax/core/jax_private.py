"""JAX's private names: the only file that knows them. Another version of JAX may have moved or changed one.

Tried with JAX 0.10.2. Each name is looked up when it is used, so that one that is gone takes nothing else with it.
"""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import jax

TRIED = ("0.10.2",)  # versions


def _private(module: str, name: str) -> Any:
    try:
        return getattr(_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"jax {jax.__version__}: no {name} in jax._src.{module} ({error}); install jax {' or '.join(TRIED)}"
        ) from error


def _module(name: str) -> Any:
    return importlib.import_module(f"jax._src.{name}")


def runtime() -> Any:
    """What this process knows of the others: `client` (the key-value store; None where it is alone), `process_id`,
    `num_processes`."""
    return _private("distributed", "global_state")


def on_tpu_host() -> bool:
    """Whether JAX, when it was imported, found TPU chips on the PCI bus."""
    return _private("cloud_tpu_init", "running_in_cloud_tpu_vm")


def when_built(tell: Callable[[str, Any], None]) -> None:
    """From now on `tell` is called with the name and the devices (an array) of each program that was compiled or
    loaded, before it first runs."""
    compiler, build = _module("compiler"), _private("compiler", "compile_or_get_cached")

    def build_and_tell(backend: Any, computation: Any, devices: Any, *args: Any, **kwargs: Any) -> Any:
        built = build(backend, computation, devices, *args, **kwargs)
        tell(str(computation.operation.attributes["sym_name"]).strip('"'), devices)
        return built

    compiler.compile_or_get_cached = build_and_tell


def wrap_programs(wrap: Callable[[Any], Any]) -> None:
    """Put `wrap(store)` in the place of the store that kept programs are read from and written to, as soon as the next
    one is asked for; an earlier wrap is taken off."""
    cache, opening = _module("compilation_cache"), _private("compilation_cache", "get_file_cache")
    plain = getattr(opening, "func", opening)

    def open_wrapped(path: str) -> Any:
        opened = plain(path)
        return opened and (wrap(opened[0]), opened[1])

    open_wrapped.func = plain
    cache.get_file_cache = open_wrapped
    _private("compilation_cache", "reset_cache")()  # of what was opened before


def keep_own_programs() -> None:
    """Have a process other than 0 keep its CPU programs too.

    Their keys are of one process: what JAX calls the topology's fingerprint tells which devices are its own. JAX,
    which takes them for those of all, lets process 0 alone write.
    """
    compiler, write = _module("compiler"), _private("compiler", "_cache_write")
    put = _private("compilation_cache", "put_executable_and_time")

    def write_own(key: str, seconds: float, name: str, backend: Any, executable: Any, callbacks: Any) -> None:
        if backend.platform != "cpu":
            write(key, seconds, name, backend, executable, callbacks)
        elif not callbacks and seconds >= jax.config.jax_persistent_cache_min_compile_time_secs:  # pyright: ignore[reportAttributeAccessIssue]  # made at run time
            try:
                put(key, name, executable, backend, int(seconds))
            except OSError as error:
                warnings.warn(f"{name}: cannot be kept ({error})", stacklevel=2)

    compiler._cache_write = write_own


def opened_programs(device: Any) -> Any:
    """What `wrap` of `wrap_programs` has made, which is opened now if it was not; None: no programs are kept."""
    return _private("compilation_cache", "_get_cache")(device.client)


def fused_attention(*args: Any, **kwargs: Any) -> Any:
    """cuDNN's attention, whose log-sum-exp the public `jax.nn.dot_product_attention` rounds to 16 bits: too coarse to
    merge parts by."""
    return _private("cudnn.fused_attention_stablehlo", "dot_product_attention")(*args, **kwargs)
