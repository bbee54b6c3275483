"""Tensors that are computed when they are read behave as the arrays that they stand for."""

import subprocess
import sys

import numpy as np
import pytest

from talkverse_jax.weights import blocks
from talkverse_jax.weights.lazy import scaled
from talkverse_jax.weights.rule import CONV3D, LINEAR, POINTWISE3D, SAME


@pytest.mark.parametrize(
    "layout, shape", [(SAME, (5, 4)), (LINEAR, (5, 4)), (CONV3D, (5, 4, 1, 2, 3)), (POINTWISE3D, (5, 4, 1, 1, 1))]
)
@pytest.mark.parametrize("of_rows", [False, True])
def test_rows_of_a_scaled_tensor_in_our_layout(layout, shape, of_rows):
    rng = np.random.default_rng(0)
    stored = rng.integers(-127, 128, shape, np.int8)
    scale = rng.uniform(0.1, 1, 5 if of_rows else 1).astype(np.float16)
    wanted = layout.from_torch(stored * scale.astype(np.float32).reshape(-1, *(1,) * (len(shape) - 1)))
    lazy = layout.from_torch(scaled(stored, scale))
    assert lazy.shape == wanted.shape and lazy.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(lazy), wanted)
    for _ in range(2):
        read = blocks.cast(lazy, np.dtype(np.float16)).rows
        parts = [read(slice(start, start + 2)) for start in range(0, len(wanted), 2)]
        np.testing.assert_array_equal(np.concatenate(parts), wanted.astype(np.float16))


def test_a_number_alone():
    lazy = scaled(np.array(3, np.int8), np.array([0.5], np.float32))
    assert np.asarray(lazy) == 1.5 and blocks.cast(lazy).rows(slice(0, 0)) == 1.5


@pytest.mark.parametrize("shape", [(2,), (2, 2), (0,)])
def test_a_scale_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"a scale of \[.*\] for \[5, 4\]"):
        scaled(np.zeros((5, 4), np.int8), np.zeros(shape, np.float32))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["fp8 with scales", "GGUF"])
def test_memory_is_one_tensor_s(tmp_path, kind):
    """Three kernels of 8192 x 8192, 768 MB of float32, are written with blocks and queue of a few MB beside the one
    that is turned round: 256 MB."""
    program = f"""
import threading, time, numpy as np, ml_dtypes
from talkverse_jax.weights import blocks, orbax_io
from talkverse_jax.weights.lazy import scaled
from talkverse_jax.weights.gguf_reader import read_gguf
from talkverse_jax.weights.rule import LINEAR
from tests.convert.kinds import save_gguf
orbax_io._BLOCK_BYTES, orbax_io._IN_FLIGHT_BYTES = 4 * 1024**2, 16 * 1024**2
def anon(): return int(next(l for l in open("/proc/self/status") if "RssAnon" in l).split()[1])
if {kind!r} == "GGUF":
    zeros = np.zeros((8192, 8192 // 32 * 34), np.uint8)
    tensors, _ = read_gguf(save_gguf({str(tmp_path / "x.gguf")!r}, {{name: (zeros, "Q8_0") for name in "abc"}}))
    del zeros
else:
    with open({str(tmp_path / "zeros")!r}, "wb") as file: file.truncate(8192 * 8192)
    array = np.memmap({str(tmp_path / "zeros")!r}, ml_dtypes.float8_e4m3fn, "r").reshape(8192, 8192)
    tensors = {{name: scaled(array, np.float32(2)) for name in "abc"}}
small = scaled(np.ones((8, 8), np.int8), np.float32(2))
orbax_io.write({str(tmp_path / "warm")!r}, {{"a": blocks.cast(LINEAR.from_torch(small), ml_dtypes.bfloat16)}})
peak, before = 0, anon()
def watch():
    global peak
    while True: peak = max(peak, anon()); time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
leaves = {{n: blocks.cast(LINEAR.from_torch(tensor), ml_dtypes.bfloat16) for n, tensor in tensors.items()}}
orbax_io.write({str(tmp_path / "out")!r}, leaves)
print((peak - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 450  # MB
