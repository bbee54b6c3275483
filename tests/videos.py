"""Tiny videos made on the spot: real files whose pictures tell their number and whose sound tells its time.

The middle of frame number i shows i as twelve large black and white squares (Gray code, so that neighbours
differ in one), which survives H.264, scaling and cropping; the sound is a chirp, a known function of time.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8

_ROWS, _COLUMNS = 3, 4
_CODE = 0.75  # the code's share of the picture's short side
_CLOCK = 90_000  # ticks a second of the video
_AAC_SAMPLES = 1024


def picture(number: int, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Frame `number` (below 4096) of a video of that size (H, W)."""
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    image[:] = (90, 110, 150)
    bits = number ^ (number >> 1)
    for place, (top, left, bottom, right) in enumerate(_cells(size, size)):
        image[top:bottom, left:right] = 235 if bits >> place & 1 else 20
    return image


def read_number(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int] | None = None) -> int:
    """The number of the frame that is shown.

    Args:
      size: (H, W) of the video; the picture may be scaled to cover its own size and centre-cropped.
    """
    bits = 0
    for place, (top, left, bottom, right) in enumerate(_cells(image.shape[:2], size or image.shape[:2])):
        edge = (bottom - top) // 4
        bits |= int(image[top + edge : bottom - edge, left + edge : right - edge].mean() > 128) << place
    number = 0
    while bits:  # undo the Gray code
        number ^= bits
        bits >>= 1
    return number


