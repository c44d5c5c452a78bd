"""libcamera's rpicam-vid, as far as the drivers know it: a real program in a temporary folder, with real pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np

COLOURS = ((0, 0, 200), (200, 0, 0))
"""What the cameras 0 and 1 see: red, blue."""

_PROGRAM = """\
#!{python} -IS
import os, signal, sys, time

here, options = {here!r}, sys.argv[1:]
number = options[1] if len(options) > 1 else ""
expected = "--camera N --timeout 0 --nopreview --codec mjpeg --framerate 30 --width 640 --height 480 --flush --output -"
if options != expected.replace("N", number).split() or os.read(0, 1):
    sys.exit("wrong options: " + " ".join(options))
with open(here + "/started", "a") as file:
    file.write(str(os.getpid()) + chr(10))
with open(here + "/mode") as file:
    mode = file.read()
with open(here + "/" + number + ".jpg", "rb") as file:
    picture = file.read()

def write(*pieces):
    data = b"".join(pieces)
    while data:
        data = data[os.write(1, data):]

def film(before=b"", pace=0.01, count=-1):
    while count:
        write(before, picture)
        time.sleep(pace)
        count -= 1

{modes}
"""

MODES = {
    "film": "film()",
    "no camera": "sys.exit('Opened the manager' + chr(10) + 'ERROR: *** no cameras available ***')",
    "wordless": "sys.exit(1)",
    "long words": "sys.exit('first' + chr(10) + chr(27) + '[31m' + 'x' * 5000 + ' the end' + chr(10))",
    "garbage": r"film(b'\xff\xd8\xff garbage \xff\xd9 \x00' + bytes(70000))",
    "cut": "film(picture[: len(picture) // 2])",
    "burst": "write(*[open(here + '/' + name + '.jpg', 'rb').read() for name in '001']); signal.pause()",
    "silent": "signal.pause()",
    "stops": "film(count=3); signal.pause()",
    "dies": "film(count=3); sys.exit('ERROR: *** out of memory ***')",
    "flood": "film(pace=0)",
    "only garbage": "picture = bytes(4096); film(pace=0)",
    "spoilt": r"picture = b'\xff\xd8\xff nothing \xff\xd9'; film()",
    "talkative": "os.set_blocking(2, True); [os.write(2, b'x' * 70000) for _ in range(3)]; film()",
    "mute": "os.close(2); film()",
    "stubborn": "signal.signal(signal.SIGINT, signal.SIG_IGN); film()",
    "stopped": "film(count=3); os.kill(os.getpid(), signal.SIGSTOP)",
}


class RpicamVid:
    """The program, in `folder`, which a test has to put on its PATH."""

    def __init__(self, folder: Path, name: str = "rpicam-vid") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for number, colour in enumerate(COLOURS):
            _, picture = cv2.imencode(".jpg", np.full((480, 640, 3), colour, np.uint8))
            (folder / f"{number}.jpg").write_bytes(picture.tobytes())
        modes = "\n".join(f"if mode == {mode!r}: {what}" for mode, what in MODES.items())
        text = _PROGRAM.format(python=sys.executable, here=str(folder), modes=modes)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
        self.does("film")

    def does(self, mode: str) -> None:
        """What it does from its next start on."""
        assert mode in MODES
        (self._folder / "mode").write_text(mode)

    @property
    def started(self) -> list[int]:
        """The processes that it has been, dead or alive, the last one last."""
        path = self._folder / "started"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    @property
    def left(self) -> list[int]:
        """Those that still live, or have not been reaped."""
        return [process for process in self.started if Path(f"/proc/{process}").exists()]

    def put_on(self, path: str) -> str:
        return f"{self._folder}{os.pathsep}{path}"
