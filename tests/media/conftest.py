import av
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def encode_sound(tmp_path):
    """`encode_sound("a.mp3", "libmp3lame", samples [n, channels], rate)` makes a file; returns its path."""

    def encode(name, codec, samples, rate, **options):
        path = tmp_path / name
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=rate)
            stream.bit_rate = 192_000
            stream.layout = "stereo" if samples.shape[1] == 2 else "mono"
            for start in range(0, len(samples), 1024):
                chunk = np.ascontiguousarray(samples[start : start + 1024].T, dtype=np.float32)
                frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout=stream.layout.name)
                frame.sample_rate, frame.pts = rate, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return encode


@pytest.fixture
def smooth():
    """A picture of soft blots in all colours."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC))
