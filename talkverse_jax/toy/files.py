"""The files of a film: video, keypoints, first picture."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from talkverse_jax.core.paths import replacing
from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.toy.film import Film
from talkverse_jax.toy.speech import RATE


def write_film(film: Film, sound: Float32[np.ndarray, " n"], path: Path) -> None:
    """Write the mp4, its keypoint file (npz) and its first frame (PNG), the picture to sample from."""
    height, width = film.frames.shape[1:3]
    keypoints, picture = path.with_suffix(".npz"), path.with_suffix(".png")
    bodies = film.bodies[:, 0] if film.bodies.shape[1] == 1 else film.bodies
    with replacing(keypoints) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, keypoints_info=film.keypoints, person_bbox_xyxy=bodies)
    with replacing(picture) as partial:
        Image.fromarray(film.frames[0]).save(partial, "PNG")
    with VideoWriter(path, width=width, height=height, sound=[sound[:, None]], rate=RATE) as writer:
        writer.write(film.frames)
