"""Colour profiles made by the ICC's specification (ICC.1:2022, sections 7 to 10), small enough to read."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
D65 = (0.95047, 1.0, 1.08883)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def rgb_profile(name: str, primaries: tuple, gamma: float | None = None) -> bytes:
    """Of x and y of red, green and blue, white D65; the curve is sRGB's without `gamma`."""
    curve = _parametric() if gamma is None else _gamma(gamma)
    columns = adapted() @ to_xyz(primaries)
    tags = {b"rgb"[i : i + 1] + b"XYZ": _xyz(columns[:, i]) for i in range(3)}
    tags |= {b"rgb"[i : i + 1] + b"TRC": curve for i in range(3)}
    return _profile(name, b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(name: str, gamma: float) -> bytes:
    return _profile(name, b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def cmyk_profile(name: str, corners: np.ndarray) -> bytes:
    """`corners` [2, 2, 2, 2, 3] are Lab of no or full cyan, magenta, yellow and black; linear between."""
    straight = bytes(range(256))
    lab = np.stack([corners[..., 0] * 2.55, corners[..., 1] + 128, corners[..., 2] + 128], axis=-1)
    matrix = b"".join(_fixed(value) for value in np.eye(3).ravel())
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + straight * 4
    table += np.round(lab).astype(np.uint8).tobytes() + straight * 3
    return _profile(name, b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def to_xyz(primaries: tuple, white: tuple = D65) -> np.ndarray:
    """From linear red, green and blue to XYZ."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    return columns * np.linalg.solve(columns, white)


def adapted() -> np.ndarray:
    """From XYZ under D65 to that under D50."""
    return np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ D50) / (_BRADFORD @ D65)) @ _BRADFORD


def _profile(name: str, kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode("utf-16-be")
    named = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = {b"desc": named, b"wtpt": _xyz(D50)} | tags
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x04300000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(_fixed(value) for value in D50)
    return head.ljust(128, b"\0") + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _gamma(value: float) -> bytes:
    return b"para" + bytes(4) + struct.pack(">HH", 0, 0) + _fixed(value)


def _parametric() -> bytes:
    return (
        b"para"
        + bytes(4)
        + struct.pack(">HH", 3, 0)
        + b"".join(map(_fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    )
