"""A talking video on one page.

Rows of evenly spaced frames, read like lines of text; under each row runs the sound of that stretch, so that
a mouth stands above what it says.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw, ImageFont

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import check_apart, expanded, replacing
from talkverse_jax.media.audio import read_audio
from talkverse_jax.media.media import open_media
from talkverse_jax.media.screen import video_frames

_COLUMNS, _ROWS = 6, 3
_WIDTH, _MARGIN, _GAP = 1320, 40, 12
_LABEL, _WAVE, _ROW_GAP = 26, 64, 30
PAPER, INK, GREY, LINE = "#fbfaf7", "#22262b", "#7d838b", "#dcdad3"
_PEAK, _LOUD = "#a9c6d3", "#2f6f8a"
_NOTE_PAPER, _NOTE_INK = "#fbe9c6", "#7a4b00"


def contact_sheet(video: str | Path, output: str | Path, *, title: str | None = None, note: str | None = None) -> None:
    """Write a PNG with 18 evenly spaced frames of the video, their times, and the sound under them.

    Args:
      title: the heading; the file's name where there is none.
      note: a line set apart under it, for what the viewer must know ("random weights: ...").

    Raises:
      UserError: the video cannot be read, or the sheet not written, or it would take the video's place.
    """
    target = expanded(output)
    if target.suffix.lower() != ".png":
        raise UserError(f"{output}: the contact sheet is a PNG; end the name in .png")
    check_apart([target], [("VIDEO", video)], "give another OUT.png")
    duration, facts, pictures = _pick_frames(video)
    width = (_WIDTH - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
    height = round(width * pictures[0].height / pictures[0].width)
    row_height = height + _LABEL + _WAVE + _ROW_GAP
    head = _MARGIN + 84 + (56 if note else 0)

    sheet = Image.new("RGB", (_WIDTH, head + _ROWS * row_height - _ROW_GAP + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    _heading(draw, title or Path(video).name, facts, note)
    wave = _envelope(video, duration, _COLUMNS * (width + _GAP))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, _COLUMNS)
        left, top = _MARGIN + column * (width + _GAP), head + row * row_height
        sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, top))
        seconds = (index + 0.5) * duration / len(pictures)
        middle = left + width // 2
        draw.text((middle, top + height + 5), f"{seconds:.2f} s", GREY, font(15), anchor="mt")
        if column == 0:
            draw_sound(draw, wave[row], left - _GAP // 2, top + height + _LABEL, _WAVE)
        foot = top + height + _LABEL
        draw.line((middle, foot, middle, foot + 5), GREY)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            sheet.save(partial, "PNG")
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}); choose another folder") from None


def _pick_frames(video: str | Path) -> tuple[float, str, list[Image.Image]]:
    """Length in seconds, a line of facts, and the frames shown in the middle of 18 equal stretches."""
    with open_media(video, "a video") as container:
        if not container.streams.video:
            raise UserError(f"{video}: has no pictures; give a video")
        stream = container.streams.video[0]
        frames = sum(packet.pts is not None for packet in container.demux(stream))
        fps = float(stream.average_rate or 25)
        duration = frames / fps
    count = _COLUMNS * _ROWS
    wanted = [int((index + 0.5) * frames / count) for index in range(count)]
    with open_media(video, "a video") as container:
        picked = {
            index: Image.fromarray(pixels)
            for index, (_, pixels) in enumerate(video_frames(container))
            if index in wanted
        }
    if picked.keys() != set(wanted):
        raise UserError(f"{video}: only some of its frames can be decoded; make it again")
    pictures = [picked[index] for index in wanted]
    facts = f"{duration:.2f} s, {frames} frames at {fps:g} fps, {pictures[0].width}x{pictures[0].height}"
    return duration, facts, pictures


def _heading(draw: ImageDraw.ImageDraw, title: str, facts: str, note: str | None) -> None:
    draw.text((_MARGIN, _MARGIN - 6), title, INK, font(32))
    draw.text((_MARGIN, _MARGIN + 38), facts, GREY, font(18))
    if note:
        top = _MARGIN + 76
        end = draw.textlength(note, font(18))
        draw.rounded_rectangle((_MARGIN, top, _MARGIN + end + 28, top + 38), 8, _NOTE_PAPER)
        draw.text((_MARGIN + 14, top + 19), note, _NOTE_INK, font(18), anchor="lm")


def _envelope(video: str | Path, duration: float, columns: int) -> Float32[np.ndarray, "rows columns 2"]:
    """Peak and root mean square of the sound under every pixel column; the loudest peak is 1."""
    with open_media(video, "a video") as container:
        if not container.streams.audio:
            return np.zeros((_ROWS, columns, 2), np.float32)
    sound = read_audio(video)
    return loudness(sound.native, duration, sound.native_rate, _ROWS * columns).reshape(_ROWS, columns, 2)


def loudness(
    sound: Float32[np.ndarray, "n channels"], duration: float, rate: int, columns: int
) -> Float32[np.ndarray, "columns 2"]:
    """Peak and root mean square of so many equal stretches of a sound of so many seconds; the loudest peak is 1."""
    edges = np.linspace(0, duration * rate, columns + 1).astype(int)
    mono = np.pad(sound.mean(axis=1), (0, max(0, edges[-1] - len(sound))))
    stretches = [mono[start : max(end, start + 1)] for start, end in zip(edges, edges[1:])]
    wave = np.array([(np.abs(s).max(initial=0), np.sqrt(np.mean(s**2))) for s in stretches], np.float32)
    return wave / max(wave.max(), 1e-4)


def draw_sound(
    draw: ImageDraw.ImageDraw, wave: Float32[np.ndarray, "columns 2"], start: int, top: int, height: int
) -> None:
    """Draw what `loudness` gives, a pixel a column."""
    middle, reach = top + height // 2 + 3, height // 2 - 4
    draw.line((start, middle, start + len(wave), middle), LINE)
    for kind, colour in enumerate((_PEAK, _LOUD)):
        for x, value in enumerate(wave[:, kind] * reach, start):
            if value >= 0.5:
                draw.line((x, middle - value, x, middle + value), colour)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """That of all pages."""
    return ImageFont.load_default(size)
