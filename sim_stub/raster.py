"""How pictures are drawn, compiled: one image row at a time, the ground by two additions a sample, all else by spans.

Within one row of samples the ground under the rays is affine in the column, so that a sample is two additions in fixed
point and one look-up in the level of the ground's pyramid that fits the row. Walls and boxes are convex polygons: each
edge and the eye span a plane, which cuts a row at a column linear in the row, so that a polygon covers one span of each
row; nothing is projected or divided, and what stands half behind the camera needs no clipping.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

WIDTH, HEIGHT, FOCAL, AHEAD, LEFT, UP, PITCH, SAMPLES = range(8)
"""The columns of a table of lenses, float64[cameras, 8]; the focal length is in pixels, `UP` is above the ground."""
TILT, TURN, RAISE, FORTH, ASIDE = range(5)
"""The columns of a table of errors of the cameras' poses, float64[batch, 5]: pitch, yaw, up, ahead and left."""

STRIP_BITS: Final = 3
"""A texture lies in memory as strips of 8 texels by all rows, so that a cache line is a square of 8 by 8."""
BEYOND: Final = 1e-4
"""Rays that fall less steeply than this are drawn as level: they meet the ground beyond every field."""
FIXED: Final = 16
"""Bits after the point of a texel's coordinates."""
AMBIENT: Final = 0.4
SUN: Final = (0.29, -0.058, 0.522)
"""Light on a box's face: AMBIENT, and what the dot product of this and the face's normal adds."""


_part = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
"""Compiles what only compiled functions call; what comes of it is kept within theirs, so they belong in one file."""


@njit(cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True)  # type: ignore[call-overload]
def draw(out, cars, state, lenses, errors, boxes, glares, palettes, texels, levels, world, plain, tint):  # type: ignore[no-untyped-def]
    """Draw what the `cars` (int64[n], rows of all tables) see into out uint8[batch, cameras, planes, height, width].

    `world` float64[9] is the field's x low, y low, x high, y high (m), its texels a metre along x and y, its texels
    along x and y, and the height of its walls (m); the other tables are as Eye, Film and Scene describe them.
    """
    planes, width = out.shape[2], out.shape[4]
    n = int(lenses[0, SAMPLES])
    at = np.empty((n, width * n), np.uint32)
    lines = np.empty((n, planes, width * n), np.uint8)
    pixels = np.empty(width, np.uint8)
    most = 4 + 3 * boxes.shape[1]
    edges = np.empty((most, 4, 3))
    reach = np.empty((most, 2), np.int64)
    paint = np.empty((most, planes), np.uint8)
    corners = np.empty((4, 3))
    order, far = np.empty(boxes.shape[1], np.int64), np.empty(boxes.shape[1])
    eye = np.empty(10)
    for car in cars:
        palette = palettes[car]
        for camera in range(lenses.shape[0]):
            _stand(eye, state, lenses, errors, car, camera)
            walls = _wall_faces(edges, reach, paint, corners, eye, world, plain, palette)
            faces = walls
            for k in range(_sort(order, far, eye, boxes, car)):
                faces = _box_faces(edges, reach, paint, corners, eye, boxes, car, order[k], tint, palette, faces)
            _picture(
                out, car, camera, pixels, lines, at, eye, edges, reach, paint, walls, faces,
                texels, levels, world, plain, palette, glares,
            )  # fmt: skip


SIGNATURE: Final = (
    "void(u1[:,:,:,:,:], i8[::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1], i8[::1],"
    " u1[:,:,::1], i8[:,::1], f8[::1], u1[:,:,::1], f8[:,:,::1])"
)


def prepare() -> None:
    """Compile `draw`, or read what was compiled before: for pictures with any strides, and for nothing else."""
    if not draw.signatures:
        draw.compile(SIGNATURE)
        draw.disable_compile()


