"""A USB camera in a temporary tree whose pictures come from a real video file."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.camera import Capture, UsbCamera, open_cameras
from drivers.rig import Options

PACE = 0.01
"""Seconds between two pictures."""


class FilmCamera:
    """Plugged in below `root`; `broken` makes it send nothing."""

    def __init__(self, root: Path) -> None:
        self.broken = False
        self._root, self._film = root, root / "film.avi"
        writer = cv2.VideoWriter(str(self._film), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
        for shade in range(0, 200, 10):
            writer.write(np.full((480, 640, 3), (shade, 100, 255 - shade), np.uint8))
        writer.release()
        device = root / "sys/devices/pci0000:00/0000:00:15.0/usb1/1-1/1-1:1.0"
        node = device / "video4linux/video0"
        node.mkdir(parents=True)
        (node / "name").write_text("Camera\n")
        (node / "index").write_text("0\n")
        (node / "device").symlink_to("../..")
        for link, target in (("sys/class/video4linux/video0", node), ("dev/v4l/by-path/usb-1", root / "dev/video0")):
            (root / link).parent.mkdir(parents=True, exist_ok=True)
            (root / link).symlink_to(target)
        (root / "dev/video0").write_text("")

    def cameras(self, options: Options) -> tuple[UsbCamera, ...]:
        return open_cameras(options, self._root, self._capture, lambda _: True)[:1]

    def _capture(self, _: Path) -> Capture:
        return Film(self, cv2.VideoCapture(str(self._film)))


class Film:
    """OpenCV's own reader, round and round at the camera's pace."""

    def __init__(self, camera: FilmCamera, film: cv2.VideoCapture) -> None:
        self._camera, self._film = camera, film

    def isOpened(self) -> bool:  # noqa: N802
        return self._film.isOpened()

    def grab(self) -> bool:
        time.sleep(PACE)
        if self._camera.broken:
            return False
        if not self._film.grab():
            self._film.set(cv2.CAP_PROP_POS_FRAMES, 0)
            return self._film.grab()
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        whole, picture = self._film.retrieve()
        return whole, np.asarray(picture, np.uint8)

    def release(self) -> None:
        self._film.release()
