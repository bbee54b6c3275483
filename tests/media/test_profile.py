"""Pictures with colour profiles, against what the profiles say."""

import numpy as np
import pytest
from PIL import Image

from talkverse_jax.media.image import read_image
from tests.media import icc

SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
PROFILES = {
    "Display P3": (P3, None),
    "Adobe RGB (1998)": (ADOBE, 563 / 256),
    "ProPhoto-like": (((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), 1.8),
}


def decoded(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(light):
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def as_srgb(pixels, primaries, gamma):
    """The definition: to light, to XYZ, to sRGB's light, and back."""
    light = decoded(pixels / 255) if gamma is None else (pixels / 255) ** gamma
    matrix = np.linalg.inv(icc.to_xyz(SRGB)) @ icc.to_xyz(primaries)
    return 255 * encoded(light @ matrix.T)


def read(path):
    notes = []
    return read_image(path, notes.append), notes


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_followed(tmp_path, smooth, name):
    """Mean error below 1 of 255; unconverted it is 8 and more."""
    primaries, gamma = PROFILES[name]
    Image.fromarray(smooth).save(tmp_path / "a.png", icc_profile=icc.rgb_profile(name, primaries, gamma))
    image, notes = read(tmp_path / "a.png")
    expected = as_srgb(smooth, primaries, gamma)
    assert np.abs(image - expected).mean() < 1.0
    assert np.abs(smooth - expected).mean() > 4
    assert notes == [f"colours of its profile ({name}), converted to sRGB"]


def test_srgb_profiles_change_nothing(tmp_path, smooth):
    profile = icc.rgb_profile("sRGB", SRGB)
    Image.fromarray(smooth).save(tmp_path / "a.png", icc_profile=profile)
    image, notes = read(tmp_path / "a.png")
    np.testing.assert_array_equal(image, smooth)
    assert notes == []
    grey = np.asarray(Image.fromarray(smooth).convert("L"))
    Image.fromarray(grey).save(tmp_path / "b.png", icc_profile=profile)  # many programs leave it in grey pictures
    image, notes = read(tmp_path / "b.png")
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))
    assert notes == []


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_with_a_profile(tmp_path, bits):
    """Of 8 and of 16 bits: gamma 1.8 as sRGB, to 1.5 of 255."""
    values = np.tile(np.arange(0, 256, dtype=np.uint8), (40, 1))
    stored = values if bits == 8 else values.astype(np.uint16) * 257
    Image.fromarray(stored).save(tmp_path / "a.png", icc_profile=icc.grey_profile("Grey 1.8", 1.8))
    image, notes = read(tmp_path / "a.png")
    np.testing.assert_allclose(image[0, :, 1], 255 * encoded((np.arange(256) / 255) ** 1.8), atol=1.5)
    assert notes == ["colours of its profile (Grey 1.8), converted to sRGB"]


def test_cmyk_with_a_profile(tmp_path):
    """Each ink alone, and steps of black, to 2 of 255."""
    inks = np.moveaxis(np.indices((2, 2, 2, 2)), 0, -1)
    corners = np.zeros((2, 2, 2, 2, 3))
    corners[..., 0] = np.maximum(0, 100 - 40 * inks[..., 0] - 45 * inks[..., 1] - 10 * inks[..., 2])
    corners[..., 0] *= 1 - inks[..., 3]
    corners[..., 1] = (-35 * inks[..., 0] + 70 * inks[..., 1]) * (1 - inks[..., 3])
    corners[..., 2] = (-50 * inks[..., 0] + 90 * inks[..., 2]) * (1 - inks[..., 3])
    patches = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 128)]
    pixels = np.repeat(np.array(patches, np.uint8)[:, None], 10, axis=0).repeat(40, axis=1)
    path = tmp_path / "a.tif"
    Image.fromarray(pixels, "CMYK").save(path, icc_profile=icc.cmyk_profile("Ink", corners))
    image, notes = read(path)
    lab = [corners[tuple(np.array(patch) // 255)] for patch in patches[:5]] + [np.array([100 * (1 - 128 / 255), 0, 0])]
    matrix = np.linalg.inv(icc.to_xyz(SRGB)) @ np.linalg.inv(icc.adapted())
    expected = [255 * encoded(matrix @ lab_to_xyz(colour)) for colour in lab]
    np.testing.assert_allclose(image[5::10, 20], expected, atol=2)
    assert notes == ["colours of its profile (Ink), converted to sRGB"]


def lab_to_xyz(lab):
    y = (lab[0] + 16) / 116
    f = np.array([y + lab[1] / 500, y, y - lab[2] / 200])
    return np.array(icc.D50) * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))


def test_cmyk_without_a_profile_is_said(tmp_path, smooth):
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.jpg")[1] == ["CMYK without a colour profile, converted by formula"]


def test_lab(tmp_path):
    """CIE Lab of D50: L* 50 is 119 in sRGB."""
    Image.fromarray(np.full((40, 40, 3), (128, 0, 0), np.uint8), "LAB").save(tmp_path / "a.tif")
    np.testing.assert_allclose(read(tmp_path / "a.tif")[0][0, 0], [119, 119, 119], atol=1)


def test_transparent_with_a_profile(tmp_path, smooth):
    """The colours are converted, then laid on white."""
    alpha = np.full((64, 96, 1), 255, np.uint8)
    alpha[:32] = 0
    profile = icc.rgb_profile("Display P3", P3)
    Image.fromarray(np.dstack([smooth, alpha])).save(tmp_path / "a.png", icc_profile=profile)
    image, notes = read(tmp_path / "a.png")
    assert (image[:32] == 255).all()
    assert np.abs(image[32:] - as_srgb(smooth, P3, None)[32:]).mean() < 1
    assert notes == ["colours of its profile (Display P3), converted to sRGB", "transparent, laid on white"]


def test_profiles_that_cannot_be_used_are_said(tmp_path, smooth):
    grey = icc.grey_profile("Grey", 1.8)
    Image.fromarray(smooth).save(tmp_path / "a.png", icc_profile=grey)
    image, notes = read(tmp_path / "a.png")
    np.testing.assert_array_equal(image, smooth)
    assert notes == ["its colour profile is for GRAY, ignored"]
    for broken in (b"no profile", grey[:150], b"\xff" * 400):
        Image.fromarray(smooth).save(tmp_path / "b.png", icc_profile=broken)
        image, notes = read(tmp_path / "b.png")
        np.testing.assert_array_equal(image, smooth)
        assert notes == ["its colour profile is damaged, ignored"]


def test_cameras_say_adobe_rgb_in_exif(tmp_path, smooth):
    """No profile, but the interoperability index R03 (DCF 2.0)."""
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65535, 0xA005: {1: "R03"}}
    Image.fromarray(smooth).save(tmp_path / "a.png", exif=exif)
    image, notes = read(tmp_path / "a.png")
    assert np.abs(image - as_srgb(smooth, ADOBE, 563 / 256)).mean() < 1
    assert notes == ["Adobe RGB colours, converted to BT.709's"]
