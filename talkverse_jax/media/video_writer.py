"""Writing the talking video: H.264 and AAC, clip by clip, so that a killed run leaves what is finished.

While running, everything goes to `NAME.partial.mp4`, a fragmented mp4 that plays up to the last finished clip
whatever happens; at the end its packets are copied, not encoded again, into an ordinary mp4 with its index in
front, which takes the place of `NAME.mp4` in one step. For that moment the disk holds the video twice. A later
run can carry on with the unfinished file: it takes its pictures from there and makes its sound again.

Each clip is on the disk when `write` returns, and the finished video before it has its name: a power cut loses neither.
What stands under the names of unfinished files goes; no link there is followed.
"""

import os
import tempfile
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.error
import av.stream
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from jaxtyping import Float32, UInt8

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import clear, is_plain, publish, sync
from talkverse_jax.media.audio import resampled
from talkverse_jax.media.media import absolute

# What the muxer holds goes to the disk when a packet comes whose stream has this much waiting. More sound
# than that follows the frames of a clip, running ahead of them, so nothing of the clip stays behind.
_FRAGMENT_SECONDS = 0.2
_SOUND_AHEAD = 0.3
_AAC_SAMPLES = 1024
_START_CODE = b"\0\0\1"
_KEYFRAME_SECONDS = 10  # a clip is shorter: each begins with a keyframe, and has no other
# A keyframe has other errors than the pictures before it, which a viewer sees as a twitch. So it is encoded finer, and
# the way to it too, picture by picture: then there is little left to change. At a factor of 12 a clip begins with no
# more motion than its pictures have, where it was 3.6 times that (toy world, 128x128); the file is a third larger.
_FINER = 12.0
_FINER_PICTURES = 6
# Every player takes these; others are resampled to 48 kHz. The encoder's delay, which some players do not
# hide, is 21 ms there, but 128 ms at 8 kHz.
_PLAYABLE_RATES = (44100, 48000)


