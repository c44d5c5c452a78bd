"""A Raspberry Pi's own camera, on its ribbon cable: through libcamera and Debian's python3-picamera2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from picamera2 import Picamera2  # type: ignore[import-not-found]


class CsiCapture:
    """As cv2.VideoCapture. Raises whatever picamera2 does."""

    def __init__(self, number: int, size: tuple[int, int]) -> None:
        self._camera = Picamera2(number)
        self._picture: NDArray[np.uint8] | None = None
        try:
            # libcamera names colours from the highest byte down: its RGB888 is blue, green, red in memory.
            self._camera.configure(self._camera.create_video_configuration(main={"size": size, "format": "RGB888"}))
            self._camera.start()
        except BaseException:
            self._camera.close()
            raise

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        self._picture = self._camera.capture_array("main")
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        return self._picture is not None, self._picture

    def release(self) -> None:
        self._camera.stop()
        self._camera.close()
