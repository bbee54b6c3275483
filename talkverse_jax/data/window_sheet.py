"""Training samples on one page, so that a person sees what a model will see.

A row a sample: its reference picture, evenly spaced frames of its window, and its sound under them. Frames that the
model only looks back at are pale; on the others lie the boxes in which the loss counts more.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from talkverse_jax.core.errors import naming
from talkverse_jax.core.paths import replacing
from talkverse_jax.data.raw import RawSample, RawSource
from talkverse_jax.media.contact_sheet import GREY, INK, LINE, PAPER, draw_sound, font, loudness
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.video_reader import SAMPLE_RATE

_FRAMES = 7
_WIDTH, _MARGIN, _GAP = 1320, 40, 12
_HEAD, _TEXT, _LABEL, _WAVE, _ROW_GAP = 104, 58, 24, 56, 34
_CELL = (_WIDTH - 2 * _MARGIN - _FRAMES * _GAP) // (_FRAMES + 1)
_FACE, _BODY = (226, 150, 20), (47, 111, 138)
_PALE = 0.45


def window_sheet(samples: Sequence[RawSample], source: RawSource, output: Path, title: str, facts: str) -> None:
    """Write a PNG of samples.

    Args:
      samples: with the ids under which the source has them.
      facts: a line under the title.
    """
    heights = [_height(sample) for sample in samples]
    sheet = Image.new("RGB", (_WIDTH, _MARGIN + _HEAD + sum(heights) - _ROW_GAP + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, INK, font(32))
    draw.text((_MARGIN, _MARGIN + 38), facts, GREY, font(18))
    _legend(draw, _MARGIN + 70, any(sample.face.any() or sample.body.any() for sample in samples))
    top = _MARGIN + _HEAD
    for sample, height in zip(samples, heights):
        _row(sheet, draw, sample, source, top)
        top += height
    with naming(output), replacing(output) as partial:
        sheet.save(partial, "PNG")


def _height(sample: RawSample) -> int:
    return _TEXT + _picture_height(sample) + _LABEL + _WAVE + _ROW_GAP


def _picture_height(sample: RawSample) -> int:
    return round(_CELL * sample.reference.shape[0] / sample.reference.shape[1])


def _legend(draw: ImageDraw.ImageDraw, top: int, masks: bool) -> None:
    words = [("pale: what it looks back at", None)]
    words += [("face", _FACE), ("body, where the loss counts more", _BODY)] if masks else []
    left = _MARGIN
    for word, colour in words:
        if colour:
            draw.rectangle((left, top + 3, left + 12, top + 15), outline=colour, width=3)
            left += 20
        draw.text((left, top), word, GREY, font(15))
        left += int(draw.textlength(word, font(15))) + 26


def _row(sheet: Image.Image, draw: ImageDraw.ImageDraw, sample: RawSample, source: RawSource, top: int) -> None:
    entry, window = source.entries[sample.id.sample], source.window(sample.id)
    length, (height, width) = len(sample.video), sample.reference.shape[:2]
    learnt = source.lengths.num_frames
    seconds = f"{window.start / FPS:.2f} to {(window.start + length) / FPS:.2f} s of {entry.frames / FPS:.2f} s"
    kinds = f"{length - learnt} + {learnt} frames" if length > learnt else f"{learnt} frames, nothing before them"
    weight = f", weight {sample.weight:g}" if sample.weight != 1 else ""
    draw.text(
        (_MARGIN, top), _cut(draw, f"{sample.name}   {seconds}, {kinds}, {width}x{height}{weight}", 17), INK, font(17)
    )
    draw.text((_MARGIN, top + 25), _cut(draw, sample.caption.replace("\n", " ") or "no caption", 15), GREY, font(15))
    top += _TEXT
    size = (_CELL, _picture_height(sample))
    foot = top + size[1]
    _paste(sheet, sample.reference, size, (_MARGIN, top))
    draw.text(
        (_MARGIN + _CELL // 2, foot + 5), f"reference, {window.reference / FPS:.2f} s", GREY, font(14), anchor="mt"
    )
    for column, frame in enumerate((np.arange(_FRAMES) + 0.5) * length / _FRAMES, 1):
        left, place = _MARGIN + column * (_CELL + _GAP), int(frame) - (length - learnt)
        shown = sample.video[int(frame)]
        picture = _pale(shown) if place < 0 else _marked(shown, sample, place * len(sample.face) // learnt)
        _paste(sheet, picture, size, (left, top))
        draw.text(
            (left + _CELL // 2, foot + 5), f"{(window.start + int(frame)) / FPS:.2f} s", GREY, font(14), anchor="mt"
        )
    first = _MARGIN + _CELL + _GAP
    columns = _FRAMES * (_CELL + _GAP) - _GAP
    wave = loudness(sample.waveform[:, None], length / FPS, SAMPLE_RATE, columns)
    draw_sound(draw, wave, first, foot + _LABEL, _WAVE)
    if length > learnt:
        x = first + round(columns * (length - learnt) / length)
        draw.line((x, foot + _LABEL, x, foot + _LABEL + _WAVE), LINE, 2)


def _paste(sheet: Image.Image, pixels: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], at: tuple[int, int]) -> None:
    sheet.paste(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), at)


def _pale(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    return (255 - (255 - pixels.astype(np.float32)) * _PALE).astype(np.uint8)


def _cut(draw: ImageDraw.ImageDraw, text: str, size: int) -> str:
    """As much of a text as fits."""
    room = _WIDTH - 2 * _MARGIN
    if draw.textlength(text[:400], font(size)) <= room and len(text) <= 400:
        return text
    text = text[:400]
    while draw.textlength(text + "...", font(size)) > room:
        text = text[:-1]
    return text + "..."


def _marked(pixels: UInt8[np.ndarray, "H W 3"], sample: RawSample, latent: int) -> UInt8[np.ndarray, "H W 3"]:
    """A frame that is learnt, with the outlines of its boxes."""
    picture = Image.fromarray(pixels)
    draw, cell = ImageDraw.Draw(picture), sample.reference.shape[1] // sample.face.shape[2]
    for mask, colour in ((sample.body[latent], _BODY), (sample.face[latent], _FACE)):
        rows, columns = np.nonzero(mask)
        if len(rows):
            box = columns.min() * cell, rows.min() * cell, (columns.max() + 1) * cell - 1, (rows.max() + 1) * cell - 1
            draw.rectangle(box, outline=colour, width=max(2, picture.width // 60))
    return np.asarray(picture)
