"""What a car's film makes of its pictures: blur, exposure and noise; pure, in place, the same in every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

GAIN, LIFT, BLUR, NOISE = range(4)
"""The columns of a table of films, float64[batch, 4]."""
NOISE_UNIT: Final = 147.8
"""Standard deviation of the sum of four random bytes."""


@dataclass(slots=True)
class Film:
    """What disturbs the picture of each car, one row a car; every array is float64[batch] unless it says otherwise.

    A picture is blurred, multiplied by `gain`, raised by `lift` grey levels, and gets `noise` (its standard deviation
    in grey levels), which depends only on the car's `seed`, the number of the frame, and the place in the picture.
    """

    gain: Floats
    lift: Floats
    blur: Floats
    """0..1: from none to the binomial of 5 x 5."""
    noise: Floats
    seed: NDArray[np.uint64]
    """uint64[batch]"""
    pitch: Floats
    """Errors of the camera's pose, rad and m."""
    yaw: Floats
    up: Floats
    ahead: Floats
    left: Floats
    palette: NDArray[np.int64]
    """int64[batch]: which of the scene's palettes."""
    glare: Floats
    """float64[batch, g, 4]: round patches of light on the ground: x, y, radius (m), and the grey levels that it adds
    at its centre, falling as 1 - (distance / radius)^2; 0 levels add nothing."""

    @classmethod
    def neutral(cls, batch: int) -> Film:
        """A film that leaves the picture as it is."""
        gain, seed, palette = np.ones(batch), np.zeros(batch, np.uint64), np.zeros(batch, np.int64)
        lift, blur, noise, pitch, yaw, up, ahead, left = np.zeros((8, batch))
        glare = np.zeros((batch, 0, 4))
        return cls(gain, lift, blur, noise, seed, pitch, yaw, up, ahead, left, palette, glare)


_part = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]


@njit(cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True)  # type: ignore[call-overload]
def develop(pictures, cars, films, seeds, frames):  # type: ignore[no-untyped-def]
    """Develop in place the pictures uint8[batch, cameras, planes, height, width] of the `cars` int64[n]."""
    cameras, planes, height, width = pictures.shape[1:]
    raw = np.empty((height, width), np.uint8)
    rows = np.empty((2, width + 4), np.float32)
    for car in cars:
        if films[car, GAIN] == 1 and films[car, LIFT] == 0 and films[car, BLUR] == 0 and films[car, NOISE] == 0:
            continue
        for camera in range(cameras):
            for plane in range(planes):
                for row in range(np.uint64(height)):
                    for k in range(np.uint64(width)):
                        raw[row, k] = pictures[car, camera, plane, row, k]
                key = _mixed(_mixed(seeds[car] + np.uint64(frames[car])) + np.uint64(camera * planes + plane))
                for row in range(height):
                    _blurred(rows, raw, row, films[car, BLUR])
                    _exposed(rows, row, films[car, GAIN], films[car, LIFT], films[car, NOISE], key)
                    for k in range(np.uint64(width)):
                        level = min(max(rows[0, k], np.float32(0)), np.float32(255))
                        pictures[car, camera, plane, row, k] = np.uint8(np.int32(level))


SIGNATURE: Final = "void(u1[:,:,:,:,:], i8[::1], f8[:,::1], u8[::1], i8[::1])"


def prepare() -> None:
    """Compile `develop`, or read what was compiled before: for pictures with any strides, and for nothing else."""
    if not develop.signatures:
        develop.compile(SIGNATURE)
        develop.disable_compile()


@_part
def _blurred(rows, raw, row, blur):  # type: ignore[no-untyped-def]
    """Into rows[0] a row of the picture, blurred; beyond its edges the picture goes on as it is there."""
    height, width = raw.shape
    if blur == 0:
        for k in range(np.uint64(width)):
            rows[0, k] = np.float32(raw[row, k])
        return
    near, far, own = np.float32(blur / 4), np.float32(blur / 16), np.float32(1 - 5 * blur / 8)
    up2, up, down, down2 = max(row - 2, 0), max(row - 1, 0), min(row + 1, height - 1), min(row + 2, height - 1)
    for k in range(np.uint64(width)):
        rows[1, k + np.uint64(2)] = (
            far * np.float32(np.int32(raw[up2, k]) + np.int32(raw[down2, k]))
            + near * np.float32(np.int32(raw[up, k]) + np.int32(raw[down, k]))
            + own * np.float32(raw[row, k])
        )
    rows[1, 0] = rows[1, 1] = rows[1, 2]
    rows[1, width + 2] = rows[1, width + 3] = rows[1, width + 1]
    for k in range(np.uint64(width)):
        rows[0, k] = (
            far * (rows[1, k] + rows[1, k + np.uint64(4)])
            + near * (rows[1, k + np.uint64(1)] + rows[1, k + np.uint64(3)])
            + own * rows[1, k + np.uint64(2)]
        )


@_part
def _exposed(rows, row, gain, lift, noise, key):  # type: ignore[no-untyped-def]
    """Multiply and raise rows[0] and add noise, with half a grey level for rounding."""
    width = rows.shape[1] - 4
    gain, lift, unit = np.float32(gain), np.float32(lift + 0.5), np.float32(noise / NOISE_UNIT)
    low, high = np.uint32(key & np.uint64(0xFFFFFFFF)), np.uint32(key >> np.uint64(32))
    if noise > 0:
        first = np.uint32(row * width)
        for k in range(np.uint64(width)):
            grain = unit * np.float32(_grain(np.uint32(first + np.uint32(k)), low, high))
            rows[0, k] = rows[0, k] * gain + lift + grain
    else:
        for k in range(np.uint64(width)):
            rows[0, k] = rows[0, k] * gain + lift


@_part
def _grain(pixel, key_low, key_high):  # type: ignore[no-untyped-def]
    """int32: the sum of four random bytes, less its mean; C. Wellons' lowbias32 of the pixel, with two keys."""
    bits = np.uint32(np.uint32(pixel * np.uint32(0x9E3779B9)) + key_low)
    bits = np.uint32(np.uint32(bits ^ np.uint32(bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
    bits = np.uint32(bits ^ key_high)
    bits = np.uint32(np.uint32(bits ^ np.uint32(bits >> np.uint32(15))) * np.uint32(0x846CA68B))
    bits = np.uint32(bits ^ np.uint32(bits >> np.uint32(16)))
    mask = np.uint32(0x00FF00FF)
    pairs = np.uint32(np.uint32(bits & mask) + np.uint32(np.uint32(bits >> np.uint32(8)) & mask))
    return np.int32(np.int32(np.uint32(pairs & np.uint32(0xFFFF)) + np.uint32(pairs >> np.uint32(16))) - np.int32(510))


@_part
def _mixed(x):  # type: ignore[no-untyped-def]
    """splitmix64, as a hash."""
    x = np.uint64(x + np.uint64(0x9E3779B97F4A7C15))
    x = np.uint64((x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    x = np.uint64((x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    return x ^ (x >> np.uint64(31))
