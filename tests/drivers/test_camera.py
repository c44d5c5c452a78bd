"""The cameras: found by what they can do and where they are plugged in, read from real video files."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.camera import Capture, UsbCamera, find_videos, open_cameras, open_capture, takes_pictures
from drivers.lidar import Rplidar
from drivers.lookout import MOST_HANGING
from drivers.rig import Absent, DeviceError, Options, Rig, Wires
from tests.drivers.rig_contract import RigContract, Run, Switch
from tests.drivers.rplidar import Model

LEFT, RIGHT = (0, 0, 200), (200, 0, 0)
"""Red and blue: what each camera sees."""
NOTHING = Options()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real MJPG films of 40 plain pictures, 640x480."""
    folder = tmp_path_factory.mktemp("films")
    films = {}
    for name, colour in (("left", LEFT), ("right", RIGHT)):
        films[name] = folder / f"{name}.avi"
        writer = cv2.VideoWriter(str(films[name]), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
        for _ in range(40):
            writer.write(np.full((480, 640, 3), colour, np.uint8))
        writer.release()
    return films


class Film:
    """OpenCV's own reader on a video file, at a camera's pace, with a plug and other weak points."""

    def __init__(self, path: Path, plug: Plug) -> None:
        self._film, self._plug = cv2.VideoCapture(str(path)), plug
        plug.open.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self._film.isOpened() and not self._plug.busy

    def grab(self) -> bool:
        plug = self._plug
        plug.flow.wait()
        plug.pulled.wait(0.01)
        if plug.pulled.is_set():
            return False
        if not self._film.grab():
            self._film.set(cv2.CAP_PROP_POS_FRAMES, 0)
            return plug.endless and self._film.grab()
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        whole, picture = self._film.retrieve()
        return self._plug.spoil(whole, np.asarray(picture, np.uint8))

    def release(self) -> None:
        self._film.release()
        self._plug.open.remove(self)


class Plug:
    """One camera's plug: in the tree below `root` under some number, or pulled out."""

    def __init__(self, root: Path, port: str) -> None:
        self._root = root
        self.place = root / f"sys/devices/pci0000:00/0000:00:15.0/usb1/1-1/{port}"
        self.pulled = threading.Event()
        self.flow = threading.Event()
        self.flow.set()
        self.busy, self.endless = False, True
        self.spoil: Callable[[bool, NDArray[np.uint8]], tuple[bool, NDArray[np.uint8] | None]] = lambda *both: both
        self.open: list[Film] = []
        self._numbers: tuple[int, ...] = ()

    def put_in(self, number: int, kinds: tuple[str, ...] = ("camera", "metadata")) -> Plug:
        """Give it the nodes video`number` and the following, one of each kind."""
        self._numbers = tuple(range(number, number + len(kinds)))
        for index, (node, kind) in enumerate(zip(self._numbers, kinds, strict=True)):
            folder = self.place / f"video4linux/video{node}"
            folder.mkdir(parents=True)
            (folder / "name").write_text("Some Camera: Some Camera\n")
            (folder / "index").write_text(f"{index}\n")
            (folder / "device").symlink_to("../..")
            link(self._root / f"sys/class/video4linux/video{node}", folder)
            link(self._root / f"dev/v4l/by-path/{self.place.name}-video-index{index}", self._root / f"dev/video{node}")
            (self._root / f"dev/video{node}").write_text(kind)
        self.pulled.clear()
        return self

    def pull(self) -> None:
        for index, node in enumerate(self._numbers):
            for gone in (
                f"dev/video{node}",
                f"sys/class/video4linux/video{node}",
                f"dev/v4l/by-path/{self.place.name}-video-index{index}",
            ):
                (self._root / gone).unlink()
        shutil.rmtree(self.place)
        self.pulled.set()


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def is_camera(path: Path) -> bool:
    kind = path.read_text()
    if kind == "forbidden":
        raise PermissionError(errno.EACCES, "Permission denied")
    if kind == "broken":
        raise OSError(errno.EIO, "Input/output error")
    return kind == "camera"


class Bench:
    """Two cameras, on the ports 1-1.1 (left) and 1-1.2, and what opens them."""

    def __init__(self, root: Path, films: dict[str, Path]) -> None:
        self.root, self._films = root, films
        self.left, self.right = Plug(root, "1-1.1:1.0"), Plug(root, "1-1.2:1.0")
        self.plugs = (self.left, self.right)

    def capture(self, node: Path) -> Capture:
        place = (self.root / f"sys/class/video4linux/{node.name}/device").resolve()
        side = "left" if place == self.left.place else "right"
        return Film(self._films[side], self.left if side == "left" else self.right)

    def cameras(self, options: Options = NOTHING) -> tuple[UsbCamera, ...]:
        return open_cameras(options, self.root, self.capture, is_camera)


@pytest.fixture
def bench(tmp_path: Path, films: dict[str, Path]) -> Iterator[Bench]:
    bench = Bench(tmp_path, films)
    yield bench
    for plug in bench.plugs:
        plug.pulled.set()
        plug.flow.set()
        until(lambda plug=plug: not plug.open)  # type: ignore[misc]


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


async def colour(camera: UsbCamera) -> tuple[int, ...]:
    image = (await camera.read()).image
    assert image.shape == (120, 160, 3)
    return tuple(round(level / 200) * 200 for level in image.mean(axis=(0, 1)))


async def fault(camera: UsbCamera) -> str:
    """What is said once the pictures that came before are through."""

    async def read_on() -> None:
        while True:
            await camera.read()

    with pytest.raises(DeviceError) as said:
        await asyncio.wait_for(read_on(), 10)
    assert str(said.value).endswith(".")
    return str(said.value)


async def back(camera: UsbCamera) -> tuple[int, ...]:
    """The colour, once it is there again."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await colour(camera)
            except DeviceError:
                await asyncio.sleep(0.02)


# Which camera is which


async def test_a_camera_s_picture_is_brought_to_the_models_size(bench: Bench) -> None:
    bench.left.put_in(0)
    camera = bench.cameras()[0]
    assert await colour(camera) == LEFT
    await camera.close()
    assert not bench.left.open


async def test_the_higher_number_is_the_left_camera(bench: Bench) -> None:
    bench.right.put_in(0)
    bench.left.put_in(2)
    left, right = bench.cameras()
    assert (await colour(left), await colour(right)) == (LEFT, RIGHT)


@pytest.mark.parametrize("pin", ["dev/v4l/by-path/{}-video-index0", "sys/devices/pci0000:00/0000:00:15.0/usb1/1-1/{}"])
async def test_a_camera_can_be_named_by_its_place(bench: Bench, pin: str) -> None:
    bench.left.put_in(0)  # the stock car's rule would have it the other way round
    bench.right.put_in(2)
    options = Options("/" + pin.format("1-1.1:1.0"), "/" + pin.format("1-1.2:1.0"))
    left, right = bench.cameras(options)
    assert (await colour(left), await colour(right)) == (LEFT, RIGHT)
    (only,) = bench.cameras(replace(options, right_camera=""))
    assert await colour(only) == LEFT
    left, right = bench.cameras(replace(options, left_camera=""))
    assert (await colour(left), await colour(right)) == (LEFT, RIGHT)


async def test_a_named_camera_that_is_not_there_is_not_replaced_by_another(bench: Bench) -> None:
    bench.right.put_in(0)
    (camera,) = bench.cameras(Options("/dev/v4l/by-path/1-1.1:1.0-video-index0"))
    assert "at /dev/v4l/by-path/1-1.1:1.0-video-index0" in await fault(camera)
    bench.left.put_in(5)
    assert await colour(camera) == LEFT


def test_nodes_that_take_no_pictures_are_no_cameras(bench: Bench) -> None:
    bench.left.put_in(0, ("metadata", "camera", "camera"))
    bench.right.put_in(7, ("broken", "metadata"))
    (bench.root / "sys/class/video4linux/videotape").mkdir()
    assert [video.node.name for video in find_videos(bench.root, is_camera)] == ["video1"]


def test_a_machine_without_video_has_no_cameras(tmp_path: Path) -> None:
    assert find_videos(tmp_path, is_camera) == []
    assert len(open_cameras(NOTHING, tmp_path)) == 2  # they may still be plugged in


async def test_a_board_s_own_codecs_are_no_cameras_unless_named(tmp_path: Path, films: dict[str, Path]) -> None:
    folder = tmp_path / "sys/devices/platform/bcm2835-isp/video4linux/video14"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to("../..")
    link(tmp_path / "sys/class/video4linux/video14", folder)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video14").write_text("camera")
    plug = Plug(tmp_path, "none")

    def capture(path: Path) -> Capture:
        return Film(films["left"], plug)

    camera = open_cameras(NOTHING, tmp_path, capture, is_camera)[0]
    assert "not found" in await fault(camera)
    (camera,) = open_cameras(Options("/dev/video14"), tmp_path, capture, is_camera)
    assert await colour(camera) == LEFT
    await camera.close()


async def test_of_three_cameras_none_is_guessed(bench: Bench) -> None:
    bench.left.put_in(0)
    bench.right.put_in(2)
    Plug(bench.root, "1-1.3:1.0").put_in(4)
    left, right = bench.cameras()
    for camera in (left, right):
        assert "There are 3 cameras" in await fault(camera)


class Driver:
    """The kernel's side of VIDIOC_QUERYCAP."""

    def __init__(self, device: int, node: int) -> None:
        self._answer = struct.pack("=16s32s32sIII12x", b"uvcvideo", b"Camera", b"usb-1", 0x60000, device, node)

    def ioctl(self, handle: int, request: int, answer: bytearray) -> None:
        assert os.fstat(handle).st_nlink
        assert request >> 16 & 0x3FFF == len(answer) == 104
        assert request & 0xFFFF == ord("V") << 8
        answer[:] = self._answer


@pytest.mark.parametrize(
    ("device", "node", "can"),
    [
        (0x84A00001, 0x04200001, True),  # a UVC camera's picture node
        (0x84A00001, 0x04A00000, False),  # and its metadata node
        (0x04000001, 0, True),  # a driver of old, which knows only devices
        (0x00000001, 0, False),  # it does not stream
        (0x84208000, 0x04208000, False),  # a codec
    ],
)
def test_a_node_s_own_capabilities_count(tmp_path: Path, device: int, node: int, can: bool) -> None:
    (tmp_path / "video0").touch()
    assert takes_pictures(tmp_path / "video0", Driver(device, node).ioctl) is can


@given(st.binary(min_size=104, max_size=104))
@settings(deadline=None)
def test_any_answer_of_a_driver_is_a_yes_or_a_no(answer: bytes) -> None:
    def ioctl(handle: int, request: int, into: bytearray) -> None:
        into[:] = answer

    assert takes_pictures(Path(os.devnull), ioctl) in (True, False)


def test_what_is_no_video_device_says_so_to_the_kernel_s_own_call(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        takes_pictures(Path(os.devnull))
    with pytest.raises(FileNotFoundError):
        takes_pictures(tmp_path / "video0")


texts = st.text(st.sampled_from("video0123-/:.\n"), max_size=12)


@given(st.lists(st.tuples(st.sampled_from(["video0", "video1", "video10", "videox", "video²", "v4l-subdev0"]), texts)))
@settings(deadline=None)
def test_any_tree_gives_a_list_of_cameras(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for name, text in entries:
        folder = root / f"sys/class/video4linux/{name}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index").write_text(text)
    numbers = [video.number for video in find_videos(root, lambda path: True)]
    assert numbers == sorted(numbers, reverse=True)
    shutil.rmtree(root)


# What can go wrong


async def test_a_camera_that_is_absent_at_first_may_come_later(bench: Bench) -> None:
    camera = bench.cameras()[0]
    for _ in range(3):
        assert await fault(camera) == "The camera is not found; plug it in."
    bench.left.put_in(3)
    assert await colour(camera) == LEFT


async def test_an_unplugged_camera_works_again_under_another_number(bench: Bench) -> None:
    bench.left.put_in(0)
    camera = bench.cameras()[0]
    assert await colour(camera) == LEFT
    bench.left.pull()
    assert await fault(camera) == "The camera was unplugged; plug it in again."
    assert await fault(camera) == "The camera is not found; plug it in."
    bench.left.put_in(4)
    assert await colour(camera) == LEFT
    assert len(bench.left.open) == 1


async def test_of_a_pair_the_one_that_stays_keeps_its_side_and_the_other_finds_its_own(bench: Bench) -> None:
    bench.right.put_in(0)
    bench.left.put_in(2)
    left, right = bench.cameras()
    assert (await colour(left), await colour(right)) == (LEFT, RIGHT)
    bench.left.pull()
    assert "left camera was unplugged" in await fault(left)
    assert await colour(right) == RIGHT
    bench.right.pull()
    await fault(right)
    bench.right.put_in(6)  # now the higher number: its place counts
    assert await colour(right) == RIGHT
    assert "left camera is not found" in await fault(left)
    bench.left.put_in(0)
    assert await colour(left) == LEFT


async def test_a_second_camera_may_come_later_and_the_higher_number_is_the_left_one_all_the_same(bench: Bench) -> None:
    bench.right.put_in(0)
    first, second = bench.cameras()
    assert await colour(first) == RIGHT
    with pytest.raises(Absent, match=r"^The second camera is not found; plug it in\.$"):
        await second.read()
    bench.left.put_in(2)
    with pytest.raises(Absent, match=r"^The right camera is not free yet; wait\.$"):
        await second.read()
    assert "told apart anew" in await fault(first)
    assert (await colour(first), await back(second)) == (LEFT, RIGHT)
    await second.close()
    bench.right.pull()
    with pytest.raises(Absent, match="right camera is not found"):
        await second.read()
    assert await colour(first) == LEFT
    await first.close()


async def test_a_second_camera_of_a_lower_number_comes_without_disturbing_the_first(bench: Bench) -> None:
    bench.left.put_in(2)
    first, second = bench.cameras()
    assert await colour(first) == LEFT
    bench.right.put_in(0)
    assert await back(second) == RIGHT
    for _ in range(5):
        assert await colour(first) == LEFT
    await first.close()
    await second.close()


async def test_a_forbidden_camera_says_which_group_may_use_it(bench: Bench) -> None:
    bench.left.put_in(0, ("forbidden", "forbidden"))
    camera = bench.cameras()[0]
    assert "add the user to the group video" in await fault(camera)
    (bench.root / "dev/video0").write_text("camera")
    assert await colour(camera) == LEFT


async def test_a_camera_in_use_by_another_program_says_so(bench: Bench) -> None:
    bench.left.put_in(0)
    bench.left.busy = True
    camera = bench.cameras()[0]
    for _ in range(5):
        assert "cannot be opened" in await fault(camera)
    until(lambda: not bench.left.open)
    bench.left.busy = False
    assert await colour(camera) == LEFT


async def test_a_camera_that_ends_while_plugged_in_is_tried_again(bench: Bench) -> None:
    bench.left.put_in(0)
    bench.left.endless = False
    camera = bench.cameras()[0]
    assert "sends no picture" in await fault(camera)
    assert await colour(camera) == LEFT


def _cut(whole: bool, picture: NDArray[np.uint8]) -> tuple[bool, NDArray[np.uint8] | None]:
    return whole, picture[:240]


def _decoder(whole: bool, picture: NDArray[np.uint8]) -> tuple[bool, NDArray[np.uint8] | None]:
    raise cv2.error("cannot decode")


GARBAGE = {
    "half a picture": _cut,
    "nothing": lambda *_: (False, None),
    "nothing, and success": lambda *_: (True, None),
    "an empty picture": lambda _, picture: (True, picture[:0]),
    "no colours": lambda _, picture: (True, picture[..., 0]),
    "other numbers": lambda _, picture: (True, picture.astype(np.float32)),
    "four channels": lambda _, picture: (True, np.dstack([picture, picture[..., :1]])),
    "an error in the decoder": _decoder,
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_is_a_fault_and_passes(bench: Bench, garbage: str) -> None:
    bench.left.put_in(0)
    camera = bench.cameras()[0]
    assert await colour(camera) == LEFT
    well, bench.left.spoil = bench.left.spoil, GARBAGE[garbage]
    assert await fault(camera) == "The camera sends garbage; check its cable."
    bench.left.spoil = well
    assert await colour(camera) == LEFT


async def test_a_single_spoilt_picture_is_left_out(bench: Bench) -> None:
    count = 0

    def every_other(whole: bool, picture: NDArray[np.uint8]) -> tuple[bool, NDArray[np.uint8] | None]:
        nonlocal count
        count += 1
        return (True, picture) if count % 2 else (False, None)

    bench.left.put_in(0)
    bench.left.spoil = every_other
    camera = bench.cameras()[0]
    for _ in range(10):
        assert await colour(camera) == LEFT


async def test_a_camera_that_blocks_is_a_fault_within_a_second_and_works_again(bench: Bench) -> None:
    bench.left.put_in(0)
    camera = bench.cameras()[0]
    assert await colour(camera) == LEFT
    bench.left.flow.clear()
    began = time.monotonic()
    assert await fault(camera) == "The camera hangs; unplug it and plug it in again."
    assert 0.9 < time.monotonic() - began < 2.0
    assert camera.hanging == 1
    bench.left.flow.set()
    assert await back(camera) == LEFT
    until(lambda: camera.hanging == 0 and len(bench.left.open) == 1)


async def test_readings_that_block_for_ever_do_not_pile_up(bench: Bench) -> None:
    bench.left.put_in(0)
    camera = bench.cameras()[0]
    assert await colour(camera) == LEFT
    bench.left.flow.clear()
    before = threading.active_count()
    async with asyncio.timeout(20):
        for _ in range(10):
            assert "hangs" in await fault(camera)
    assert camera.hanging == MOST_HANGING
    assert threading.active_count() < before + MOST_HANGING
    assert len(bench.left.open) == MOST_HANGING
    bench.left.flow.set()
    until(lambda: camera.hanging == 0)
    assert await back(camera) == LEFT


async def test_closing_a_camera_that_hangs_does_not_wait_for_it(bench: Bench) -> None:
    bench.left.put_in(0)
    camera = bench.cameras()[0]
    await camera.read()
    bench.left.flow.clear()
    await asyncio.to_thread(until, lambda: not bench.left.flow.is_set())
    began = time.monotonic()
    await camera.close()
    assert time.monotonic() - began < 2


async def test_a_camera_plugged_in_and_out_many_times_leaves_no_thread_and_no_file(bench: Bench) -> None:
    bench.left.put_in(0)
    camera = bench.cameras()[0]
    await camera.read()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    for number in range(20):
        bench.left.pull()
        await fault(camera)
        bench.left.put_in(number % 3)
        await back(camera)
    until(lambda: threading.active_count() <= threads)
    assert len(os.listdir("/proc/self/fd")) <= files  # noqa: PTH208
    await camera.close()
    assert not bench.left.open


async def test_the_real_opener_refuses_what_is_no_camera(tmp_path: Path) -> None:
    plug = Plug(tmp_path, "1-1.1:1.0").put_in(0)
    camera = open_cameras(NOTHING, tmp_path, open_capture, is_camera)[0]
    assert "cannot be opened" in await fault(camera)
    plug.pull()
    assert "not found" in await fault(camera)


async def test_whatever_the_library_raises_is_a_fault(bench: Bench) -> None:
    bench.left.put_in(0)
    answers: list[Callable[[Path], Capture]] = [bench.capture]

    def capture(node: Path) -> Capture:
        if answers:
            return answers.pop()(node)
        raise RuntimeError("out of order")

    camera = open_cameras(NOTHING, bench.root, capture, is_camera)[0]
    assert await colour(camera) == LEFT
    bench.left.pulled.set()
    await fault(camera)
    assert await fault(camera) == "The camera failed (out of order); unplug it and plug it in again."
    bench.left.pulled.clear()
    answers.append(bench.capture)
    assert await colour(camera) == LEFT
    await camera.close()


class TestSensors(RigContract):
    """The contract, over two cameras of film and a LiDAR at the end of a pseudo-terminal."""

    @pytest.fixture
    def rig(self, bench: Bench, tmp_path: Path, run: Run) -> Iterator[Rig]:
        bench.right.put_in(0)
        bench.left.put_in(2)
        model = Model(lambda angle: 1.0 + angle / 360)
        rig = Rig(
            "sensors on a bench",
            bench.cameras(),
            Wires("sim_stub.wires:open_wires", (str(tmp_path / "tape"),)),
            Rplidar(str(model.path)),
        )
        yield rig
        run(rig.close())
        model.unplug()

    @pytest.fixture
    def break_cameras(self, bench: Bench) -> Switch:
        def switch(broken: bool) -> None:
            for number, plug in enumerate(bench.plugs):
                if broken:
                    plug.pull()
                    until(lambda plug=plug: not plug.open)  # type: ignore[misc]
                else:
                    plug.put_in(4 + 2 * number)

        return switch
