import io
import zlib

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.core.errors import UserError
from talkverse_jax.media.image import read_image
from talkverse_jax.media.video_writer import VideoWriter


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_opaque_pixels_are_pillows(tmp_path, noise):
    for name, options in {"a.png": {}, "a.jpg": {"quality": 80}, "a.webp": {"lossless": True}}.items():
        Image.fromarray(noise).save(tmp_path / name, **options)
        expected = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)


def test_exif_orientation_is_honoured(tmp_path, noise):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    Image.fromarray(noise).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(noise, -1))


def test_transparency_lies_on_white(tmp_path, noise):
    alpha = np.full((40, 50, 1), 255, np.uint8)
    alpha[:, :10], alpha[:, 10:20] = 0, 128
    Image.fromarray(np.concatenate([noise, alpha], -1)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[:, :10] == 255).all()
    np.testing.assert_allclose(image[:, 10:20], 127 + noise[:, 10:20] / 2, atol=1)
    np.testing.assert_array_equal(image[:, 20:], noise[:, 20:])


def test_a_palette_with_a_transparent_colour(tmp_path):
    indices = np.zeros((32, 32), np.uint8)
    indices[:, 16:] = 1
    image = Image.fromarray(indices, "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=0)
    read = read_image(tmp_path / "a.png")
    assert read[0, 0].tolist() == [255, 255, 255] and read[0, 31].tolist() == [200, 100, 50]


def test_16_bit_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 40 * 40).astype(np.uint16).reshape(40, 40)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        image = read_image(tmp_path / name)
        np.testing.assert_allclose(image[..., 1], values / 257, atol=0.51)
        assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "1", "P", "YCbCr"])
def test_other_colour_modes(tmp_path, noise, mode):
    smooth = Image.fromarray(noise[:4, :5]).resize((64, 48), Image.BICUBIC)
    name = {"CMYK": "a.jpg", "YCbCr": "a.jpg"}.get(mode, "a.png")
    smooth.convert(mode).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    error = image.astype(float) - np.asarray(smooth.convert(mode).convert("RGB"))
    assert np.abs(error).mean() < (8 if name == "a.jpg" else 1e-9)


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif", "a.tif"])
def test_the_first_picture_of_several_is_taken_and_said(tmp_path, noise, name):
    first, second = Image.fromarray(noise), Image.new("RGB", (50, 40), "red")
    options = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second, second], **options)
    notes = []
    image = read_image(tmp_path / name, notes.append)
    assert np.abs(image.astype(int) - noise).mean() < (60 if name == "a.gif" else 1e-9)  # 256 colours
    assert notes == ["3 pages, the first taken" if name == "a.tif" else "an animation, its first picture taken"]


def test_single_pictures_are_nothing_to_speak_of(tmp_path, noise):
    for name in ("a.webp", "a.png", "a.gif", "a.tif", "a.jpg", "a.bmp"):
        notes = []
        Image.fromarray(noise).save(tmp_path / name)
        read_image(tmp_path / name, notes.append)
        assert notes == []


def test_a_photo_with_a_gain_map_is_its_first_picture_unsaid(tmp_path, noise):
    """What phones call Ultra HDR: the first is the photo in SDR, the second how to make it brighter."""
    photo, gain = Image.fromarray(noise), Image.new("L", (25, 20), 128)
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[gain], quality=95, subsampling=0)
    notes = []
    image = read_image(tmp_path / "a.jpg", notes.append)
    assert notes == [] and np.abs(image.astype(int) - noise).mean() < 4


def test_resolution_does_not_stretch(tmp_path, noise):
    """No viewer heeds that a scan or a fax has more dots across than down."""
    Image.fromarray(noise).save(tmp_path / "a.png", dpi=(204, 98))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), noise)


def test_what_a_sensor_saw_is_refused(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / "a.dng", "TIFF")
    with pytest.raises(UserError, match="a.dng: what a camera's sensor saw, not developed; save it as PNG or JPEG"):
        read_image(tmp_path / "a.dng")


def test_what_is_transparent_is_said(tmp_path, noise):
    for alpha, expected in ((255, []), (254, ["transparent, laid on white"])):
        notes = []
        Image.fromarray(np.dstack([noise, np.full((40, 50), alpha, np.uint8)])).save(tmp_path / "a.png")
        read_image(tmp_path / "a.png", notes.append)
        assert notes == expected


def test_too_small(tmp_path):
    for size in ((1, 1), (400, 31)):
        Image.new("RGB", size).save(tmp_path / "dot.png")
        with pytest.raises(UserError, match=rf"dot.png: {size[0]}x{size[1]} pixels; .* 32"):
            read_image(tmp_path / "dot.png")


def test_too_long(tmp_path):
    """Of 64x7000 pixels a video of 704 rows would need 77,000 columns, before its middle is cut out."""
    Image.new("RGB", (7000, 64)).save(tmp_path / "strip.png")
    with pytest.raises(UserError, match="strip.png: 7000x64 pixels; one side is over 100 times the other, cut a part"):
        read_image(tmp_path / "strip.png")


def test_no_picture(tmp_path):
    with pytest.raises(UserError, match="none.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match="empty.png: the file is empty"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("I am no picture")
    with pytest.raises(UserError, match="text.png: not a picture"):
        read_image(tmp_path / "text.png")


def test_cut_short(tmp_path, noise):
    for name in ("a.jpg", "a.png"):
        whole = io.BytesIO()
        Image.fromarray(noise).save(whole, {"a.jpg": "JPEG", "a.png": "PNG"}[name])
        (tmp_path / name).write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        with pytest.raises(UserError, match=f"{name}: damaged or cut short"):
            read_image(tmp_path / name)


def test_a_video_is_named_as_such(tmp_path, noise):
    silence = np.zeros((4800, 1), np.float32)
    with VideoWriter(tmp_path / "a.mp4", width=50, height=40, sound=[silence], rate=48000) as writer:
        writer.write(noise[None].repeat(2, axis=0))
    with pytest.raises(UserError, match="a.mp4: is a video; give a picture"):
        read_image(tmp_path / "a.mp4")


def test_a_sound_with_a_cover_is_no_video(encode_sound):
    path = encode_sound("a.mp3", "libmp3lame", np.zeros((4800, 1)), 48000)
    with pytest.raises(UserError, match="a.mp3: not a picture"):
        read_image(path)


def test_a_decompression_bomb(tmp_path):
    """A small PNG that says it is 60000x60000."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    header = (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(UserError, match="bomb.png: more than 89 million pixels"):
        read_image(tmp_path / "bomb.png")
