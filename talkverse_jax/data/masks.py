"""Where the loss counts more: boxes of face and body from keypoint files, as masks on the latent grid.

A keypoint file (npz) has `keypoints_info` [T, P, 133, 3] (x, y, confidence of 133 whole-body points of P persons) and
`person_bbox_xyxy` [T, P, 4] or, of one, [T, 4], in pixels of the video; its T need not be the video's number of frames.
Boxes are (left, top, right, bottom).
"""

import importlib
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from talkverse_jax.core import files
from talkverse_jax.core.errors import UserError
from talkverse_jax.data.metadata import Row
from talkverse_jax.media.bad_sample import BadSample
from talkverse_jax.media.fit import framing

_FACE = slice(23, 91)  # 68 points
# NumPy reads headers with Python's parser, which fails in some of several threads (CPython 3.11, "AST constructor
# recursion depth mismatch").
_ONE_AT_A_TIME = threading.Lock()

Boxes = Float[np.ndarray, "_ 4"]
BoxesOfPersons = Float[np.ndarray, "_ P 4"]
Detector = Callable[[UInt8[np.ndarray, "n H W 3"]], Boxes]


def find(row: Row, base: str, roi_dir: str) -> str:
    """The keypoint file of a video, "" where there is none.

    It is named by the row; or lies below `roi_dir` as the video does below `base`; or beside the video; or, as
    in the original's data sets, in a folder `dwpose` beside the folder `videos`. It is called `clip.npz` or
    `clip.mp4.npz`.
    """
    if row.roi_path:
        return row.roi_path if files.exists(row.roi_path) else ""
    videos = [row.video, row.video.replace("/videos/", "/dwpose/")]
    if roi_dir:
        relative = row.video.removeprefix(base.rstrip("/") + "/") if base else row.video_path
        videos.insert(0, files.join(roi_dir, relative.lstrip("/")))
    for video in dict.fromkeys(videos):
        for path in (f"{video.rsplit('.', 1)[0]}.npz", f"{video}.npz"):
            if files.exists(path):
                return path
    return ""


def read_boxes(path: str) -> tuple[BoxesOfPersons, BoxesOfPersons]:
    """The boxes of face and body of each person in a keypoint file; rows that are not finite where there is none.

    Raises:
      BadSample: the file is missing, cannot be read, or does not hold what it should.
    """
    try:
        with _ONE_AT_A_TIME, files.open_file(path, "keypoints") as file, np.load(file) as arrays:
            keypoints, bodies = arrays["keypoints_info"], arrays["person_bbox_xyxy"]
    except UserError as error:
        raise BadSample("no mask file", str(error)) from None
    except Exception as error:  # whatever zipfile and numpy raise for a damaged file
        raise BadSample("mask file damaged", f"{path}: {error}") from None
    bodies = bodies[:, None] if bodies.ndim == 2 else bodies
    persons = keypoints.shape[1] if keypoints.ndim == 4 else 0
    if (
        not persons
        or keypoints.shape[2:] != (133, 3)
        or bodies.ndim != 3
        or bodies[:, :persons].shape[1:] != (persons, 4)
    ):
        raise BadSample("mask file damaged", f"{path}: shapes {keypoints.shape} and {bodies.shape}")
    if not len(keypoints) or not len(bodies):
        raise BadSample("mask file damaged", f"{path}: no boxes")
    return face_boxes(keypoints), bodies[:, :persons].astype(np.float64)


def face_boxes(keypoints: Float[np.ndarray, "n P 133 3"]) -> BoxesOfPersons:
    """The boxes around the face points: those with some confidence that are not at (0, 0)."""
    points = keypoints[:, :, _FACE].astype(np.float64)
    counts = np.isfinite(points).all(-1) & (points[..., 2] > 0) & (points[..., :2] != 0).any(-1)
    some = counts.any(-1)[..., None]
    low = np.where(counts[..., None], points[..., :2], np.inf).min(-2)
    high = np.where(counts[..., None], points[..., :2], -np.inf).max(-2)
    return np.where(some, np.concatenate([low, high], axis=-1), np.nan)


def at_frames(boxes: Boxes, chosen: Sequence[int] | Int[np.ndarray, " m"], frames: int) -> Float[np.ndarray, "m 4"]:
    """The boxes at those of a video's frames: the boxes' timeline is scaled linearly onto the video's."""
    if len(boxes) < 2 or frames < 2:
        return boxes[np.zeros(len(chosen), int)]
    return boxes[[round(frame * (len(boxes) - 1) / (frames - 1)) for frame in chosen]]


def scaled(boxes: Boxes, height: int, width: int, target: tuple[int, int]) -> Boxes:
    """Boxes of a video of that size in its pictures scaled and cropped to `target` (H, W).

    A box outside is moved to the edge. (The original rounds the crop's offset down for boxes and to the nearest
    for pictures; here both are the pictures'.)
    """
    valid = np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes = np.where(valid[:, None], boxes, 0)
    pictures = framing((height, width), target, "crop")
    top, left = pictures.corner
    moved = _clamped(boxes, height, width) * pictures.scale - np.array([left, top, left, top])
    return np.where(valid[:, None], _clamped(moved, *target), np.nan)


def _clamped(boxes: Boxes, height: int, width: int) -> Boxes:
    """Boxes within a picture, at least a pixel long."""
    most = np.array([width - 1.0, height - 1.0])
    low, high = np.clip(boxes[:, :2], 0, most), np.clip(boxes[:, 2:], 0, most)
    return np.concatenate([low, np.where(high <= low, np.minimum(most, low + 1), high)], axis=1)


def latent_masks(boxes: Boxes, size: tuple[int, int], stride: int) -> UInt8[np.ndarray, "n h w"]:
    """1 in the cells whose first pixel lies in the box, as Pillow fills a rectangle: corners truncated, included.

    Args:
      boxes: in pixels of a picture of `size` (H, W); a row that is not finite gives zeros.
      stride: pixels a side of a cell.
    """
    corners = np.where(np.isfinite(boxes), boxes, -1).astype(int)
    left, top, right, bottom = corners.T[:, :, None]
    rows, columns = np.arange(0, size[0], stride), np.arange(0, size[1], stride)
    inside_rows, inside_columns = (rows >= top) & (rows <= bottom), (columns >= left) & (columns <= right)
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).astype(np.uint8)


def target_frames(num_frames: int, latent_frames: int) -> Int[np.ndarray, " F"]:
    """The frame of the target that each latent frame's mask is taken from."""
    return np.arange(latent_frames) * num_frames // latent_frames


@lru_cache(maxsize=1)
def load_detector(name: str) -> Detector:
    """The face detector `module:function`: pictures to a box a picture, not finite where there is no face.

    Raises:
      UserError: there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        reason = f"{name}: {error}; give module:function of something importable"
        raise UserError(reason, field="roi_detector") from None
