"""Colour profiles (ICC) for the tests, computed from primaries, and what they mean in NumPy."""
import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])      # the white point of profiles
D65 = np.array([0.3127, 0.3290])
PRIMARIES = {      # x, y of red, green and blue
    "srgb": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
}
GAMMA = {"srgb": None, "p3": None, "adobe": 563 / 256}      # None: the curve of sRGB
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def matrix(name):
    """Return the matrix from linear values to XYZ, relative to D50."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in PRIMARIES[name]]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65.sum()) / D65[1]])
    columns = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD
    return adapt @ columns


def linear(values, gamma):
    """Return the linear values, 0 to 1, of values of 0 to 1."""
    if gamma:
        return values ** gamma
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_srgb(array, name):
    """Convert a picture to sRGB. array: (..., 3), 0 to 255; name: its space. Returns floats of 0 to 255."""
    light = linear(np.float64(array) / 255, GAMMA[name]) @ (np.linalg.inv(matrix("srgb")) @ matrix(name)).T
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def profile(name):
    """Return the contents of a profile for RGB: one of PRIMARIES."""
    curve = _curve(GAMMA[name])
    colours = {f"{c}XYZ": _xyz(column) for c, column in zip("rgb", matrix(name).T)}
    return _file(b"RGB ", b"XYZ ", colours | {f"{c}TRC": curve for c in "rgb"})


def grey_profile(gamma):
    """Return the contents of a profile for grey pictures."""
    return _file(b"GRAY", b"XYZ ", {"kTRC": _curve(gamma)})


def cmyk_profile():
    """Return the contents of a profile for CMYK in which cyan is a light blue, and the other inks are as usual."""
    corners = []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lab = np.array([100.0, 0, 0]) + c * np.array([-30, -20, -25]) + m * np.array([-45, 70, 0]) \
            + y * np.array([-8, -5, 90]) - k * np.array([95, 0, 0])
        level, a, b = lab[0].clip(0, 100), *(lab[1:] * (1 - k)).clip(-128, 127)
        corners += [round(level * 2.55), round(a + 128), round(b + 128)]
    identity = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536) \
        + identity * 4 + bytes(corners) + identity * 3
    return _file(b"CMYK", b"Lab ", {"A2B0": lut}, b"prtr")


def _curve(gamma):
    values = np.round(65535 * linear(np.linspace(0, 1, 1024), gamma)).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(values)) + values.tobytes()


def _xyz(values):
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def _file(space, pcs, tags, kind=b"mntr"):
    """Return a profile of version 2 with some tags, and those that every profile has."""
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(4 + 4 + 2 + 1 + 67)
    tags = {"desc": text, "cprt": b"text" + bytes(4) + b"none\0", "wtpt": _xyz(D50)} | tags
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name.encode() + struct.pack(">II", offset + len(data), len(content))
        data += content
    size = offset + len(data)
    header = struct.pack(">I4sI4s4s4s12s4s4s", size, bytes(4), 0x02100000, kind, space, pcs, bytes(12), b"acsp",
                         bytes(4))
    header += bytes(68 - len(header)) + struct.pack(">3i", *(round(v * 65536) for v in D50))
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + data