@_part
def _stand(eye, state, lenses, errors, car, camera):  # type: ignore[no-untyped-def]
    """Where the eye is (m), cos and sin of its heading and pitch, its focal length and picture's size in samples."""
    cos, sin = np.cos(state[car, 2]), np.sin(state[car, 2])
    ahead, left = lenses[camera, AHEAD] + errors[car, FORTH], lenses[camera, LEFT] + errors[car, ASIDE]
    eye[0] = state[car, 0] + cos * ahead - sin * left
    eye[1] = state[car, 1] + sin * ahead + cos * left
    eye[2] = lenses[camera, UP] + errors[car, RAISE]
    heading, pitch = state[car, 2] + errors[car, TURN], lenses[camera, PITCH] + errors[car, TILT]
    eye[3], eye[4] = np.cos(heading), np.sin(heading)
    eye[5], eye[6] = np.cos(pitch), np.sin(pitch)
    n = lenses[camera, SAMPLES]
    eye[7], eye[8], eye[9] = lenses[camera, FOCAL] * n, lenses[camera, WIDTH] * n, lenses[camera, HEIGHT] * n


@_part
def _edges(edges, reach, face, corners, eye):  # type: ignore[no-untyped-def]
    """Work out a face from its corners float64[4, 3] (m from the eye, in order); False if it cannot be in the picture.

    Edge k, from corner k to the next, is kept as a sign, p and q: 1 or -1 if the face lies right or left of the column
    p + q row; 0 if it lies in the rows where p + q row is not negative; and 2 if the edge does not count. `reach` are
    the rows [first, last) in which any of it can be.
    """
    mx = (corners[0, 0] + corners[1, 0] + corners[2, 0] + corners[3, 0]) / 4
    my = (corners[0, 1] + corners[1, 1] + corners[2, 1] + corners[3, 1]) / 4
    mz = (corners[0, 2] + corners[1, 2] + corners[2, 2] + corners[3, 2]) / 4
    slope = eye[8] / 2 / eye[7]
    first, last, lefts, rights = eye[9], 0.0, 0, 0
    for k in range(4):
        ax, ay, az = corners[k, 0], corners[k, 1], corners[k, 2]
        j = (k + 1) & 3
        bx, by, bz = corners[j, 0], corners[j, 1], corners[j, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        if nx * mx + ny * my + nz * mz < 0:
            nx, ny, nz = -nx, -ny, -nz
        along, aside = nx * eye[3] + ny * eye[4], nx * eye[4] - ny * eye[3]
        ahead = along * eye[5] - nz * eye[6]
        down, right = -(along * eye[6] + nz * eye[5]) / eye[7], aside / eye[7]
        start = ahead + down * (0.5 - eye[9] / 2) + right * (0.5 - eye[8] / 2)
        sign = 0.0
        if abs(right) > 1e-9 * (abs(ahead) + abs(down)):
            sign = 1.0 if right > 0 else -1.0
            start, down = -start / right, -down / right
        edges[face, k, 0], edges[face, k, 1], edges[face, k, 2] = sign, start, down
        along, aside = ax * eye[3] + ay * eye[4], ax * eye[4] - ay * eye[3]
        deep = along * eye[5] - az * eye[6]
        lefts += aside < -slope * deep
        rights += aside > slope * deep
        row = 0.0
        if deep > 1e-3:
            row = eye[9] / 2 - eye[7] * (along * eye[6] + az * eye[5]) / deep
            first, last = min(first, row), max(last, row)
        else:
            first, last = 0.0, eye[9]
    reach[face, 0], reach[face, 1] = int(max(first - 1, 0.0)), int(min(last + 2, eye[9]))
    return lefts < 4 and rights < 4 and reach[face, 0] < reach[face, 1]


@_part
def _cover(lines, sub, edges, face, row, paint):  # type: ignore[no-untyped-def]
    """Paint the columns of a row of samples that a face covers."""
    first, last = 0.0, float(lines.shape[2])
    for k in range(4):
        value = edges[face, k, 1] + edges[face, k, 2] * row
        if edges[face, k, 0] == 1:
            first = max(first, value)
        elif edges[face, k, 0] == -1:
            last = min(last, value)
        elif edges[face, k, 0] == 0 and value < 0:
            return
    if first < last:
        for plane in range(lines.shape[1]):
            colour = paint[face, plane]
            for k in range(np.uint64(np.ceil(first)), np.uint64(np.ceil(last))):
                lines[sub, plane, k] = colour


@_part
def _wall_faces(edges, reach, paint, corners, eye, world, plain, palette):  # type: ignore[no-untyped-def]
    """The insides of the walls in sight, without lower edges: the ground is drawn over them. Returns how many."""
    count = np.int64(0)
    for wall in range(4):
        axis = wall // 2
        away = world[axis + 2 * (wall % 2)] - eye[axis]
        if wall % 2 == (away <= 0):
            continue
        for k in range(4):
            corners[k, axis] = away
            corners[k, 1 - axis] = world[1 - axis + (2 if k == 1 or k == 2 else 0)] - eye[1 - axis]
            corners[k, 2] = (world[8] if k < 2 else 0.0) - eye[2]
        # Edge 2 is the lower one.
        if _edges(edges, reach, count, corners, eye):
            edges[count, 2, 0] = 2.0
            reach[count, 1] = int(eye[9])
            for plane in range(paint.shape[1]):
                paint[count, plane] = plain[palette, plane, wall]
            count += 1
    return count


@_part
def _sort(order, far, eye, boxes, car):  # type: ignore[no-untyped-def]
    """Into `order` the boxes that are there, farthest first; returns how many."""
    known = 0
    for k in range(boxes.shape[1]):
        if not boxes[car, k, 5] > 0:
            continue
        x, y = boxes[car, k, 0] - eye[0], boxes[car, k, 1] - eye[1]
        if x * eye[3] + y * eye[4] < -1.0 - boxes[car, k, 3] - boxes[car, k, 4]:
            continue
        distance = x * x + y * y
        place = known
        while place > 0 and far[place - 1] < distance:
            order[place], far[place] = order[place - 1], far[place - 1]
            place -= 1
        order[place], far[place] = k, distance
        known += 1
    return known


@_part
def _box_faces(edges, reach, paint, corners, eye, boxes, car, box, tint, palette, count):  # type: ignore[no-untyped-def]
    """Add the sides and the top of a box that the eye can see to the `count` faces; returns how many there are now."""
    cos, sin = np.cos(boxes[car, box, 2]), np.sin(boxes[car, box, 2])
    x, y = boxes[car, box, 0] - eye[0], boxes[car, box, 1] - eye[1]
    low = boxes[car, box, 6] - eye[2]
    high = low + boxes[car, box, 5]
    colour = int(boxes[car, box, 7])
    red, green, blue = float(colour >> 16 & 255), float(colour >> 8 & 255), float(colour & 255)
    for side in range(5):
        light = AMBIENT + SUN[2]
        if side < 4:
            # The face's normal, turned by a right angle from side to side.
            nx, ny = (cos, sin) if side % 2 == 0 else (-sin, cos)
            depth, half = boxes[car, box, 3 + side % 2], boxes[car, box, 4 - side % 2]
            if side >= 2:
                nx, ny = -nx, -ny
            if nx * x + ny * y + depth >= 0:
                continue
            light = AMBIENT + max(0.0, SUN[0] * nx + SUN[1] * ny)
            for k in range(4):
                way = half if k == 1 or k == 2 else -half
                corners[k, 0], corners[k, 1] = x + nx * depth - ny * way, y + ny * depth + nx * way
                corners[k, 2] = high if k < 2 else low
        else:
            if high >= 0:
                continue
            for k in range(4):
                along = boxes[car, box, 3] if k < 2 else -boxes[car, box, 3]
                aside = boxes[car, box, 4] if k == 1 or k == 2 else -boxes[car, box, 4]
                corners[k, 0], corners[k, 1] = x + cos * along - sin * aside, y + sin * along + cos * aside
                corners[k, 2] = high
        if _edges(edges, reach, count, corners, eye):
            for plane in range(paint.shape[1]):
                value = tint[palette, plane, 0] * red + tint[palette, plane, 1] * green + tint[palette, plane, 2] * blue
                paint[count, plane] = np.uint8(min(light * value + 0.5, 255.0))
            count += 1
    return count


@_part
def _picture(  # type: ignore[no-untyped-def]
    out, car, camera, pixels, lines, at, eye, edges, reach, paint, walls, faces,
    texels, levels, world, plain, palette, glares,
):  # fmt: skip
    """Draw what one camera sees, row by row: sky or what is beyond the field, walls, ground with its light, boxes."""
    n, planes, fine = lines.shape
    one = float(1 << FIXED)
    lit = False
    for k in range(glares.shape[1]):
        lit = lit or glares[car, k, 3] != 0
    # The rows of samples of this row of pixels that show bare ground from end to end: none, 1 the first, 2 the second,
    # 3 both. They are looked up last, for where both are bare the samples need not be kept, only their means.
    bare = 0
    for row in range(out.shape[3] * n):
        sub = row % n
        if sub == 0:
            bare = 0
        down = (row + 0.5 - eye[9] / 2) / eye[7]
        ahead, up = eye[5] - eye[6] * down, -eye[6] - eye[5] * down
        first, last = 0.0, 0.0
        far = eye[2] / -up
        # The ground under column c is (x + dx c, y + dy c), in the finest texels from the field's corner.
        aside = far * (fine / 2 - 0.5) / eye[7]
        x = (eye[0] + far * ahead * eye[3] - aside * eye[4] - world[0]) * world[4]
        y = (eye[1] + far * ahead * eye[4] + aside * eye[3] - world[1]) * world[5]
        dx, dy = far / eye[7] * eye[4] * world[4], -far / eye[7] * eye[3] * world[5]
        if up < -BEYOND:
            first, last = _inside(x, dx, world[6], 0.0, float(fine))
            first, last = _inside(y, dy, world[7], first, last)
        if first > 0 or last < fine:
            for plane in range(planes):
                colour = plain[palette, plane, 0 if up < -BEYOND else 4]
                for k in range(np.uint64(fine)):
                    lines[sub, plane, k] = colour
            for face in range(walls):
                if row < reach[face, 1] and row >= reach[face, 0]:
                    _cover(lines, sub, edges, face, row, paint)
        if last > first:
            u, v = int(np.floor((x + dx * first) * one)), int(np.floor((y + dy * first) * one))
            du, dv = int(np.rint(dx * one)), int(np.rint(dy * one))
            wide, high = int(world[6]) << FIXED, int(world[7]) << FIXED
            while last > first and not (0 <= u < wide and 0 <= v < high):
                first, u, v = first + 1, u + du, v + dv
            begin, end = int(first), int(last)
            while end > begin and not (
                0 <= u + du * (end - 1 - begin) < wide and 0 <= v + dv * (end - 1 - begin) < high
            ):
                end -= 1
            # A ray stands for a patch of ground, long along the view and narrow across; the level takes its mean side.
            across = far / eye[7] * world[4]
            area = across * across * far * np.sqrt(ahead * ahead + up * up) / eye[2]
            level, most = 0, 2.0
            while level < levels.shape[0] - 1 and area >= most:
                level, most = level + 1, 4 * most
            _address(at, sub, begin, end, u, v, du, dv, FIXED + level, levels[level, 0], levels[level, 1])
            covered = n != 2 or lit or begin > 0 or end < fine
            for face in range(walls, faces):
                covered = covered or reach[face, 0] <= row < reach[face, 1]
            if not covered:
                bare += 1 + sub
            else:
                _gather(lines, sub, at, begin, end, texels, palette)
                for k in range(glares.shape[1]):
                    if glares[car, k, 3] != 0:
                        _shine(lines, sub, glares, car, k, x, y, dx, dy, begin, end, world)
        for face in range(walls, faces):
            if reach[face, 0] <= row < reach[face, 1]:
                _cover(lines, sub, edges, face, row, paint)
        if bare == 3:
            _pixels(out, car, camera, row // n, at, texels, palette)
        elif sub == n - 1:
            if bare:
                _gather(lines, bare - 1, at, 0, fine, texels, palette)
            _average(out, car, camera, row // n, lines, pixels)


@_part
def _inside(start, step, size, first, last):  # type: ignore[no-untyped-def]
    """The part of the columns [first, last), whole numbers, in which start + step * column lies in [0, size)."""
    low, high = start, start + step * (last - 1)
    if min(low, high) >= 0 and max(low, high) < size:
        return first, last
    if step == 0:
        return 0.0, 0.0
    low, high = -start / step, (size - start) / step
    if step < 0:
        low, high = high, low
    return np.ceil(min(max(low, first), last)), np.ceil(min(max(high, first), last))


def _shift(context, value, bits):  # type: ignore[no-untyped-def]
    def build(context, builder, signature, operands):  # type: ignore[no-untyped-def]
        return builder.lshr(*operands)

    return types.uint32(types.uint32, types.uint32), build


_shifted: Any = intrinsic(_shift)
"""value >> bits of two uint32, as uint32; numba's own shift is one of 64 bits, which is vectorised half as wide."""


@_part
def _address(at, sub, first, last, u, v, du, dv, shift, start, skip):  # type: ignore[no-untyped-def]
    """Where the texels lie under the columns [first, last) of a row of samples, which begin at (u, v), by (du, dv)."""
    u, v, du, dv = np.uint32(u), np.uint32(v), np.uint32(du), np.uint32(dv)
    shift, strip, skip, start = np.uint32(shift), np.uint32(shift + STRIP_BITS), np.uint32(skip), np.uint32(start)
    for k in range(np.uint64(first), np.uint64(last)):
        across = np.uint32(np.uint32(_shifted(u, strip) * skip) + _shifted(u, shift))
        along = np.uint32(_shifted(v, shift) << np.uint32(STRIP_BITS))
        at[sub, k] = np.uint32(np.uint32(across + along) + start)
        u, v = np.uint32(u + du), np.uint32(v + dv)


@_part
def _gather(lines, sub, at, first, last, texels, palette):  # type: ignore[no-untyped-def]
    """Look up the columns [first, last) of a row of samples."""
    for plane in range(lines.shape[1]):
        for k in range(np.uint64(first), np.uint64(last)):
            lines[sub, plane, k] = texels[palette, plane, np.uint64(at[sub, k])]


@_part
def _pixels(out, car, camera, row, at, texels, palette):  # type: ignore[no-untyped-def]
    """Look up a row of pixels of 2 x 2 samples that all show bare ground: what `_gather` and `_average` would make."""
    for plane in range(texels.shape[1]):
        for k in range(np.uint64(out.shape[4])):
            i = np.uint64(k + k)
            j = np.uint64(i + np.uint64(1))
            total = (
                np.uint32(texels[palette, plane, np.uint64(at[0, i])])
                + np.uint32(texels[palette, plane, np.uint64(at[0, j])])
                + np.uint32(texels[palette, plane, np.uint64(at[1, i])])
                + np.uint32(texels[palette, plane, np.uint64(at[1, j])])
            )
            out[car, camera, plane, row, k] = np.uint8((total + np.uint32(2)) >> np.uint32(2))


@_part
def _shine(lines, sub, glares, car, glare, x, y, dx, dy, first, last, world):  # type: ignore[no-untyped-def]
    """Add a patch of light to the ground in the columns [first, last) of a row of samples."""
    x, dx = x / world[4] + world[0] - glares[car, glare, 0], dx / world[4]
    y, dy = y / world[5] + world[1] - glares[car, glare, 1], dy / world[5]
    radius2 = glares[car, glare, 2] ** 2
    a, b, c = dx * dx + dy * dy, x * dx + y * dy, x * x + y * y - radius2
    if b * b - a * c <= 0:
        return
    root = np.sqrt(b * b - a * c)
    low, high = (
        min(max((-b - root) / a, float(first)), float(last)),
        min(max((root - b) / a, float(first)), float(last)),
    )
    strength = -glares[car, glare, 3] / radius2
    for plane in range(lines.shape[1]):
        for k in range(np.uint64(np.ceil(low)), np.uint64(np.ceil(high))):
            column = float(k)
            more = strength * (c + column * (2 * b + column * a)) + 0.5
            lines[sub, plane, k] = np.uint8(min(max(lines[sub, plane, k] + more, 0.0), 255.0))


@_part
def _average(out, car, camera, row, lines, pixels):  # type: ignore[no-untyped-def]
    """A row of pixels, the mean of n x n samples each, rounded to nearest."""
    n, width = lines.shape[0], pixels.shape[0]
    for plane in range(lines.shape[1]):
        if n == 2:
            for k in range(np.uint64(width)):
                i = np.uint64(k + k)
                j = np.uint64(i + np.uint64(1))
                left = np.int32(np.int32(lines[0, plane, i]) + np.int32(lines[1, plane, i]))
                right = np.int32(np.int32(lines[0, plane, j]) + np.int32(lines[1, plane, j]))
                pixels[k] = np.uint8(np.int32(left + right + np.int32(2)) >> 2)
        else:
            for k in range(width):
                total = 0
                for sub in range(n):
                    for step in range(n):
                        total += lines[sub, plane, k * n + step]
                pixels[k] = np.uint8((2 * total + n * n) // (2 * n * n))
        for k in range(np.uint64(width)):
            out[car, camera, plane, row, k] = pixels[k]
