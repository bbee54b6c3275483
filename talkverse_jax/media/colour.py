"""Colours that are not those of ordinary video (BT.709), brought to it: high dynamic range, and wide gamuts.

Light is counted in units of diffuse white: 203 cd/m2 in PQ and HLG (ITU-R BT.2408), the most that SDR shows. Up to
0.3 of it, where faces are, light stays as it is; above, the Mobius curve of FFmpeg's filter `tonemap` brings
1000 cd/m2 down to white. The brightest of red, green and blue decides, so that hues stay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, "*shape"]
Channels = Float[np.ndarray, "3 *shape"]  # red, green and blue
Transfer = Literal["SDR", "PQ", "HLG", "gamma 2.2"]

WHITE = 203.0  # cd/m2
_PEAK = 1000.0 / WHITE  # HLG's nominal one, and the one that most PQ is made for
_KNEE = 0.3
_WHITE_POINT = (0.3127, 0.3290)  # D65
# x and y of red, green and blue. ITU-R BT.709, BT.2020; SMPTE EG 432 (and theatres' RP 431, but for its white);
# Adobe RGB (1998).
_PRIMARIES = {
    "BT.709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "BT.2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "Adobe RGB": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
}
# Numbers of ITU-T H.273, which files and frames carry.
_WIDE = {9: "BT.2020", 11: "P3", 12: "P3"}
_HDR: dict[int, Transfer] = {16: "PQ", 18: "HLG"}
_BT2020_MATRICES = (9, 10)
_UNSPECIFIED = 2


@dataclass(frozen=True)
class Colours:
    """What values stand for.

    Attributes:
      primaries: a name in the table above.
      transfer: from values to light: "SDR" is that of what they are converted to, video or pictures.
    """

    primaries: str
    transfer: Transfer

    @property
    def ordinary(self) -> bool:
        """Whether there is nothing to convert."""
        return self == Colours("BT.709", "SDR")

    @property
    def note(self) -> str:
        """What is done about them."""
        if self.transfer in _HDR.values():
            return f"HDR ({self.transfer}), tone-mapped to SDR"
        return f"{self.primaries} colours, converted to BT.709's"


ADOBE_RGB = Colours("Adobe RGB", "gamma 2.2")


def colours_of(primaries: int, transfer: int, matrix: int) -> Colours:
    """Of pixels that carry those numbers.

    Unusual primaries, and BT.601's, are taken for BT.709's. HDR that does not say its primaries, and whatever is coded
    with BT.2020's matrix, has BT.2020's.
    """
    curve = _HDR.get(transfer, "SDR")
    if primaries == _UNSPECIFIED and (curve != "SDR" or matrix in _BT2020_MATRICES):
        return Colours("BT.2020", curve)
    return Colours(_WIDE.get(primaries, "BT.709"), curve)


class Display(NamedTuple):
    """What SDR values are made for: from values to light, and back from light in [0, 1]."""

    light: Callable[[Values], Values]
    values: Callable[[Values], Values]


def _srgb_to_light(values: Values) -> Values:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _light_to_srgb(light: Values) -> Values:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


VIDEO = Display(lambda values: values**2.4, lambda light: light ** (1 / 2.4))  # ITU-R BT.1886, with a black of 0
PICTURES = Display(_srgb_to_light, _light_to_srgb)  # IEC 61966-2-1


def _pq_to_light(values: Values) -> Values:
    """SMPTE ST 2084 (ITU-R BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = values ** (1 / m2)
    return 10000 / WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_to_scene(values: Values) -> Values:
    """ITU-R BT.2100, table 5: the light that the camera saw, 1 at most."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)


def linear(values: Values, colours: Colours, display: Display) -> Values:
    """Values in [0, 1] as light, each by itself; those of HLG as light of the scene."""
    match colours.transfer:
        case "PQ":
            return _pq_to_light(values)
        case "HLG":
            return _hlg_to_scene(values)
        case "gamma 2.2":  # Adobe RGB (1998)
            return values ** (563 / 256)
        case "SDR":
            return display.light(values)


def shown(linear: Channels, colours: Colours) -> Channels:
    """Light as a display of BT.709's primaries shows it, in [0, 1]; what it cannot show is clipped."""
    if colours.transfer == "HLG":  # BT.2100, table 5, on a display of 1000 cd/m2 (system gamma 1.2)
        luminance = np.tensordot(np.array([0.2627, 0.6780, 0.0593], linear.dtype), linear, axes=1)
        linear = linear * (1000 / WHITE * luminance**0.2).astype(linear.dtype)
    light = np.tensordot(_to_bt709(colours.primaries).astype(linear.dtype), linear, axes=1)
    if colours.transfer in _HDR.values():
        light *= _mobius(light.max(axis=0).clip(1e-6))
    return light.clip(0, 1)


def converted(values: Channels, colours: Colours, display: Display) -> Channels:
    """Values in [0, 1] of those colours as values of BT.709 for that display."""
    return display.values(shown(linear(values, colours, display), colours))


def _mobius(light: Values) -> Values:
    """By what to multiply the light of a pixel whose brightest channel has so much."""
    a = -(_KNEE**2) * (_PEAK - 1) / (_KNEE**2 - 2 * _KNEE + _PEAK)
    b = (_KNEE**2 - 2 * _KNEE * _PEAK + _PEAK) / (_PEAK - 1)
    scale = (b**2 + 2 * b * _KNEE + _KNEE**2) / (b - a)
    return np.where(light <= _KNEE, 1, scale * (light + a) / ((light + b) * light)).astype(light.dtype)


def _to_bt709(primaries: str) -> Float[np.ndarray, "3 3"]:
    """From light of those primaries to that of BT.709, by which column vectors are multiplied."""
    return np.linalg.inv(_to_xyz("BT.709")) @ _to_xyz(primaries)


def _to_xyz(primaries: str) -> Float[np.ndarray, "3 3"]:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _PRIMARIES[primaries]]).T
    x, y = _WHITE_POINT
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])
