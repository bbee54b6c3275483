"""The picture of the losses."""

import json

import numpy as np
from PIL import Image, ImageColor

from talkverse_jax.training.picture import _OTHER, _STRONG, NAME, _round_up, draw_losses

LEFT, RIGHT = 102, 1090  # of the panels


def write(folder, losses, held=()) -> None:
    lines = [{"step": step, "loss": loss, "loss_by_noise/0-199": loss} for step, loss in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines = [{"step": step, "held_out/loss": loss} for step, loss in held]
    (folder / "held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def rows_of(picture: np.ndarray, colour: str, columns: slice) -> np.ndarray:
    """Where a curve runs."""
    wanted = np.array(ImageColor.getrgb(colour))
    return np.flatnonzero((np.abs(picture[:458, columns].astype(int) - wanted) < 24).all(axis=2).any(axis=1))


def test_curves_run_where_their_numbers_are(tmp_path):
    write(tmp_path, np.linspace(1.0, 0.25, 60), [(30, 0.9), (60, 0.9)])
    assert draw_losses(tmp_path) == tmp_path / NAME
    picture = np.asarray(Image.open(tmp_path / NAME))
    assert picture.shape[1] == 1320 and [path.name for path in tmp_path.glob("*partial*")] == []
    begin = rows_of(picture, _STRONG, slice(LEFT + 18, LEFT + 26)).mean()
    end = rows_of(picture, _STRONG, slice(RIGHT - 12, RIGHT - 6)).mean()
    held = rows_of(picture, _OTHER, slice(RIGHT - 60, RIGHT - 30)).mean()
    of_loss = lambda loss: 458 - 296 * loss / 1.2  # noqa: E731  # the panel's height and its highest value
    assert abs(begin - of_loss(1.0)) < 8 and abs(end - of_loss(0.25)) < 8 and abs(held - of_loss(0.9)) < 4


def test_little_to_draw(tmp_path):
    assert draw_losses(tmp_path) is None and not (tmp_path / NAME).exists()
    write(tmp_path, [])
    assert draw_losses(tmp_path) is None
    write(tmp_path, [2.0])
    assert draw_losses(tmp_path).exists()
    write(tmp_path, [float("nan"), 0.0, 0.0])
    assert draw_losses(tmp_path).exists()


def test_round_numbers():
    assert [_round_up(value) for value in (0.011, 0.9, 1.0, 1.21, 7, 9.9)] == [0.012, 1.0, 1.0, 1.6, 8.0, 10.0]