def check_output(path: str | Path) -> Path:
    """Make sure, before anything is computed, that a video can be written there; makes the folder.

    Raises:
      UserError: not an .mp4, a folder, or in a folder that cannot be made or written.
    """
    file = absolute(path)
    if file.suffix.lower() != ".mp4":
        raise UserError(f"{path}: the video is written as mp4; end the name in .mp4")
    if os.path.isdir(file):
        raise UserError(f"{path}: is a folder; give the name of the video in it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
    return file


def partial_file(path: Path) -> Path:
    """Where a video is while it is unfinished."""
    return _beside(path, "partial")


def before_file(path: Path) -> Path:
    """Where the unfinished video of an earlier run is while it is taken over."""
    return _beside(path, "before")


def finishing_file(path: Path) -> Path:
    """Where a video is when it is finished, until it takes its place."""
    return _beside(path, "finishing")


def is_unfinished_name(path: Path) -> bool:
    """Whether another video would have its unfinished files there."""
    return path.stem.endswith((".partial", ".before", ".finishing"))


def _beside(file: Path, stage: str) -> Path:
    return file.with_name(f"{file.stem}.{stage}.mp4")


class VideoWriter:
    """Appends clips to an mp4; a context manager.

    Leaving it puts the finished video in place, or raises a `UserError`. Leaving it by an error keeps
    `NAME.partial.mp4` (if a clip was written); a `NAME.mp4` from before is then untouched.

    Attributes:
      partial: the path of the unfinished file.
      frames: how many have been written.
      clips: how many of them by each call of `write`, those of an earlier run included.
      checksums: of the encoded pictures of each clip.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        sound: Iterable[Float32[np.ndarray, "samples channels"]],
        rate: int,
        audio_start: float = 0.0,
        fps: int = 25,
        metadata: Mapping[str, str] | None = None,
        written: Sequence[int] = (),
        checksums: Sequence[int] = (),
    ):
        """Open `NAME.partial.mp4`.

        Args:
          path: ends in .mp4; its folder is made.
          width, height: of the frames, both even.
          sound: blocks of one or two channels at `rate` Hz, read as they are needed; cut where the video ends, a
            shorter one ends before it.
          audio_start: seconds of sound to leave out in front (the sound of frames that are left out).
          metadata: mp4 tags such as `title` and `comment`.
          written: frames of the clips that an earlier run left in `NAME.partial.mp4`; they are taken over.
          checksums: of these clips, where they are known.

        Raises:
          UserError: see `check_output`; or what an earlier run left has fewer frames than that, or is damaged.
        """
        if width % 2 or height % 2:
            raise ValueError(f"4:2:0 video needs even sizes, not {width}x{height}")
        self._name = str(path)
        self._path = check_output(path)
        self.partial = partial_file(self._path)
        self.frames, self.clips, self.checksums = 0, [], []
        self._size, self._fps = (height, width), fps
        self._metadata = dict(metadata or {})
        self._sound, self._rate = _Sound(sound, rate, audio_start), _playable(rate)
        self._sound_at, self._published = 0, False
        self._container: OutputContainer | None = None
        before = before_file(self._path)
        with self._user_errors():
            if not (written and is_plain(before)):  # otherwise a run was stopped while it took over
                clear(before)
                if written:
                    os.replace(self.partial, before)
            self._open()
            if written:
                try:
                    self._take_over(before, written, checksums or [None] * len(written))
                except UserError:
                    self.abandon()
                    raise

    def _open(self) -> None:
        clear(self.partial)
        self._container = av.open(
            str(self.partial),
            "w",
            format="mp4",
            options={
                # delay_moov: with empty_moov the encoder's delay would stay in the sound (23 ms at 44.1 kHz).
                # default_base_moof: a browser's MediaSource takes no other fragments.
                "movflags": "delay_moov+default_base_moof",
                "frag_duration": str(round(_FRAGMENT_SECONDS * 1e6)),
                "flush_packets": "1",
                # Packets come in the order they are to be written; FFmpeg must not hold them to sort them.
                "max_interleave_delta": "1",
            },
        )
        self._container.metadata.update(self._metadata)
        self._video = self._container.add_stream("libx264", rate=self._fps)
        self._set_up(self._video.codec_context)
        # FFmpeg's sum and difference coding errs by 0.13 on a pure tone a channel; without it, by 0.001.
        self._audio = self._container.add_stream("aac", rate=self._rate, options={"aac_ms": "0"})
        self._audio.layout = "mono" if self._sound.channels == 1 else "stereo"
        self._audio.bit_rate = 192_000
        self._container.start_encoding()

    def _set_up(self, encoder: av.VideoCodecContext, count: int = 0) -> None:
        """count: pictures of the clip that it encodes."""
        encoder.height, encoder.width = self._size
        encoder.pix_fmt = "yuv420p"
        encoder.framerate = Fraction(self._fps)
        encoder.time_base = Fraction(1, self._fps)
        set_colours(encoder)
        # Without B-frames packets leave in the order of showing, so clips encoded apart join with no gap.
        encoder.options = {
            "crf": "17",
            "preset": "medium",
            "bf": "0",
            "g": str(_KEYFRAME_SECONDS * self._fps),
            "x264-params": _finer_ends(count),
        }

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()

    def write(self, frames: UInt8[np.ndarray, "T H W 3"]) -> None:
        """Append a clip. When this returns, it is on the disk, and the file plays to its end.

        Raises:
          UserError: the disk is full, or the file cannot be written for another reason.
        """
        if frames.shape[1:] != (*self._size, 3) or frames.dtype != np.uint8:
            raise ValueError(f"expected uint8 frames [T, *{self._size}, 3], not {frames.dtype} {frames.shape}")
        with self._user_errors():
            # Each clip has its own encoder, drained at its end: one for all keeps 40 frames to look ahead.
            encoder = av.CodecContext.create("libx264", "w")
            self._set_up(encoder, len(frames))
            encoder.flags |= Flags.global_header
            checksum = 0
            for index, picture in enumerate(frames, self.frames):
                checksum = self._mux_pictures(encoder.encode(to_yuv(picture, index, self._fps)), checksum)
            checksum = self._mux_pictures(encoder.encode(None), checksum)
            self._follow(len(frames), checksum)
            self._sync()

    def _mux_pictures(self, packets: list[av.Packet], checksum: int) -> int:
        """The checksum goes on over what is written."""
        for packet in packets:
            checksum = _checksum(packet, checksum)
        self._mux(self._video, packets)
        return checksum

    def _sync(self) -> None:
        sync(self.partial)
        sync(self.partial.parent)

    def _follow(self, frames: int, checksum: int) -> None:
        """Write the sound of a clip whose pictures are written."""
        end = (self.frames + frames) / self._fps
        self._write_sound(max(end, self._sound_at / self._rate) + _SOUND_AHEAD)
        self.frames += frames
        self.clips.append(frames)
        self.checksums.append(checksum)

    def _take_over(self, before: Path, written: Sequence[int], checksums: Sequence[int | None]) -> None:
        packets = _pictures_in(before)
        for frames, expected in zip(written, checksums, strict=True):
            checksum = 0
            for index in range(self.frames, self.frames + frames):
                packet = next(packets, None)
                if packet is None:
                    raise UserError(
                        f"{self.partial}: has {index} frames where {sum(written)} were written; leave out --resume"
                    )
                checksum = self._mux_pictures([_start_codes(packet, index, self._fps)], checksum)
            if expected is not None and checksum != expected:
                raise UserError(
                    f"{self.partial}: damaged in clip {len(self.clips) + 1}; leave out --resume to begin again"
                )
            self._follow(frames, checksum)
        packets.close()
        self._sync()
        before.unlink()

    def _write_sound(self, until: float) -> None:
        """Sound up to `until` seconds, silence after its end; `_copy` drops what is too much."""
        while self._sound_at < until * self._rate:
            chunk = self._sound.read(_AAC_SAMPLES).T
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(chunk), format="fltp", layout=self._audio.layout.name
            )
            frame.sample_rate = self._rate
            frame.pts, frame.time_base = self._sound_at, Fraction(1, self._rate)
            self._mux(self._audio, self._audio.encode(frame))
            self._sound_at += _AAC_SAMPLES

    def _mux(self, stream: av.stream.Stream, packets: list[av.Packet]) -> None:
        for packet in packets:
            packet.stream = stream
            self._open_container.mux(packet)

    @property
    def _open_container(self) -> OutputContainer:
        assert self._container is not None, "the video is finished or abandoned"
        return self._container

    def finish(self) -> None:
        """Put the finished video in place, unless it is; what leaving the block does.

        Raises:
          UserError: it cannot be written.
        """
        if not self._published:
            self.complete()
            self.publish()

    def complete(self) -> int:
        """Make the finished video, whole and on the disk, but not yet in its place; its length in bytes.

        Raises:
          UserError: it cannot be written.
        """
        if not self.frames:
            self.abandon()
            raise ValueError("a video needs at least one frame")
        with self._user_errors():
            self._open_container.close()
            self._container = None
            finishing = finishing_file(self._path)
            clear(finishing)
            self._copy(finishing)
            sync(finishing)
            return finishing.stat().st_size

    def publish(self) -> None:
        """Put the video that is complete in place; what was there goes.

        Raises:
          UserError: it cannot be written.
        """
        with self._user_errors():
            publish(finishing_file(self._path), self._path)
            self._published = True
            self.partial.unlink()

    def _copy(self, target: Path) -> None:
        """The packets of the partial file in an ordinary mp4; the sound ends where it or the video does."""
        samples = min(self._sound.length, round(self.frames / self._fps * self._rate))
        # Track lengths are stored in this unit, milliseconds by default.
        options = {"movflags": "faststart", "movie_timescale": str(self._rate)}
        with (
            av.open(str(self.partial)) as source,
            av.open(str(target), "w", format="mp4", options=options) as output,
        ):
            output.metadata.update(self._metadata)
            copies = {stream: output.add_stream_from_template(stream) for stream in source.streams}
            sound = source.streams.audio[0]
            end = round(Fraction(samples, self._rate) / (sound.time_base or Fraction(1, self._rate)))
            for packet in source.demux():
                if packet.dts is None:  # the empty packet that ends a stream
                    continue
                if packet.stream is sound and packet.pts is not None:
                    if packet.pts >= end:
                        continue
                    packet.duration = min(packet.duration or 0, end - packet.pts)
                packet.stream = copies[packet.stream]
                output.mux(packet)

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.error.FFmpegError) as error:
            self.abandon()
            kept = f"the {self.frames} frames so far are in {self.partial.name}, " if self.frames else ""
            raise UserError(
                f"{self._name}: cannot be written ({error.strerror}); {kept}make room or choose another place"
            ) from None

    def abandon(self) -> None:
        """Close the unfinished file as it is; drop it when no clip is in it."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(av.error.FFmpegError):  # why the writing stopped is being reported
                container.close()
        for file in (finishing_file(self._path), *([] if self.frames else [self.partial])):
            with suppress(UserError):  # of a folder that stands there, which is told where it is in the way
                clear(file)


def _finer_ends(count: int) -> str:
    """x264's option that spends more bits on the first and the last ones of so many pictures."""
    first = min(_FINER_PICTURES, max(0, count - 1))
    steps = [(0, 1.0), *((count - first + i, (i + 1) / _FINER_PICTURES) for i in range(first))]
    return "zones=" + "/".join(f"{at},{at},b={_FINER**share:.3f}" for at, share in steps)


def _playable(rate: int) -> int:
    return rate if rate in _PLAYABLE_RATES else 48000


class _Sound:
    """The sound to be played, read on and on, silence behind its end.

    Attributes:
      channels: one or two.
      length: samples of it that were read so far; all that there are once silence was.
    """

    def __init__(self, blocks: Iterable[Float32[np.ndarray, "n channels"]], rate: int, start: float):
        self._blocks = resampled(_from(blocks, round(start * rate)), rate, _playable(rate))
        self._waiting = next(self._blocks)
        self.channels, self.length = self._waiting.shape[1], 0

    def read(self, samples: int) -> Float32[np.ndarray, "samples channels"]:
        parts, missing = [], samples
        while missing:
            if not len(self._waiting):
                block = next(self._blocks, None)
                if block is None:
                    parts.append(np.zeros((missing, self.channels), np.float32))
                    break
                self._waiting = block
            part, self._waiting = self._waiting[:missing], self._waiting[missing:]
            self.length, missing = self.length + len(part), missing - len(part)
            parts.append(part)
        return np.concatenate(parts).clip(-1, 1)


def set_colours(encoder: av.VideoCodecContext) -> None:
    """Say what `to_yuv` gives."""
    encoder.color_range = ColorRange.MPEG
    encoder.colorspace = Colorspace.ITU709
    encoder.color_primaries = ColorPrimaries.BT709
    encoder.color_trc = ColorTrc.BT709


def to_yuv(picture: UInt8[np.ndarray, "H W 3"], index: int, fps: int) -> av.VideoFrame:
    """A picture as an encoder of H.264 takes it, as frame number `index`."""
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace="ITU709",
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
    )
    frame.pts, frame.time_base = index, Fraction(1, fps)
    return frame


