"""Is it still the same face? Structural similarity with the reference picture, away from the mouth.

A head may sway without being somebody else's, so each frame is first laid on the reference: shifted, turned and
scaled (Gauss-Newton over the face without its mouth), as little as it takes.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from talkverse_jax.evaluate.face import Box, Face
from talkverse_jax.evaluate.pictures import blurred, luma, ssim_map

_AT_ONCE = 100  # frames
_LEVELS = ((3.0, 6), (1.0, 8))  # blur in pixels of a face 70 wide, steps: from coarse to fine
_USUAL = 70.0
_FARTHEST = 12.0  # of those pixels: where the search ends
_BORDER = 5  # pixels that a window of the similarity reaches


def identity(
    frames: UInt8[np.ndarray, "T H W 3"], reference: UInt8[np.ndarray, "H W 3"], face: Face
) -> Float[np.ndarray, " T"]:
    """The mean similarity of the face in each frame with that in the reference; 1 is the same picture."""
    template = luma(reference)
    rows, columns = _grid(face.face, template.shape)
    counts = _away(face, rows, columns)
    flat = template[rows, columns]
    values = []
    for start in range(0, len(frames), _AT_ONCE):
        grey = luma(frames[start : start + _AT_ONCE])
        poses = _poses(grey, template, rows[counts], columns[counts], face)
        moved = _sampled(grey, *_places(poses, rows, columns, face))
        values.append(ssim_map(moved, np.broadcast_to(flat, moved.shape))[:, counts].mean(1))
    return np.concatenate(values)


def _grid(box: Box, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    left, top, right, bottom = box
    rows, columns = np.mgrid[top : min(bottom, size[0]), left : min(right, size[1])]
    return rows, columns


def _away(face: Face, rows: np.ndarray, columns: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """The pixels of the face that neither the mouth nor the box's border is near to."""
    left, top, right, bottom = face.mouth
    beside = (columns < left - _BORDER) | (columns >= right + _BORDER)
    away = beside | (rows < top - _BORDER) | (rows >= bottom + _BORDER)
    inner = np.zeros_like(away)
    inner[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    return away & inner


def _places(
    poses: Float[np.ndarray, "T 4"], rows: np.ndarray, columns: np.ndarray, face: Face
) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels of the reference are in each frame (rows, columns).

    A pose is (growth, turn, right, down), the first two in pixels at the face's side.
    """
    x, y = _relative(rows, columns, face)
    grow, turn, right, down = poses.T.reshape(4, -1, *[1] * rows.ndim)
    return rows + grow * y + turn * x + down, columns + grow * x - turn * y + right


def _relative(rows: np.ndarray, columns: np.ndarray, face: Face) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) from the middle of the face, 1 at its side."""
    left, top, right, bottom = face.face
    half = (right - left) / 2
    return (columns - (left + right) / 2) / half, (rows - (top + bottom) / 2) / half


def _poses(
    grey: Float[np.ndarray, "T H W"],
    template: Float[np.ndarray, "H W"],
    rows: np.ndarray,
    columns: np.ndarray,
    face: Face,
) -> Float[np.ndarray, "T 4"]:
    """The poses in which the frames are most like the reference at those of its pixels."""
    x, y = _relative(rows, columns, face)
    scale = (face.face[2] - face.face[0]) / _USUAL
    poses = np.zeros((len(grey), 4))
    for sigma, steps in _LEVELS:
        shown, wanted = blurred(grey, sigma * scale), blurred(template, sigma * scale)
        down, right = (slope[rows, columns] for slope in np.gradient(wanted))
        slopes = np.stack([right * x + down * y, down * x - right * y, right, down], axis=1)
        solve = np.linalg.inv(slopes.T @ slopes + np.eye(4)) @ slopes.T
        for _ in range(steps):
            seen = _sampled(shown, *_places(poses, rows, columns, face))
            poses -= (seen - wanted[rows, columns]) @ solve.T
            poses = np.clip(poses, -_FARTHEST * scale, _FARTHEST * scale)
    return poses


def _sampled(
    grey: Float[np.ndarray, "T H W"], rows: Float[np.ndarray, "T *n"], columns: Float[np.ndarray, "T *n"]
) -> Float[np.ndarray, "T *n"]:
    """The frames at those places, bilinear, the edges held."""
    height, width = grey.shape[1:]
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = np.minimum(rows.astype(int), height - 2), np.minimum(columns.astype(int), width - 2)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    flat = grey.reshape(-1)
    first = top * width + left + (np.arange(len(grey)) * height * width).reshape(-1, *[1] * (rows.ndim - 1))
    upper = flat[first] * (1 - right) + flat[first + 1] * right
    lower = flat[first + width] * (1 - right) + flat[first + width + 1] * right
    return upper * (1 - down) + lower * down
