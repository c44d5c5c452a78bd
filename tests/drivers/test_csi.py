"""A Raspberry Pi's own camera: a real program at the other end of the pipe, and whatever bytes come through it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.camera import TAKEN, UsbCamera, open_cameras
from drivers.csi import CsiCapture, Cutter, whole_field
from drivers.rig import DeviceError, Options
from tests.drivers.rpicam import COLOURS, RpicamVid
from tests.drivers.test_camera import back, colour, fault, until

RED, BLUE = COLOURS
START, END = b"\xff\xd8\xff", b"\xff\xd9"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RpicamVid:
    program = RpicamVid(tmp_path / "bin")
    monkeypatch.setenv("PATH", program.put_on(os.environ["PATH"]))
    return program


def open_camera(tmp_path: Path, number: int = 0) -> UsbCamera:
    (camera,) = open_cameras(Options(f"csi:{number}"), tmp_path)
    return camera


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def lives(process: int) -> bool:
    """Who was ended but is nobody's child to reap is dead, too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# The camera


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ([], []),
        (["unicam-image", "imx219 10-0010"], ["--mode", "1640:1232"]),
        (["dw9807 10-000c", "imx708 10-001a"], ["--mode", "2304:1296"]),
        (["imx708_wide 10-001a"], ["--mode", "2304:1296"]),
        (["adv7180 1-0020"], []),
    ],
)
def test_the_whole_field_of_a_known_sensor_is_asked_for(tmp_path: Path, names: list[str], asked: list[str]) -> None:
    for number, name in enumerate(names):
        folder = tmp_path / f"sys/class/video4linux/v4l-subdev{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
    assert whole_field(tmp_path) == asked


@pytest.mark.parametrize("name", ["rpicam-vid", "libcamera-vid"])
async def test_the_cameras_are_read_from_the_program_under_either_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program = RpicamVid(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", program.put_on(os.environ["PATH"]))
    left, right = open_cameras(Options("csi:0", "csi:1"), tmp_path)
    assert (await colour(left), await colour(right)) == (RED, BLUE)
    await left.close()
    await right.close()
    assert len(program.started) == 2
    assert program.left == []


async def test_without_the_program_it_is_said_what_to_install_and_then_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = open_camera(tmp_path)
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path))
    words = "The camera csi:0 needs rpicam-vid; install it: sudo apt-get install rpicam-apps."
    assert await fault(camera) == words
    program = RpicamVid(tmp_path / "bin")
    monkeypatch.setenv("PATH", program.put_on(str(tmp_path)))
    files = descriptors()
    assert "setpriv does not start" in await fault(camera)
    assert descriptors() == files
    monkeypatch.setenv("PATH", program.put_on(path))
    assert await back(camera) == RED
    await camera.close()


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("no camera", "The camera csi:0 stopped, and rpicam-vid says: ERROR: *** no cameras available ***; check its"),
        ("wordless", "rpicam-vid says: nothing; check its ribbon cable."),
        ("dies", "rpicam-vid says: ERROR: *** out of memory ***; check its ribbon cable."),
        ("stops", "The camera csi:0 sends no picture; check its ribbon cable."),
        ("stopped", "The camera csi:0 sends no picture; check its ribbon cable."),
        ("silent", "The camera csi:0 sends no picture; check its ribbon cable."),
        ("only garbage", "The camera csi:0 sends no picture; check its ribbon cable."),
        ("spoilt", "The camera sends garbage; check its cable."),
    ],
)
async def test_what_goes_wrong_is_said_leaves_nothing_behind_and_is_mended_without_a_restart(
    tmp_path: Path, program: RpicamVid, mode: str, words: str
) -> None:
    files = descriptors()
    camera = open_camera(tmp_path)
    program.does(mode)
    assert words in await fault(camera)
    until(lambda: program.left == [] and camera.hanging == 0)
    program.does("film")
    assert await back(camera) == RED
    await camera.close()
    assert program.left == []
    assert descriptors() <= files


async def test_of_long_words_the_end_is_told_and_nothing_unprintable(tmp_path: Path, program: RpicamVid) -> None:
    program.does("long words")
    said = await fault(open_camera(tmp_path))
    assert said.endswith("xxx the end; check its ribbon cable.")
    assert len(said) < 300
    assert said.isprintable()


