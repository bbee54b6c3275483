"""HEIC and AVIF: what phones send."""

import subprocess
import sys
import zlib
from fractions import Fraction

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.colour import PICTURES, Colours, converted
from talkverse_jax.media.image import is_video, read_image
from tests.media import icc
from tests.media.test_profile import P3, as_srgb, read


def formulas(values, colours):
    return 255 * np.moveaxis(converted(np.moveaxis(values, -1, 0), colours, PICTURES), 0, -1)


def save(path, pixels, mode="RGB", **options):
    height, width = pixels.shape[:2]
    image = pillow_heif.from_bytes(mode=mode, size=(width, height), data=np.ascontiguousarray(pixels).tobytes())
    image.save(path, quality=-1, chroma="444", **options)
    return path


def test_heic(tmp_path, smooth):
    """Within 2 of 255 of what was stored, nothing to say."""
    image, notes = read(save(tmp_path / "a.heic", smooth))
    assert np.abs(image.astype(int) - smooth).mean() < 2 and notes == []
    assert not is_video(tmp_path / "a.heic")


def test_heic_is_turned_once(tmp_path, smooth):
    """A phone held upright: `irot` in the file and the same in EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.heic", smooth, exif=exif.tobytes())
    image, _ = read(tmp_path / "a.heic")
    assert image.shape == (96, 64, 3)
    assert np.abs(image.astype(int) - np.rot90(smooth, -1)).mean() < 2


def test_avif_is_turned_once(tmp_path, smooth):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth).save(tmp_path / "a.avif", quality=100, exif=exif)
    image, _ = read(tmp_path / "a.avif")
    assert image.shape == (96, 64, 3)
    assert np.abs(image.astype(int) - np.rot90(smooth, -1)).mean() < 2


def test_heic_in_display_p3(tmp_path, smooth):
    """As iPhones store it: an ICC profile. Within 2 of 255 of its definition."""
    image = Image.fromarray(smooth)
    image.info["icc_profile"] = icc.rgb_profile("Display P3", P3)
    pillow_heif.from_pillow(image).save(tmp_path / "a.heic", quality=-1, chroma="444")
    got, notes = read(tmp_path / "a.heic")
    assert np.abs(got - as_srgb(smooth, P3, None)).mean() < 2
    assert notes == ["colours of its profile (Display P3), converted to sRGB"]


@pytest.mark.parametrize(
    ("numbers", "colours", "note"),
    [
        ((9, 18, 9), Colours("BT.2020", "HLG"), "HDR (HLG), tone-mapped to SDR"),
        ((9, 16, 9), Colours("BT.2020", "PQ"), "HDR (PQ), tone-mapped to SDR"),
        ((12, 13, 6), Colours("P3", "SDR"), "P3 colours, converted to BT.709's"),
    ],
)
def test_heic_in_colours_by_number(tmp_path, smooth, numbers, colours, note):
    """As cameras store it, of 10 bits: within 2 of 255 of the formulas, unconverted 8 and more."""
    values = smooth.astype(np.uint16) * 200 + 5000
    names = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
    path = save(tmp_path / "a.heic", values, "RGB;16", **dict(zip(names, numbers)), full_range_flag=1)
    image, notes = read(path)
    expected = formulas(values / 65535, colours)
    assert np.abs(image - expected).mean() < 2
    assert np.abs(values / 257 - expected).mean() > 4
    assert notes == [note]


def test_avif_in_colours_by_number(tmp_path, smooth):
    """Its `colr` box says HLG, which Pillow cannot write: the numbers are put into the file."""
    Image.fromarray(smooth).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    data = (tmp_path / "a.avif").read_bytes()
    at = data.index(b"colrnclx") + 8
    assert data[at : at + 6] == bytes([0, 1, 0, 13, 0, 6])
    (tmp_path / "a.avif").write_bytes(data[:at] + bytes([0, 9, 0, 18, 0, 6]) + data[at + 6 :])
    image, notes = read(tmp_path / "a.avif")
    assert notes == ["HDR (HLG), tone-mapped to SDR"]
    expected = 255 * np.moveaxis(
        converted(np.moveaxis(smooth / 255, -1, 0), Colours("BT.2020", "HLG"), PICTURES), 0, -1
    )
    assert np.abs(image - expected).mean() < 4


def test_png_in_colours_by_number(tmp_path, smooth):
    """A screenshot of an HDR screen: the chunk `cICP` says PQ; all 16 bits are used."""
    values = smooth.astype(np.uint16) * 150
    frame = av.VideoFrame.from_ndarray(values, format="rgb48le").reformat(format="rgb48be")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 96, 64, "rgb48be", Fraction(1, 25)
    data = b"".join(bytes(packet) for packet in encoder.encode(frame))
    chunk = b"cICP" + bytes([9, 16, 0, 1])
    chunk = (4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    image, notes = read(tmp_path / "a.png")
    assert notes == ["HDR (PQ), tone-mapped to SDR"]
    assert np.abs(image - formulas(values / 65535, Colours("BT.2020", "PQ"))).mean() < 0.5


def test_damaged_heic_is_one_line(tmp_path, smooth):
    whole = save(tmp_path / "a.heic", smooth).read_bytes()
    (tmp_path / "b.heic").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UserError, match="b.heic: damaged or cut short"):
        read_image(tmp_path / "b.heic")


@pytest.mark.parametrize("name", ["a.heic", "a.avif", "a.png", "a.tif"])
def test_whatever_is_damaged_is_read_or_refused_in_one_line(tmp_path, smooth, name):
    """A hundred files with some bytes changed or cut off, a profile among them."""
    image = Image.fromarray(smooth)
    image.info["icc_profile"] = icc.rgb_profile("Display P3", P3)
    if name == "a.heic":
        pillow_heif.from_pillow(image).save(tmp_path / name)
    else:
        image.save(tmp_path / name, icc_profile=image.info["icc_profile"])
    whole, random = (tmp_path / name).read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        for place in random.integers(min(len(data), 900), size=random.integers(1, 12)):
            data[place] = random.integers(256)
        (tmp_path / name).write_bytes(data[: random.integers(len(data) // 2, 2 * len(data))])
        try:
            read_image(tmp_path / name)
        except UserError as error:
            assert str(error).startswith(str(tmp_path / name)) and "\n" not in str(error)


def test_its_library_is_loaded_for_heic_alone(tmp_path, smooth):
    Image.fromarray(smooth).save(tmp_path / "a.png")
    code = f"""
import sys
from talkverse_jax.media.image import read_image
read_image({str(tmp_path / "a.png")!r})
assert "pillow_heif" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
