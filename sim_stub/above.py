"""The race from above: the track, what stands on it and the cars, for videos, plots and whoever watches."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sim_stub.dynamics import YAW, X, Y
from sim_stub.judge import BODY
from sim_stub.race import Race
from sim_stub.scene import Image, Scene, from_above
from sim_stub.track import Track

CAR = (235, 235, 235)
NOSE = (40, 40, 230)
FIXED_POINT = 4


class Above:
    """A picture of the track, at most `size` = (width, height) large; `image` is BGR, y upwards."""

    def __init__(self, track: Track, size: tuple[int, int] = (640, 480)) -> None:
        self.image, self._to_pixel = from_above(Scene(track), size)

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[..., 2]: column and row of points [..., 2] of the world (m)."""
        return np.asarray(points @ self._to_pixel[:, :2].T + self._to_pixel[:, 2], np.float64)

    def paint(self, race: Race, world: int, onto: Image | None = None) -> Image:
        """The world as it is now: BGR, a new picture unless `onto` is given."""
        image = self.image.copy() if onto is None else onto
        for solid in race.solids[world]:
            if solid[3] > 0:
                colour = int(solid[7])
                self._fill(
                    image, solid[:3], (solid[3], solid[4]), (colour & 255, colour >> 8 & 255, colour >> 16 & 255)
                )
        car = race.state[world, [X, Y, YAW]]
        self._fill(image, car, BODY, CAR)
        nose = car + BODY[0] * 0.7 * np.array([np.cos(car[2]), np.sin(car[2]), 0.0])
        self._fill(image, nose, (BODY[0] * 0.3, BODY[1]), NOSE)
        return image

    def _fill(
        self, image: Image, pose: NDArray[np.float64], half: tuple[float, float], colour: tuple[int, int, int]
    ) -> None:
        cos, sin = np.cos(pose[2]), np.sin(pose[2])
        corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * half @ np.array([[cos, sin], [-sin, cos]])
        pixels = np.round((self.pixels(pose[:2] + corners)) * (1 << FIXED_POINT)).astype(np.int32)
        cv2.fillConvexPoly(image, pixels, colour, cv2.LINE_AA, FIXED_POINT)