@pytest.mark.parametrize("mode", ["garbage", "cut", "talkative", "mute", "flood"])
async def test_pictures_are_found_whatever_else_the_program_does(tmp_path: Path, program: RpicamVid, mode: str) -> None:
    program.does(mode)
    camera = open_camera(tmp_path)
    for _ in range(5):
        assert await colour(camera) == RED
    await camera.close()
    assert program.left == []
    assert len(program.started) == 1


async def test_a_program_that_will_not_end_is_ended(tmp_path: Path, program: RpicamVid) -> None:
    program.does("stubborn")
    camera = open_camera(tmp_path)
    assert await colour(camera) == RED
    await camera.close()
    assert program.left == []


async def test_a_picture_s_time_is_when_it_came(tmp_path: Path, program: RpicamVid) -> None:
    camera = open_camera(tmp_path)
    before = time.monotonic()
    times = [(await camera.read()).t for _ in range(5)]
    assert all(one < other for one, other in pairwise([before, *times, time.monotonic()]))
    await camera.close()


def test_of_several_pictures_that_have_come_the_newest_is_taken(program: RpicamVid) -> None:
    program.does("burst")
    capture = CsiCapture(0, TAKEN)
    assert capture.isOpened()
    assert capture.grab()
    whole, picture = capture.retrieve()
    assert whole
    assert picture is not None
    assert picture.shape == (480, 640, 3)
    assert tuple(round(level / 200) * 200 for level in picture.mean(axis=(0, 1))) == BLUE
    with pytest.raises(DeviceError, match="sends no picture"):
        capture.grab()
    capture.release()
    capture.release()
    assert program.left == []


async def test_a_camera_that_comes_and_goes_many_times_leaves_no_thread_no_file_and_no_process(
    tmp_path: Path, program: RpicamVid
) -> None:
    camera = open_camera(tmp_path)
    await colour(camera)
    files, threads = descriptors(), threading.active_count()
    for _ in range(10):
        os.kill(program.started[-1], signal.SIGKILL)
        assert "says: nothing" in await fault(camera)
        assert await back(camera) == RED
    until(lambda: threading.active_count() <= threads)
    assert descriptors() <= files
    await camera.close()
    assert program.left == []


@pytest.mark.parametrize("mode", ["film", "silent"])
def test_the_program_ends_with_a_daemon_that_is_killed(program: RpicamVid, mode: str) -> None:
    program.does(mode)
    code = "import signal; from drivers.csi import CsiCapture; c = CsiCapture(0, (640, 480)); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code]) as daemon:
        try:
            until(lambda: bool(program.started), 30)
            assert lives(program.started[0])
        finally:
            daemon.kill()
    until(lambda: not lives(program.started[0]))


# The cutter


def is_one(piece: bytes) -> bool:
    return piece.rfind(START) == 0 and len(START) <= piece.find(END) == len(piece) - len(END)


NOISE = st.lists(st.sampled_from([b"\xff", b"\xd8", b"\xd9", b"\0", START, END, b"ab"]) | st.binary(max_size=9)).map(
    b"".join
)
PICTURES = NOISE.map(lambda body: START + body + END).filter(is_one)


@given(st.lists(st.tuples(NOISE, PICTURES)), NOISE, st.data())
def test_every_whole_picture_is_found_wherever_the_stream_is_cut(
    film: list[tuple[bytes, bytes]], rest: bytes, data: st.DataObject
) -> None:
    stream = b"".join(garbage + picture for garbage, picture in film) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    cutter = Cutter()
    found = [
        picture
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for picture in cutter.feed(stream[begin:end])
    ]
    left = iter(found)
    assert all(picture in left for _, picture in film)


@given(st.lists(NOISE | PICTURES), st.integers(0, 50))
@example([b"\xff\xd8\xff\xd9"], 0)
def test_whatever_comes_little_is_held_and_what_is_small_enough_is_found(stream: list[bytes], largest: int) -> None:
    cutter = Cutter(largest)
    for piece in stream:
        found = cutter.feed(piece)
        assert len(cutter) <= max(largest, 2)
        if is_one(piece):
            assert found[-1] == piece


def test_a_picture_too_large_is_left_out_and_the_next_is_found() -> None:
    cutter = Cutter(1000)
    large = START + bytes(5000) + END
    assert [cutter.feed(large[at : at + 100]) for at in range(0, len(large), 100)] == [[]] * 51
    assert cutter.feed(START + b"small" + END) == [START + b"small" + END]
