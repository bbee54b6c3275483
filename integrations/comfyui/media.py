"""What ComfyUI hands from node to node, as files that a server reads."""

import io
import wave
from typing import Any

import numpy as np
from PIL import Image


def png_of(images: Any) -> bytes:
    """The first picture of an IMAGE, [B, H, W, C] with values from 0 to 1, without its transparency."""
    pixels = np.rint(np.clip(_array(images[0])[..., :3], 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def wav_of(audio: Any) -> bytes:
    """The first sound of an AUDIO, {"waveform": [B, C, T] with values from -1 to 1, "sample_rate": Hz}; 16 bits."""
    samples = _array(audio["waveform"][0])
    whole = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(len(whole))
        out.setsampwidth(2)
        out.setframerate(int(audio["sample_rate"]))
        out.writeframes(whole.T.tobytes())
    return file.getvalue()


def file_of(video: Any) -> Any:
    """The path or the bytes of a VIDEO."""
    source = video.get_stream_source()
    return source if isinstance(source, str) else source.getvalue()


def _array(tensor: Any) -> np.ndarray:
    """The values of a tensor, wherever it lies and however it is stored."""
    return np.asarray(tensor.detach().float().cpu() if hasattr(tensor, "detach") else tensor, np.float32)
