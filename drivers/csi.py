"""A Raspberry Pi's own camera, on its ribbon cable: libcamera's program, whose MJPEG stream is cut into pictures."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.rig import DeviceError

PROGRAMS: Final = ("rpicam-vid", "libcamera-vid")
"""Its name today and before 2024."""
INSTALL: Final = "sudo apt-get install rpicam-apps"
STARTING: Final = 2.5
SILENCE: Final = 0.8
"""Seconds that the first and each later picture may take: less than the Lookout's, so that no thread is left behind."""
FAREWELL: Final = 0.5
"""Seconds that the program may take to end when asked to."""
LARGEST: Final = 1 << 20
"""Bytes of the largest picture; one of 640x480 has 20 to 60 thousand."""
GULP: Final = 1 << 16
"""Bytes read at once: as many as a pipe holds."""
WHOLE: Final = {"imx219": "1640:1232", "imx477": "2028:1520", "imx708": "2304:1296", "ov5647": "1296:972"}
"""The mode in which a sensor reads all of its field fast. For small pictures libcamera would take one of the middle."""
LAST_WORDS: Final = 200
"""Characters of what the program said that go into a sentence."""

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"


def find_program() -> str | None:
    """The path of the program; None where it is not installed."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def whole_field(root: Path = Path("/")) -> list[str]:
    """What to ask the program for so that the picture is the whole field of the first sensor known below `root`."""
    names = sorted(root.glob("sys/class/video4linux/v4l-subdev*/name"))
    sensors = [name.read_text("utf-8", "replace").split(" ")[0].split("_")[0].strip() for name in names]
    return next((["--mode", WHOLE[sensor]] for sensor in sensors if sensor in WHOLE), [])


class Cutter:
    """Cuts a stream into JPEG pictures that hold no other one, as a thumbnail; holds `largest` bytes at the most."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._rest = b""

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The pictures that end in `data`. What is cut short, too large or no picture is left out."""
        *ended, rest = (self._rest + data).split(_END)
        begun = rest.rfind(_START)
        # Without a beginning, its first two bytes may still be there.
        self._rest = rest[begun:] if begun >= 0 and len(rest) - begun <= self._largest else rest[-2:]
        return [piece[at:] + _END for piece in ended if (at := piece.rfind(_START)) >= 0]


class CsiCapture:
    """As cv2.VideoCapture, but that what goes wrong is a DeviceError."""

    def __init__(self, number: int, size: tuple[int, int]) -> None:
        self._name = f"The camera csi:{number}"
        program = find_program()
        if program is None:
            raise DeviceError(f"{self._name} needs {PROGRAMS[0]}; install it: {INSTALL}.")
        self._program, (width, height) = Path(program).name, map(str, size)
        asked = ["--camera", str(number), "--timeout", "0", "--nopreview", "--codec", "mjpeg", "--framerate", "30"]
        asked += ["--width", width, "--height", height, "--flush", *whole_field(), "--output", "-"]
        try:
            # The kernel ends it with the thread that started it: it holds the camera, even if we are killed.
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, *asked],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            raise DeviceError(
                f"{self._name} cannot be opened, for setpriv does not start: {error.strerror}."
            ) from error
        self._pictures = cast(IO[bytes], self._child.stdout)
        self._words = cast(IO[bytes], self._child.stderr)
        self._poll = select.poll()
        for pipe in (self._pictures, self._words):
            os.set_blocking(pipe.fileno(), False)
            self._poll.register(pipe, select.POLLIN)
        self._cutter, self._newest, self._said = Cutter(), b"", b""
        self._patience = STARTING

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        """Wait for a picture, and take the newest where several have come. Raises DeviceError."""
        until = time.monotonic() + self._patience
        self._newest, taken, ended = b"", 0, False
        while taken <= LARGEST and not ended and self._flows(0.0 if self._newest else until - time.monotonic()):
            data = self._pictures.read(GULP)
            self._newest = next(reversed(self._cutter.feed(data)), self._newest)
            taken, ended = taken + len(data), not data
        if not self._newest:
            raise DeviceError(
                self._last_words() if ended else f"{self._name} sends no picture; check its ribbon cable."
            )
        self._patience = SILENCE
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        picture = cv2.imdecode(np.frombuffer(self._newest, np.uint8), cv2.IMREAD_COLOR)
        return picture is not None, cast(NDArray[np.uint8] | None, picture)

    def release(self) -> None:
        with self._child:
            if self._newest:
                # As by Ctrl-C: it lets go of the camera in order. One that sends nothing would not hear it.
                self._child.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(FAREWELL)
            self._child.kill()

    def _flows(self, seconds: float) -> bool:
        """Whether pictures come, or their end, in this time. Meanwhile the program is listened to, lest it block."""
        until = time.monotonic() + seconds
        while True:
            ready = dict(self._poll.poll(max(0.0, until - time.monotonic()) * 1000))
            if self._words.fileno() in ready and not self._listen():
                self._poll.unregister(self._words)
            if self._pictures.fileno() in ready or time.monotonic() >= until:
                return self._pictures.fileno() in ready

    def _listen(self) -> bool:
        """Whether there may be more to hear."""
        words = self._words.read(GULP)
        self._said = (self._said + (words or b""))[-4 * LAST_WORDS :]
        return words != b""

    def _last_words(self) -> str:
        self._listen()
        lines = [line for line in self._said.decode(errors="replace").splitlines() if line.strip()]
        last = "".join(filter(str.isprintable, lines[-1].strip()))[-LAST_WORDS:] if lines else "nothing"
        return f"{self._name} stopped, and {self._program} says: {last}; check its ribbon cable."
