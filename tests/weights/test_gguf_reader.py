"""GGUF files of hand-made blocks: each number is computed here, by the block's definition in ggml.

A block of a K-quant is 256 numbers in 8 runs of 32 (Q6_K: 16 runs of 16). Q4_K and Q5_K: a float16 scale and a
float16 minimum for all, six bits of scale and of minimum a run in 12 bytes, then the numbers' low 4 bits, of two runs
in each 32 bytes; Q5_K has their fifth bits in 32 bytes before. Q6_K: low 4 bits in 128 bytes, high 2 bits in 64, an
int8 scale a run, a float16 scale for all; numbers are signed.
"""

import builtins
import dataclasses

import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights import blocks
from talkverse_jax.weights.gguf_reader import read_gguf
from talkverse_jax.weights.rule import LINEAR, SAME
from tests.convert.kinds import q8_0, save_gguf

ROWS, WIDTH = 6, 256


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Rows of one block each: as stored, and what they stand for."""

    stored: np.ndarray
    numbers: np.ndarray


def _six_bits(scales: np.ndarray, minimums: np.ndarray) -> np.ndarray:
    """8 scales and 8 minimums of 6 bits in 12 bytes: four of each whole, with two bits of a later one above."""
    packed = np.zeros(12, np.uint8)
    for run in range(4):
        packed[run] = scales[run] | (scales[run + 4] >> 4) << 6
        packed[run + 4] = minimums[run] | (minimums[run + 4] >> 4) << 6
        packed[run + 8] = (scales[run + 4] & 15) | (minimums[run + 4] & 15) << 4
    return packed


def _with_minimums(rng: np.random.Generator, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """A block of Q4_K or Q5_K."""
    d, dmin = np.float16(rng.uniform(0.001, 0.01)), np.float16(rng.uniform(0.001, 0.01))
    scales, minimums = rng.integers(0, 64, (2, 8), np.uint8)
    values = rng.integers(0, 2**bits, (8, 32), np.uint8)
    low = np.concatenate([values[run] & 15 | (values[run + 1] & 15) << 4 for run in range(0, 8, 2)])
    fifth = np.zeros(32, np.uint8)
    for run in range(8):
        fifth |= (values[run] >> 4) << run
    head = np.concatenate([d.reshape(1).view(np.uint8), dmin.reshape(1).view(np.uint8), _six_bits(scales, minimums)])
    stored = np.concatenate([head, fifth, low] if bits == 5 else [head, low])
    step, least = np.float32(d) * scales[:, None], np.float32(dmin) * minimums[:, None]
    return stored, (step * values - least).astype(np.float32).reshape(-1)


def _q6_k(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    d, scales = np.float16(rng.uniform(0.0001, 0.001)), rng.integers(-128, 128, 16, np.int8)
    values = rng.integers(0, 64, 256, np.uint8)
    low, high = np.zeros(128, np.uint8), np.zeros(64, np.uint8)
    for half in range(2):
        for place in range(32):
            one, two, three, four = values[128 * half + place :: 32][:4]
            low[64 * half + place] = one & 15 | (three & 15) << 4
            low[64 * half + place + 32] = two & 15 | (four & 15) << 4
            high[32 * half + place] = one >> 4 | two >> 4 << 2 | three >> 4 << 4 | four >> 4 << 6
    stored = np.concatenate([low, high, scales.view(np.uint8), d.reshape(1).view(np.uint8)])
    steps = np.repeat(np.float32(d) * scales.astype(np.float32), 16)
    return stored, steps * (values.astype(np.float32) - 32)


BLOCKS = {
    "Q4_K": lambda rng: _with_minimums(rng, 4),
    "Q5_K": lambda rng: _with_minimums(rng, 5),
    "Q6_K": _q6_k,
}


def _rows(kind: str) -> Blocks:
    rng = np.random.default_rng(0)
    if kind == "Q8_0":
        return Blocks(*q8_0(rng.standard_normal((ROWS, WIDTH))))
    rows = [BLOCKS[kind](rng) for _ in range(ROWS)]
    return Blocks(np.stack([stored for stored, _ in rows]), np.stack([numbers for _, numbers in rows]))


@pytest.mark.parametrize("kind, size", [("Q8_0", 272), ("Q4_K", 144), ("Q5_K", 176), ("Q6_K", 210)])
def test_blocks_of_a_layer_256_wide(tmp_path, kind, size):
    made = _rows(kind)
    assert made.stored.shape == (ROWS, size)
    tensors, kinds = read_gguf(save_gguf(tmp_path / "x.gguf", {"a.weight": (made.stored, kind)}))
    assert kinds == kind and tensors["a.weight"].shape == (ROWS, WIDTH)
    np.testing.assert_allclose(np.asarray(tensors["a.weight"]), made.numbers, rtol=1e-6, atol=1e-7)
    for layout, wanted in ((SAME, made.numbers), (LINEAR, made.numbers.T)):  # as conversion reads them
        read = blocks.cast(layout.from_torch(tensors["a.weight"])).rows
        for part in (slice(0, 2), slice(2, 4), slice(4, len(wanted))):
            np.testing.assert_allclose(read(part), wanted[part], rtol=1e-6, atol=1e-7)


def test_plain_kinds_and_a_shape_of_five_axes(tmp_path):
    values = np.arange(48, dtype=np.float32).reshape(2, 3, 1, 2, 4) / 7
    half = values.reshape(6, 8).astype(ml_dtypes.bfloat16)
    tensors, kinds = read_gguf(
        save_gguf(
            tmp_path / "x.gguf",
            {
                "five": (values.reshape(6, 8), "F32"),
                "f16": (values.reshape(6, 8).astype(np.float16), "F16"),
                "bf16": (half.view(np.uint8), "BF16"),
                "vector": (half[0].view(np.uint8), "BF16"),
            },
            {"five": values.shape},
        )
    )
    assert kinds == "BF16, F16, F32"
    np.testing.assert_array_equal(np.asarray(tensors["five"]), values)
    np.testing.assert_array_equal(tensors["five"][slice(1, 2)], values[1:])
    np.testing.assert_array_equal(np.asarray(tensors["f16"]), values.reshape(6, 8).astype(np.float16))
    np.testing.assert_array_equal(np.asarray(tensors["bf16"]), half.astype(np.float32))
    np.testing.assert_array_equal(tensors["vector"][slice(2, 5)], half[0, 2:5].astype(np.float32))
    assert {np.asarray(value).dtype for value in tensors.values()} == {np.dtype(np.float32)}


def test_a_shape_that_cannot_be(tmp_path):
    path = save_gguf(tmp_path / "x.gguf", {"a": (np.zeros((6, 8), np.float32), "F32")}, {"a": (2, 3)})
    with pytest.raises(UserError, match=r"x\.gguf: a is \[6, 8\], which cannot be \[2, 3\]; download it again"):
        read_gguf(path)


def test_kinds_that_are_not_read(tmp_path):
    path = save_gguf(tmp_path / "x.gguf", {"a": (np.zeros((2, 18), np.uint8), "Q4_0")})
    with pytest.raises(UserError, match=r"x\.gguf: has tensors of Q4_0; only F32, F16, BF16, Q8_0, Q4_K, Q5_K, Q6_K"):
        read_gguf(path)


def test_cut_short(tmp_path):
    data = save_gguf(tmp_path / "x.gguf", {"a": (np.zeros((6, 8), np.float32), "F32")}).read_bytes()
    for length in (5, 20, 60, len(data) - 64, len(data) - 100):
        (tmp_path / "x.gguf").write_bytes(data[:length])
        with pytest.raises(UserError, match=r"x\.gguf: cut short or damaged; download it again"):
            read_gguf(tmp_path / "x.gguf")


def test_without_the_package(tmp_path, monkeypatch):
    path = save_gguf(tmp_path / "x.gguf", {"a": (np.zeros((6, 8), np.float32), "F32")})
    real = builtins.__import__

    def without(name, *rest):
        if name == "gguf":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"x\.gguf: GGUF needs the package gguf; pip install gguf"):
        read_gguf(path)
