"""The cameras: one or two on USB, through V4L2 and OpenCV; a Raspberry Pi's own where the settings name it.

Which is which: a camera is known by where it is plugged in. Where the settings name no place, the only camera is the
first; and when two are first seen together, the one of the higher number is the left one, as on the stock car. From
then on the place counts.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.csi import CsiCapture
from drivers.lookout import Lookout, Shift
from drivers.rig import Absent, DeviceError, Options
from drivers.signals import Frame

TAKEN: Final = (640, 480)
GIVEN: Final = (160, 120)
"""Width and height of the picture as taken and as handed on: scaled bilinearly, as the stock car's models know it."""
CSI: Final = "csi"
MOST_SPOILT: Final = 5
"""Pictures in a row that may be garbage before the camera is at fault."""

_QUERYCAP: Final = 0x80685600
_CAPABILITY: Final = struct.Struct("=16s32s32sIII12x")
_CAPTURE, _STREAMING, _OF_THE_NODE = 0x1, 0x04000000, 0x80000000


class Capture(Protocol):
    """As much of cv2.VideoCapture as is used."""

    def isOpened(self) -> bool: ...  # noqa: N802

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]: ...

    def release(self) -> None: ...


Opener: TypeAlias = Callable[[Path], Capture]
Query: TypeAlias = Callable[[Path], bool]


def open_capture(path: Path) -> Capture:
    """The camera at the node, or, for "csi:0" and "csi:1", on a Raspberry Pi's ribbon cable. Raises DeviceError."""
    kind, _, number = str(path).partition(":")
    if kind == CSI and number.isdecimal():
        return CsiCapture(int(number), TAKEN)
    capture = cv2.VideoCapture(str(path), cv2.CAP_V4L2)
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, TAKEN[0])
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, TAKEN[1])
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)  # one to work on, one to fill: more would be a queue
    return cast(Capture, capture)


def takes_pictures(path: Path, ioctl: Callable[[int, int, bytearray], object] = fcntl.ioctl) -> bool:
    """Whether the V4L2 node at `path` itself captures video (VIDIOC_QUERYCAP). Raises OSError."""
    answer = bytearray(_CAPABILITY.size)
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        ioctl(handle, _QUERYCAP, answer)
    finally:
        os.close(handle)
    *_, of_the_device, of_the_node = _CAPABILITY.unpack(answer)
    can = of_the_node if of_the_device & _OF_THE_NODE else of_the_device
    return bool(can & _CAPTURE and can & _STREAMING)


@dataclass(frozen=True, slots=True, order=True)
class Video:
    """A node that takes pictures."""

    number: int
    node: Path
    """Below /dev."""
    place: Path
    """The USB interface, or other device, that it belongs to, in sysfs."""
    forbidden: bool = False
    """This user may not open it."""


def find_videos(root: Path = Path("/"), query: Query = takes_pictures) -> list[Video]:
    """The cameras below `root`, the highest number first; one node each. A forbidden node may be a camera, too."""
    found: dict[Path, tuple[int, Video]] = {}
    for folder in (root / "sys/class/video4linux").glob("video*"):
        node, number = root / "dev" / folder.name, folder.name.removeprefix("video")
        if not number.isdecimal():
            continue
        place, index = (folder / "device").resolve(), _number(folder / "index")
        try:
            fits = query(node)
            forbidden = False
        except PermissionError:
            fits = forbidden = index == 0
        except OSError:
            continue
        if fits and (place not in found or index < found[place][0]):
            found[place] = index, Video(int(number), node, place, forbidden)
    return sorted((video for _, video in found.values()), reverse=True)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


