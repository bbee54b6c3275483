"""Every program is kept: a second process compiles nothing."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from talkverse_jax.core.compile_cache import count_programs, default_folder
from tests.processes import free_address, run_together

PROGRAM = """
import jax, jax.numpy as jnp
from talkverse_jax.core import compile_cache
from talkverse_jax.core.compilation import model_jit

folder = compile_cache.enable()
with compile_cache.count_programs() as programs:
    for jit in (model_jit, jax.jit):
        def body(x):
            return jnp.tanh(x @ x.T).sum()
        jit(body)(jnp.ones((64, 64)))
print(folder, programs.compiled, programs.cached, sep="\\n")
"""


def _run(**environ: str) -> tuple[str, int, int, str]:
    """Folder, programs compiled and loaded, and what was said, of a fresh process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=kept | {"JAX_PLATFORMS": "cpu"} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    folder, compiled, cached = done.stdout.split()
    return folder, int(compiled), int(cached), done.stderr


def test_the_second_process_compiles_nothing(tmp_path):
    folder, compiled, cached, said = _run(XDG_CACHE_HOME=str(tmp_path))
    assert folder == str(default_folder({"XDG_CACHE_HOME": str(tmp_path)}))
    assert f"checked-jax-{jax.__version__}-" in folder and compiled > 0 and cached == 0 and not said
    # the compiler options of `model_jit` are part of the key: the same function is there twice
    bodies = list(default_folder({"XDG_CACHE_HOME": str(tmp_path)}).glob("jit_body-*-cache"))
    assert len(bodies) == 2
    assert _run(XDG_CACHE_HOME=str(tmp_path)) == (folder, 0, compiled, "")

    with_a_flipped_bit = bytearray(bodies[0].read_bytes())
    with_a_flipped_bit[-1] ^= 1  # in the checksum, which zlib does not look at
    bodies[0].write_bytes(with_a_flipped_bit)
    bodies[1].write_bytes(bodies[1].read_bytes()[:-100])  # as a full disk or a kill would leave it
    _, again, _, said = _run(XDG_CACHE_HOME=str(tmp_path))
    assert again == 2
    assert said == 2 * "compile cache: jit_body is damaged, or another program's, and compiled again\n"
    assert _run(XDG_CACHE_HOME=str(tmp_path)) == (folder, 0, compiled, "")


TWO = """
import os, sys
address, me, os.environ["JAX_COMPILATION_CACHE_DIR"] = sys.argv[1:]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from talkverse_jax.core import compile_cache
from talkverse_jax.sharding import distributed

with distributed.session(address, 2, int(me)):
    compile_cache.enable()
    with compile_cache.count_programs() as programs:
        sharding = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
        x = jax.make_array_from_callback((8,), sharding, lambda index: np.arange(8.0)[index])
        assert float(jax.jit(lambda x: (x * x).sum())(x)) == 140, "together"
        assert float(jax.jit(lambda x: x.sum())(jnp.ones(3))) == 3, "alone"
print(programs.built, programs.compiled)
"""


def test_of_two_processes_neither_compiles_again(tmp_path):
    def run() -> list[list[int]]:
        address = free_address()
        said = run_together(TWO, *([address, me, tmp_path] for me in (0, 1)), within=100)
        return [list(map(int, text.splitlines()[-1].split())) for text in said]  # Gloo speaks first

    first, second = run(), run()
    assert first[0][0] == first[0][1] > 1 and first[1] == first[0]
    assert second == [[built, 0] for built, _ in first]


def test_a_folder_that_cannot_be_written_is_a_notice(tmp_path):
    (tmp_path / "file").touch()
    folder, compiled, cached, said = _run(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert (folder, cached) == ("None", 0) and compiled > 0
    assert said.startswith("compile cache: off (") and said.count("\n") == 1


@pytest.mark.parametrize("environ", [{"JAX_ENABLE_COMPILATION_CACHE": "false"}, {"JAX_COMPILATION_CACHE_DIR": "here"}])
def test_settings_of_jax_win(tmp_path, environ):
    environ = {key: value.replace("here", str(tmp_path / "here")) for key, value in environ.items()}
    folder, compiled, _, said = _run(XDG_CACHE_HOME=str(tmp_path / "default"), **environ)
    assert folder == environ.get("JAX_COMPILATION_CACHE_DIR", "None") and compiled > 0 and not said
    assert not (tmp_path / "default").exists()


def test_programs_are_counted():
    with count_programs() as programs:
        step = jax.jit(lambda x: x * 3 + 1)
        step(jnp.ones(7))
        built = programs.built
        step(jnp.ones(7))
        assert programs.built == built > 0
    step(jnp.ones(8))
    assert programs.built == built and str(programs) == f"{built} programs compiled, 0 from the cache"