def _cells(shown: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """The squares (top, left, bottom, right) in a picture of size `shown` of a video of size `size`."""
    scale = max(shown[0] / size[0], shown[1] / size[1])
    side = _CODE * min(size) * scale
    top, left = (shown[0] - side) / 2, (shown[1] - side) / 2
    rows = np.round(top + side * np.arange(_ROWS + 1) / _ROWS).astype(int)
    columns = np.round(left + side * np.arange(_COLUMNS + 1) / _COLUMNS).astype(int)
    return [(rows[i], columns[j], rows[i + 1], columns[j + 1]) for i in range(_ROWS) for j in range(_COLUMNS)]


def chirp(times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The sound at those seconds: 200 Hz rising by 100 Hz a second."""
    return 0.5 * np.sin(2 * np.pi * (200 * times + 50 * times**2))


def silence(times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """No sound, as a sound."""
    return np.zeros_like(times)


def write_video(
    path: str | Path,
    seconds: float = 8.0,
    fps: float | Fraction = 25,
    size: tuple[int, int] = (128, 128),
    *,
    sound: Callable[[np.ndarray], np.ndarray] | None = chirp,
    sound_start: float = 0.0,
    sound_seconds: float | None = None,
    sound_gap: tuple[float, float] = (0.0, 0.0),
    layout: str = "mono",
    times: Sequence[float] | None = None,
    keyframes: int = 12,
    rotation: int = 0,
    aspect: Fraction | None = None,
    video_start: float = 0.0,
    rate: int = 44100,
    sound_codec: str = "aac",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video; 8 s of 128 x 128 take a quarter of a second. Returns its path.

    Args:
      path: the suffix says which kind of file; mp4 takes "aac", mov and mkv "pcm_f32le" too.
      size: (H, W), even, as it is stored.
      sound: of the time in the file, in [-1, 1]; None for a file without sound.
      sound_start, sound_seconds: where the sound begins and ends; where the video ends by default.
      sound_gap: between these seconds it has no packets.
      layout: of its channels, which all have the same.
      times: when each frame is shown, for a variable rate; `seconds` is the end of the last one then.
      keyframes: every so many frames.
      rotation: degrees to turn the picture by when it is shown, anticlockwise.
      aspect: of a pixel, width over height; 1 by default.
      video_start: seconds from the start of the file to the first frame.
      rate: of the sound.
      options: of the file's format, such as {"movflags": "faststart"}.
    """
    path = Path(path)
    fps = Fraction(fps).limit_denominator(1001)
    shown = [i / fps for i in range(round(seconds * fps))] if times is None else list(times)
    ends = [*shown[1:], seconds]
    end = video_start + seconds if sound_seconds is None else sound_seconds
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream("libx264", rate=fps)
        video.height, video.width = size
        video.pix_fmt, video.time_base = "yuv420p", Fraction(1, _CLOCK)
        video.codec_context.time_base = Fraction(1, _CLOCK)
        video.codec_context.options = {"preset": "veryfast", "g": str(keyframes), "sc_threshold": "0"}
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation:
            video.set_display_rotation(rotation)
        packets = []
        audio = None
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=rate)
            audio.layout, audio.bit_rate = layout, 128_000
            packets += _sound_packets(audio, sound, rate, sound_start, end, sound_gap)
        for number, (start, stop) in enumerate(zip(shown, ends)):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts, frame.time_base = _ticks(video_start + start), Fraction(1, _CLOCK)
            frame.duration = _ticks(video_start + stop) - frame.pts
            packets += video.encode(frame)
        packets += video.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _ticks(seconds: float | Fraction) -> int:
    return round(seconds * _CLOCK)


def _sound_packets(
    stream: av.AudioStream,
    sound: Callable[[np.ndarray], np.ndarray],
    rate: int,
    begin: float,
    end: float,
    gap: tuple[float, float],
) -> Iterable[av.Packet]:
    samples = np.asarray(sound(np.arange(round(end * rate)) / rate), np.float32)
    for start in range(round(begin * rate), len(samples), _AAC_SAMPLES):
        if gap[0] <= start / rate < gap[1]:
            continue
        planar, count = stream.codec_context.format.is_planar, stream.layout.nb_channels
        chunk = np.repeat(samples[start : start + _AAC_SAMPLES, None], count, axis=1)
        chunk = np.ascontiguousarray(chunk.T) if planar else chunk.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(chunk, format="fltp" if planar else "flt", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def face_box(number: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Where the face is said to be (left, top, right, bottom) in frame `number`; it wanders to the right."""
    height, width = size
    left, top = 0.2 * width + 0.1 * (number % 100), 0.25 * height
    return left, top, left + 0.3 * width, top + 0.4 * height


def write_masks(path: str | Path, frames: int, size: tuple[int, int]) -> Path:
    """The keypoint file of a video: 68 face points that span `face_box`, and a box of the body around it."""
    keypoints = np.zeros((frames, 1, 133, 3), np.float32)
    body = np.zeros((frames, 4), np.float32)
    for number in range(frames):
        left, top, right, bottom = face_box(number, size)
        turn = np.linspace(0, 2 * np.pi, 69)[:-1]
        middle, half = ((left + right) / 2, (top + bottom) / 2), ((right - left) / 2, (bottom - top) / 2)
        keypoints[number, 0, 23:91, 0] = middle[0] + half[0] * np.cos(turn)
        keypoints[number, 0, 23:91, 1] = middle[1] + half[1] * np.sin(turn)
        keypoints[number, 0, 23:91, 2] = 0.9
        body[number] = (0.5 * left, 0.5 * top, right + 0.1 * size[1], size[0] - 1)
    np.savez(path, keypoints_info=keypoints, person_bbox_xyxy=body)
    return Path(path)


def write_csv(path: str | Path, rows: Sequence[dict[str, object]]) -> Path:
    """A metadata CSV with the columns of the rows."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)


def write_dataset(
    folder: str | Path,
    videos: int = 4,
    seconds: float | Sequence[float] = 8.0,
    size: tuple[int, int] | Sequence[tuple[int, int]] = (128, 128),
    fps: float = 25,
    *,
    masks: bool = True,
    scenes: str = "",
    **video: object,
) -> Path:
    """Write `videos/clip0.mp4`, ... with their keypoint files beside them and `metadata.csv`; returns its path.

    `seconds` and `size` may be lists, which the videos take in turn; `video` goes to `write_video`. The paths
    in the CSV are relative to `folder`.
    """
    folder = Path(folder)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    lengths = [seconds] if isinstance(seconds, int | float) else seconds
    sizes = [size] if isinstance(size[0], int) else size
    rows = []
    for number in range(videos):
        length, (height, width) = lengths[number % len(lengths)], sizes[number % len(sizes)]
        path = folder / "videos" / f"clip{number}.mp4"
        write_video(path, length, fps, (height, width), **video)
        if masks:
            write_masks(path.with_suffix(".npz"), round(length * fps), (height, width))
        caption = f"person {number} speaks"
        row = {"video_path": f"videos/{path.name}", "caption": caption, "fps": fps, "scenes": scenes}
        rows.append(row)
    return write_csv(folder / "metadata.csv", rows)