class Places:
    """Where the cameras of one car are plugged in. Shared by them, from their threads."""

    def __init__(self, pins: tuple[str, ...], root: Path, query: Query) -> None:
        """`pins` has a path for each camera, left first: a node, a link to one, a device in sysfs, or "csi:0";
        "" finds it."""
        self._pins, self._root, self._query = pins, root, query
        self._known: list[Path | None] = [None] * len(pins)
        self._given: list[Path | None] = [None] * len(pins)
        """Where each camera was found last."""
        self._pair = len(pins) > 1 and bool(pins[1])
        """There are two, and it is settled which is which."""
        self._lock = threading.Lock()

    def name(self, which: int) -> str:
        if self._pair:
            return ("The left camera", "The right camera")[which]
        return ("The camera", "The second camera")[which]

    def moved(self, which: int) -> bool:
        """Whether it was settled since it was found that this camera is another one."""
        return self._known[which] not in (None, self._given[which])

    def find(self, which: int) -> Path:
        """The node of one camera now. Raises DeviceError, Absent for a second one that is not there."""
        if self._pins[which].startswith(f"{CSI}:"):
            return Path(self._pins[which])
        with self._lock:
            videos = find_videos(self._root, self._query)
            others = [each for each in range(len(self._pins)) if each != which]
            taken = [self._at(each, videos) for each in range(len(self._pins))]
            homeless = [each for each, video in enumerate(taken) if video is None and not self._pins[each]]
            free = [video for video in videos if video not in taken and _is_usb(video)]
            if len(free) == len(homeless):
                for each, video in zip(homeless, free, strict=True):
                    taken[each], self._known[each] = video, video.place
                self._pair = self._pair or len(self._pins) > 1
            elif homeless == [0, 1] and len(free) == 1:
                taken[0] = free[0]
            mine = taken[which]
            if mine is not None and any(self.moved(other) and self._given[other] == mine.place for other in others):
                raise Absent(f"{self.name(which)} is not free yet; wait.")
            self._given[which] = mine.place if mine is not None else None
        if mine is not None and mine.forbidden:
            raise DeviceError(
                f"{self.name(which)} {mine.node} is forbidden to this user; add the user to the group video."
            )
        if mine is not None:
            return mine.node
        if len(free) > len(homeless) and which in homeless:
            raise DeviceError(f"There are {len(videos)} cameras; name the left and the right one in the settings.")
        where = f" at {self._pins[which]}" if self._pins[which] else ""
        kind = Absent if which == 1 and not where else DeviceError
        raise kind(f"{self.name(which)} is not found{where}; plug it in.")

    def _at(self, which: int, videos: list[Video]) -> Video | None:
        pin, known = self._pins[which], self._known[which]
        if pin:
            path = (self._root / pin.lstrip("/")).resolve()
            return next((v for v in videos if path in (v.node.resolve(), v.place, *v.place.parents)), None)
        return next((video for video in videos if video.place == known), None)


def _is_usb(video: Video) -> bool:
    """Others must be named: a Raspberry Pi's codecs and image processors look like cameras, too."""
    return any(part.startswith("usb") for part in video.place.parts)


class UsbCamera:
    """One camera, found anew whenever it was lost."""

    def __init__(self, places: Places, which: int, capture: Opener = open_capture) -> None:
        self._places, self._which, self._capture = places, which, capture
        self._lookout = Lookout(self._name, self._keep)

    @property
    def _name(self) -> str:
        return self._places.name(self._which)

    @property
    def hanging(self) -> int:
        """How many readings were left behind and still hang."""
        return self._lookout.hanging

    async def read(self) -> Frame:
        """The next picture, GIVEN in size; `t` is when it came. Raises DeviceError."""
        return await self._lookout.read()

    async def close(self) -> None:
        await self._lookout.close()

    def _keep(self, shift: Shift[Frame]) -> None:
        path = self._places.find(self._which)
        self._lookout.name = self._name
        capture = self._capture(path)
        try:
            if not capture.isOpened():
                raise DeviceError(f"{self._name} {path} cannot be opened; stop any other program that uses it.")
            self._watch(shift, capture, path)
        finally:
            capture.release()

    def _watch(self, shift: Shift[Frame], capture: Capture, path: Path) -> None:
        size, spoilt = None, 0
        while not shift.relieved:
            if self._places.moved(self._which):
                raise DeviceError("A second camera has come; the left and the right one are told apart anew.")
            if not capture.grab():
                if path.exists():
                    raise DeviceError(f"{self._name} sends no picture; unplug it and plug it in again.")
                raise DeviceError(f"{self._name} was unplugged; plug it in again.")
            t = time.monotonic()
            shift.alive()
            picture = _picture(capture)
            if picture is None or picture.shape != (size or picture.shape):
                spoilt += 1
                if spoilt > MOST_SPOILT:
                    raise DeviceError(f"{self._name} sends garbage; check its cable.")
            else:
                size, spoilt = picture.shape, 0
                small = cv2.resize(picture, GIVEN, interpolation=cv2.INTER_LINEAR)
                shift.report(Frame(t, np.asarray(small, np.uint8)))


def _picture(capture: Capture) -> NDArray[np.uint8] | None:
    """The picture grabbed, None if it is not one."""
    try:
        whole, picture = capture.retrieve()
    except cv2.error:
        return None
    sound = whole and isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
    return picture if sound and picture is not None and picture.shape[2] == 3 and picture.size else None


def open_cameras(
    options: Options, root: Path = Path("/"), capture: Opener = open_capture, query: Query = takes_pictures
) -> tuple[UsbCamera, ...]:
    """The car's cameras, left first: one where the options name a left one and no right one, else two.

    A camera need not be there yet, nor stay: reading it says so, until it is plugged in.
    """
    pins: tuple[str, ...] = (options.left_camera, options.right_camera)
    if options.left_camera and not options.right_camera:
        pins = pins[:1]
    places = Places(pins, root, query)
    return tuple(UsbCamera(places, which, capture) for which in range(len(pins)))