def _from(
    blocks: Iterable[Float32[np.ndarray, "n channels"]], start: int
) -> Iterator[Float32[np.ndarray, "n channels"]]:
    for block in blocks:
        yield block[start:]
        start = max(0, start - len(block))


def _pictures_in(unfinished: Path) -> Generator[av.Packet]:
    """The packets of the pictures of an unfinished video, as far as they can be read."""
    with suppress(av.error.FFmpegError, IndexError), av.open(str(unfinished)) as source:
        yield from (packet for packet in source.demux(video=0) if packet.size)


def _checksum(packet: av.Packet, before: int) -> int:
    """CRC-32 of an encoded picture, whatever stands before each of its units, and of those before it."""
    units = [unit.strip(b"\0") for unit in bytes(packet).split(_START_CODE)]
    return zlib.crc32(_START_CODE.join([b"\1" if packet.is_keyframe else b"\0", *filter(None, units)]), before)


def _start_codes(packet: av.Packet, index: int, fps: int) -> av.Packet:
    """Picture `index` out of an mp4 as an encoder hands it over: each unit behind a start code, not its length."""
    data, units, at = bytes(packet), [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        units.append(b"\0\0\0\1" + data[at + 4 : at + 4 + size])
        at += 4 + size
    copy = av.Packet(b"".join(units))
    copy.pts = copy.dts = index
    copy.time_base, copy.duration, copy.is_keyframe = Fraction(1, fps), 1, packet.is_keyframe
    return copy
