"""What is done with a drive: a folder in its place, which can be pulled out at any call."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers import drive_report, wifi_creds
from drivers.delivery import MOST_NAMES, Deeds, Visit, visit
from drivers.disk import Remembered
from drivers.mounts import Drive, DriveError, Folder
from drivers.rig import DeviceError
from drivers.wifi import NotFound, Place, Security, Seen, Wifi, WrongPassword

PASSWORD = "canary-password"
CREDS = f"# mine\r\nssid: 'Home'\r\npassword: '{PASSWORD}'\r\n"
HOST = "amss-1234"
DRIVE = Drive("/dev/sda1", "vfat", "STICK")
GOOD, BAD = b"good " * 1000, b"bad"


class Radio:
    """A Wireless with one network that lets the car in."""

    def __init__(self) -> None:
        self.ssid: str | None = None
        self.joins: list[str] = []
        self.seen = [Seen("Home", 80, Security.WPA2), Seen("Café", 40, Security.OPEN)]
        self.broken = False
        self.waited = 0

    async def addresses(self) -> list[str]:
        return [place.address for place in await self.places()]

    async def places(self) -> list[Place]:
        if self.broken:
            raise DeviceError("NetworkManager does not run.")
        return [Place("wlan0", "192.168.1.7"), Place("wlan0", "2001:db8::7")] if self.ssid else []

    async def wifi(self) -> Wifi:
        if self.broken:
            raise DeviceError("NetworkManager does not run.")
        return Wifi(available=True, ssid=self.ssid)

    async def scan(self) -> list[Seen]:
        return self.seen

    async def ready(self) -> None:
        self.waited += 1

    async def connect(self, ssid: str, password: str = "", hidden: bool = False) -> None:
        self.joins.append(ssid)
        if ssid != "Home":
            raise NotFound(f"No network {ssid!r} is in reach; check its name.")
        if password != PASSWORD:
            raise WrongPassword("The network 'Home' did not accept the password.")
        self.ssid = ssid

    async def forget(self, ssid: str) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    async def known(self) -> list[str]:
        return [self.ssid] if self.ssid else []


class Car:
    """What a drive may change: networks, models."""

    def __init__(self) -> None:
        self.radio = Radio()
        self.models = {"old": GOOD}

    def deeds(self) -> Deeds:
        return Deeds(self.radio.connect, self.install, self.remove_others)

    async def install(self, path: Path) -> str:
        name = path.name.split(".")[0]
        self.models[name] = package(path)
        return name

    async def remove_others(self, keep: Collection[str]) -> None:
        self.models = {name: data for name, data in self.models.items() if name in keep}


class Plug:
    """Counts what is done with a drive; the drive is out from the `last` on."""

    def __init__(self, last: int | None = None) -> None:
        self.count, self.last = 0, last
        self.written: list[str] = []

    def touch(self) -> None:
        self.count += 1
        if self.last is not None and self.count > self.last:
            raise OSError(errno.EIO, "Input/output error")


def folder_kind(plug: Plug) -> type[Folder]:
    class Watched(Folder):
        def __init__(self, path: Path | str, within: int | None = None) -> None:
            plug.touch()
            super().__init__(path, within)

        def entries(self, most: int) -> list:  # type: ignore[type-arg]
            plug.touch()
            return super().entries(most)

        def replace(self, name: str, data: bytes) -> None:
            plug.touch()
            plug.written.append(name)
            super().replace(name, data)

        def _chunks(self, name: str, most: int, cut: bool = False):  # type: ignore[no-untyped-def]
            plug.touch()
            for chunk in super()._chunks(name, most, cut):
                yield chunk[: len(chunk) // 2]
                plug.touch()
                yield chunk[len(chunk) // 2 :]

    return Watched


class Mounter:
    """A folder in place of a drive; remembers that it was mounted, and unmounted."""

    def __init__(self, root: Path, kind: type[Folder] = Folder, read_only: bool = False) -> None:
        self.root, self.kind, self.read_only = root, kind, read_only
        self.now = 0
        self.mounts: list[bool] = []

    @asynccontextmanager
    async def mounted(self, drive: Drive, writable: bool = False) -> AsyncIterator[Folder]:
        if writable and self.read_only:
            raise DriveError(f"The drive {drive.name} cannot be written.")
        self.mounts.append(writable)
        self.now += 1
        try:
            try:
                folder = self.kind(self.root)
            except OSError as error:
                raise DriveError("The drive was pulled out.") from error
            with folder:
                yield folder
        finally:
            self.now -= 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "drive"
    root.mkdir()
    return root


@pytest.fixture
def car() -> Car:
    return Car()


@pytest.fixture
def go(root: Path, tmp_path: Path, car: Car) -> Callable[..., Visit | None]:
    """A visit of the drive; afterwards it is unmounted, and no copy is left."""

    def go(
        mounter: Mounter | None = None, left_in: bool = False, floor: int = 0, patience: float = 10.0
    ) -> Visit | None:
        mounter = mounter or Mounter(root)
        staging = tmp_path / "staging"
        staging.mkdir(exist_ok=True)
        try:
            served = Remembered(tmp_path / "drives.json")
            arguments = (staging, served, left_in, HOST, floor, patience)
            return asyncio.run(visit(DRIVE, mounter, car.deeds(), car.radio, *arguments))
        finally:
            assert mounter.now == 0
            assert list(staging.iterdir()) == []

    return go


Go = Callable[..., Visit | None]


def put(root: Path, files: dict[str, bytes | str]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def package(path: Path) -> bytes:
    data = path.read_bytes()
    if data != GOOD:
        raise ValueError(f"{path.name} is no model package")
    return data


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def status(root: Path) -> str:
    return (root / "device-status.txt").read_text()


# Wi-Fi


def test_a_drive_with_nothing_of_ours_is_left_as_it_was(root: Path, go: Go) -> None:
    put(root, {"holiday.jpg": b"x", "notes/wifi-creds.txt": CREDS})
    mounter = Mounter(root)
    assert go(mounter) is None
    assert mounter.mounts == [False]
    assert sorted(path.name for path in root.iterdir()) == ["holiday.jpg", "notes"]


@pytest.mark.parametrize("name", ["wifi-creds.txt", "WIFI-CREDS.TXT", "WiFi-Creds.txt"])
def test_the_network_is_joined_and_the_drive_says_where_the_car_is(root: Path, car: Car, go: Go, name: str) -> None:
    put(root, {name: CREDS})
    found = go()
    assert found is not None
    assert (found.joined, found.trouble) == ("Home", "")
    lines = status(root).splitlines()
    assert lines[0] == f"Hostname: {HOST}"
    assert lines[1].startswith("Timestamp: 2")
    assert lines[2:] == [
        'Successfully connected to "Home".',
        "Connected to WiFi network: Home",
        "Active connections:",
        "  wlan0: 192.168.1.7",
        "  wlan0: 2001:db8::7",
    ]
    after = (root / name).read_bytes().decode()
    assert after.startswith(CREDS)
    assert f"# Open https://192.168.1.7 or https://{HOST}.local in a browser.\r\n" in after
    assert PASSWORD not in status(root) + repr(found)
    assert PASSWORD not in after.removeprefix(CREDS)


def test_a_second_visit_replaces_the_words_of_the_first_and_joins_nothing_again(root: Path, car: Car, go: Go) -> None:
    put(root, {"wifi-creds.txt": CREDS, "device-status.txt": "Hostname: amss-9\nTimestamp: x\n\n"})
    go()
    go()
    assert car.radio.joins == ["Home"]
    assert status(root).count("Hostname: amss-1234") == 1
    assert status(root).startswith("Hostname: amss-9\nTimestamp: x\n\nHostname: amss-1234\n")
    assert "Already connected" in status(root)
    assert (root / "wifi-creds.txt").read_text().count("Open https") == 1


def test_several_networks_are_tried_in_order_until_one_lets_the_car_in(root: Path, car: Car, go: Go) -> None:
    put(root, {"wifi-creds.txt": "ssid: Far\npassword: 12345678\n" + CREDS + "ssid: Later\n"})
    found = go()
    assert car.radio.joins == ["Far", "Home"]
    assert found is not None
    assert found.lines == (
        "Failed to connect to \"Far\": No network 'Far' is in reach; check its name.",
        'Successfully connected to "Home".',
    )


def test_without_a_network_those_in_reach_are_offered_to_pick_from(root: Path, car: Car, go: Go) -> None:
    put(root, {"wifi-creds.txt": "ssid: ''\npassword: ''\n"})
    car.radio.seen.append(Seen("x'\nssid: 'evil", 30, Security.OPEN))
    go()
    after = (root / "wifi-creds.txt").read_text()
    assert "# ssid: 'Home'  # 80 %, WPA2\n# password: ''\n# ssid: 'Café'  # 40 %, open\n# <<<" in after
    assert "evil" not in after
    assert wifi_creds.parse(after.encode()) == []
    assert "names no network yet" in status(root)
    picked = after.replace("# ssid: 'Home'", " ssid: 'Home'").replace("# password: ''", f" password: '{PASSWORD}'")
    put(root, {"wifi-creds.txt": picked})
    found = go()
    assert found is not None
    assert found.joined == "Home"
    assert f" password: '{PASSWORD}'" in (root / "wifi-creds.txt").read_text()
    assert "Café" not in (root / "wifi-creds.txt").read_text()


def test_a_file_of_very_many_networks_is_not_tried_to_its_end(root: Path, car: Car, go: Go) -> None:
    put(root, {"wifi-creds.txt": "".join(f"ssid: Far {number}\n" for number in range(4000))})
    go()
    assert car.radio.joins == [f"Far {number}" for number in range(20)]
    assert "wifi-creds.txt: it names 4000 networks; only the first 20 are tried." in status(root)


def test_an_adapter_that_is_not_ready_yet_is_waited_for_before_joining_or_offering(
    root: Path, car: Car, go: Go
) -> None:
    class Late(Radio):
        async def connect(self, ssid: str, password: str = "", hidden: bool = False) -> None:
            assert self.waited
            await super().connect(ssid, password, hidden)

        async def scan(self) -> list[Seen]:
            return self.seen if self.waited else []

    for creds, words in ((CREDS, "Successfully connected"), ("", "# ssid: 'Home'")):
        car.radio = Late()
        put(root, {"wifi-creds.txt": creds})
        go()
        assert words in (root / "wifi-creds.txt").read_text()
    car.radio = Late()
    (root / "wifi-creds.txt").unlink()
    put(root, {"models/a.tar.gz": GOOD})
    go()
    assert car.radio.waited == 0


def test_a_wrong_password_is_told_on_the_drive(root: Path, go: Go) -> None:
    put(root, {"wifi-creds.txt": CREDS.replace(PASSWORD, "another")})
    go()
    assert "Failed to connect to \"Home\": The network 'Home' did not accept the password." in status(root)
    assert "Not connected to WiFi network." in status(root)
    assert "did not accept the password" in (root / "wifi-creds.txt").read_text()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("wifi-creds.txt", rb"{\rtf1 ssid: x}", "wifi-creds.txt: The file was saved as rich text"),
        ("wifi-creds.txt", b"ssid: x\nnonsense", "wifi-creds.txt: Line 2: This is no setting"),
        ("wifi-creds.txt", b"#" * 70_000, "wifi-creds.txt: it cannot be read"),
        ("wifi-creds.rtf", b"x", "wifi-creds.rtf: not read; save it as plain text and name it wifi-creds.txt"),
        ("wifi-creds.txt.txt", b"x", "wifi-creds.txt.txt: not read"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_and_stays_as_it_is_but_for_comments(
    root: Path, go: Go, name: str, data: bytes, words: str
) -> None:
    put(root, {name: data})
    go()
    assert words in status(root)
    assert (root / name).read_bytes().startswith(data)


def test_a_car_whose_network_does_not_answer_still_reports(root: Path, car: Car, go: Go) -> None:
    put(root, {"wifi-creds.txt": CREDS})
    car.radio.broken = True
    found = go()
    assert found is not None
    assert not found.trouble
    assert "Not connected to WiFi network." in status(root)


# Models and updates


def test_models_are_installed_one_by_one_and_a_bad_one_harms_no_other(root: Path, car: Car, go: Go) -> None:
    put(
        root,
        {
            "Models/a.tar.gz": GOOD,
            "Models/b.tar.gz": BAD,
            "Models/c.TAR.GZ": GOOD,
            "Models/notes.txt": b"hello",
            "Models/._a.tar.gz": b"what a Mac leaves",
            "Models/more/d.tar.gz": GOOD,
        },
    )
    found = go()
    assert found is not None
    assert found.installed == ("a", "c")
    assert sorted(car.models) == ["a", "c", "old"]
    for line in (
        "models/a.tar.gz: installed as a.",
        "models/b.tar.gz: not installed: b.tar.gz is no model package.",
        "models/notes.txt: left alone; a model is a file that ends in .tar.gz.",
        "models/more: left alone; a model is a file that ends in .tar.gz.",
    ):
        assert line in status(root).splitlines()
    assert "._a" not in status(root)


def test_the_car_s_other_models_go_only_when_asked_and_only_when_all_new_ones_are_good(
    root: Path, car: Car, go: Go
) -> None:
    put(root, {"models/a.tar.gz": GOOD, "models/Replace-All.TXT": b"", "models/b.tar.gz": BAD})
    go()
    assert sorted(car.models) == ["a", "old"]
    assert "keeps its other models" in status(root)
    (root / "models/b.tar.gz").unlink()
    go()
    assert sorted(car.models) == ["a"]
    (root / "models/a.tar.gz").unlink()
    go()
    assert car.models == {}


def test_what_was_removed_by_an_order_is_not_removed_by_it_again(root: Path, car: Car, go: Go) -> None:
    put(root, {"models/a.tar.gz": GOOD, "models/replace-all.txt": b""})
    go()
    assert sorted(car.models) == ["a"]
    car.models["new"] = car.models["a"] = b"uploaded since"
    go(left_in=True)
    assert car.models == {"a": b"uploaded since", "new": b"uploaded since"}
    assert "models: left alone, since it was done before; plug the drive in anew to have it done again." in status(root)
    go()
    assert car.models == {"a": GOOD, "new": b"uploaded since"}
    assert "the car's other models were removed before, and it keeps those that came since" in status(root)
    put(root, {"models/replace-all.txt": b"again"})
    go(left_in=True)
    assert car.models == {"a": GOOD}
    car.models["new"] = GOOD
    put(root, {"models/b.tar.gz": GOOD})
    go(left_in=True)
    assert sorted(car.models) == ["a", "b"]


def test_an_order_that_cannot_be_remembered_removes_nothing(root: Path, tmp_path: Path, car: Car, go: Go) -> None:
    (tmp_path / "drives.json").mkdir()
    put(root, {"models/a.tar.gz": GOOD, "models/replace-all.txt": b""})
    go()
    assert sorted(car.models) == ["a", "old"]
    assert "the car's other models could not be removed" in status(root)


def test_a_model_larger_than_the_room_that_is_left_is_not_copied(root: Path, car: Car, go: Go) -> None:
    put(root, {"models/a.tar.gz": GOOD, "models/replace-all.txt": b""})
    go(floor=1 << 60)
    assert sorted(car.models) == ["old"]
    assert "models/a.tar.gz: not installed: The car's disk is full; remove models from it." in status(root)


def test_no_link_is_followed_and_nothing_but_files_is_read(root: Path, tmp_path: Path, car: Car, go: Go) -> None:
    outside = tmp_path / "outside"
    put(outside, {"a.tar.gz": GOOD, "creds": CREDS})
    (root / "wifi-creds.txt").symlink_to(outside / "creds")
    (root / "models").mkdir()
    (root / "models/a.tar.gz").symlink_to(outside / "a.tar.gz")
    os.mkfifo(root / "models/b.tar.gz")
    (root / ".hotlap-draft").symlink_to(outside / "creds")
    (root / "link").symlink_to(outside)
    go()
    assert (car.radio.joins, sorted(car.models)) == ([], ["old"])
    assert (outside / "creds").read_text("utf-8").splitlines() == CREDS.splitlines()
    assert "models/a.tar.gz: left alone" in status(root)
    with Folder(root) as folder:
        for name in ("wifi-creds.txt", "models"):
            with pytest.raises(OSError, match=r"symbolic links|no file"):
                folder.read(name, 100)
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            folder.folder("link")


def test_a_report_that_is_a_link_is_not_written_through(root: Path, tmp_path: Path, go: Go) -> None:
    put(tmp_path, {"victim": b"precious"})
    (root / "device-status.txt").symlink_to(tmp_path / "victim")
    put(root, {"wifi-creds.txt": CREDS})
    found = go()
    assert found is not None
    assert found.trouble
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_folder_of_very_many_files_is_not_walked_to_its_end(root: Path, car: Car, go: Go) -> None:
    models = root / "models"
    models.mkdir()
    for number in range(MOST_NAMES + 50):
        (models / (f".{number}" if number % 50 else f"{number}.txt")).touch()
    (models / "replace-all.txt").touch()
    put(root, {"models/a.tar.gz": GOOD})
    go()
    assert f"only {MOST_NAMES} were looked at" in status(root)
    assert "old" in car.models
    assert len(status(root).splitlines()) < 170
    assert "more of this kind." in status(root)


def test_an_update_is_left_alone_in_honest_words(root: Path, go: Go) -> None:
    put(root, {"Update/x.deb.gpg": b"x"})
    go()
    assert "update: left alone; this car has no updater yet." in status(root)


# The drive fails


def test_pulled_out_at_any_moment_nothing_is_lost(root: Path, tmp_path: Path, car: Car, go: Go) -> None:
    files: dict[str, bytes | str] = {
        "wifi-creds.txt": CREDS,
        "models/a.tar.gz": GOOD,
        "models/b.tar.gz": GOOD,
        "models/replace-all.txt": b"",
        "device-status.txt": "Hostname: other\nTimestamp: x\n",
    }
    put(root, files)
    whole = Plug()
    assert go(Mounter(root, folder_kind(whole))) is not None
    assert whole.written == ["device-status.txt", "wifi-creds.txt"]
    for last in range(whole.count):
        shutil.rmtree(root)
        put(root, files)
        (tmp_path / "drives.json").unlink(missing_ok=True)
        car.models = {"old": GOOD}
        car.radio.ssid = None
        plug = Plug(last)
        try:
            found = go(Mounter(root, folder_kind(plug)))
        except DeviceError:
            found = None
        assert ("old" in car.models) or {"a", "b"} <= car.models.keys()
        assert all(data == GOOD for data in car.models.values())
        assert found is None or found.trouble or last >= whole.count
        assert (root / "wifi-creds.txt").read_bytes().decode().startswith(CREDS)
        assert status(root).startswith("Hostname: other\nTimestamp: x\n")
        assert (root / "models/a.tar.gz").read_bytes() == GOOD
        assert not (root / ".hotlap-draft").exists()


def test_two_drives_at_once_are_served_each(tmp_path: Path, car: Car) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    for number, root in enumerate(roots):
        put(root, {"wifi-creds.txt": CREDS, f"models/m{number}.tar.gz": GOOD})

    served = Remembered(tmp_path / "drives.json")

    async def both() -> list[Visit | None]:
        visits = (
            visit(
                Drive(f"/dev/sd{root.name}", "vfat"), Mounter(root), car.deeds(), car.radio, tmp_path, served, floor=0
            )
            for root in roots
        )
        return await asyncio.gather(*visits)

    found = asyncio.run(both())
    assert [each.installed for each in found if each] == [("m0",), ("m1",)]
    assert sorted(car.models) == ["m0", "m1", "old"]
    assert all("installed as" in status(root) for root in roots)


def test_a_drive_that_cannot_be_written_is_still_served(root: Path, car: Car, go: Go) -> None:
    put(root, {"wifi-creds.txt": CREDS, "models/a.tar.gz": GOOD})
    found = go(Mounter(root, read_only=True))
    assert found is not None
    assert (found.joined, found.installed) == ("Home", ("a",))
    assert found.trouble.startswith("The USB drive STICK cannot be written, so no report is on it: ")
    assert sorted(path.name for path in root.iterdir()) == ["models", "wifi-creds.txt"]


def test_a_full_drive_keeps_what_was_on_it(root: Path, go: Go) -> None:
    class Full(Folder):
        def replace(self, name: str, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    put(root, {"wifi-creds.txt": CREDS})
    found = go(Mounter(root, Full))
    assert found is not None
    assert found.trouble
    assert (root / "wifi-creds.txt").read_bytes().decode() == CREDS


def test_a_drive_that_hangs_is_given_up_and_nothing_is_done(root: Path, car: Car, go: Go) -> None:
    hang = threading.Event()

    class Hanging(Folder):
        def read(self, name: str, most: int) -> bytes:
            hang.wait()
            return b""

    put(root, {"wifi-creds.txt": CREDS, "models/a.tar.gz": GOOD})
    try:
        with pytest.raises(DeviceError, match="has not answered"):
            go(Mounter(root, Hanging), patience=0.1)
    finally:
        hang.set()
    assert (car.radio.joins, sorted(car.models)) == ([], ["old"])


def test_another_drive_in_its_place_does_not_get_the_first_one_s_networks(
    root: Path, tmp_path: Path, car: Car, go: Go
) -> None:
    put(root, {"wifi-creds.txt": CREDS})
    other = tmp_path / "other"
    put(other, {"wifi-creds.txt": "ssid: Theirs\n"})

    class Swapped(Mounter):
        @asynccontextmanager
        async def mounted(self, drive: Drive, writable: bool = False) -> AsyncIterator[Folder]:
            self.root = other if writable else root
            async with super().mounted(drive, writable) as folder:
                yield folder

    go(Swapped(root))
    assert (other / "wifi-creds.txt").read_text() == "ssid: Theirs\n"


def test_the_password_stands_in_no_log(root: Path, go: Go, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    put(root, {"wifi-creds.txt": CREDS + CREDS.replace("Home", "Far")})
    found = go(Mounter(root, read_only=True))
    assert PASSWORD not in caplog.text + repr(found)


def test_a_folder_that_opens_too_late_is_closed(root: Path, go: Go) -> None:
    hang, late = threading.Event(), []

    class Slow(Folder):
        def folder(self, name: str) -> Folder:
            late.append(super().folder(name))
            hang.wait()
            return late[-1]

    put(root, {"models/a.tar.gz": GOOD})
    before = descriptors()
    for _ in range(5):
        hang.clear()
        with pytest.raises(DeviceError, match="has not answered"):
            go(Mounter(root, Slow), patience=0.1)
        hang.set()
        wait_for(lambda: late[-1].closed)
    assert descriptors() == before


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.001)


SOMEBODY = """
import asyncio, logging, os, sys
from pathlib import Path
from drivers.disk import Remembered
from drivers.delivery import visit
from tests.drivers.test_delivery import Car, DRIVE, HOST, Mounter
root, staging = map(Path, sys.argv[1:])
asyncio.run(asyncio.to_thread(int))  # loads what somebody else may not
os.seteuid(65534)
logging.basicConfig(level=logging.INFO)
car = Car()
found = asyncio.run(
    visit(DRIVE, Mounter(root), car.deeds(), car.radio, staging, Remembered(staging / "drives.json"), False, HOST, 0)
)
print(found.joined, *found.installed)
print(found.trouble)
print(*found.lines, sep="\\n")
"""


def by_somebody(root: Path) -> list[str]:
    """What a visit by a user comes to who is neither root nor the owner of the drive's files."""
    if os.geteuid():
        pytest.skip("only root may become somebody else")
    with tempfile.TemporaryDirectory() as staging:
        Path(staging).chmod(0o777)
        for folder in (root, *root.parents):
            if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
                folder.chmod(folder.stat().st_mode | 0o055)
        command = (sys.executable, "-c", SOMEBODY, str(root), staging)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def test_a_drive_of_another_owner_is_served_and_says_why_no_report_is_on_it(root: Path) -> None:
    put(root, {"wifi-creds.txt": CREDS, "models/a.tar.gz": GOOD})
    joined, trouble, *_ = by_somebody(root)
    assert joined == "Home a"
    assert trouble == (
        "The USB drive STICK cannot be written, so no report is on it: its files belong to another user; use a drive "
        "with FAT32 or exFAT, or permit them to all: chmod a+rwX."
    )
    assert sorted(path.name for path in root.iterdir()) == ["models", "wifi-creds.txt"]


def test_files_of_another_owner_that_are_for_him_alone_are_named(root: Path) -> None:
    put(root, {"wifi-creds.txt": CREDS, "models/a.tar.gz": GOOD, "models/b.tar.gz": GOOD})
    (root / "wifi-creds.txt").chmod(0o600)
    (root / "models/a.tar.gz").chmod(0o600)
    joined, _, *lines = by_somebody(root)
    assert joined == "None b"
    assert [line.partition(" it")[0].partition(" not")[0] for line in lines if "belong to another user" in line] == [
        "wifi-creds.txt:",
        "models/a.tar.gz:",
    ]
    (root / "models").chmod(0o700)
    assert [line for line in by_somebody(root) if line.startswith("models: it cannot be read: its files belong")]


def test_files_keep_their_permissions(root: Path, go: Go) -> None:
    put(root, {"wifi-creds.txt": CREDS})
    (root / "wifi-creds.txt").chmod(0o640)
    mask = os.umask(0o077)
    try:
        go()
    finally:
        os.umask(mask)
    assert [(root / name).stat().st_mode & 0o777 for name in ("wifi-creds.txt", "device-status.txt")] == [0o640, 0o644]


# A draft that a drive kept when it was pulled out


def test_a_draft_is_cleared_away_even_where_nothing_is_asked_for(root: Path, go: Go) -> None:
    put(root, {"holiday.jpg": b"x", ".hotlap-draft": CREDS})
    mounter = Mounter(root)
    assert go(mounter) is None
    assert mounter.mounts == [False, True]
    assert [path.name for path in root.iterdir()] == ["holiday.jpg"]
    put(root, {".hotlap-draft": CREDS})
    assert go(Mounter(root, read_only=True)) is None


def test_a_draft_that_lacked_only_its_name_gets_it(root: Path, car: Car, go: Go) -> None:
    put(root, {"wifi-creds.txt": CREDS})
    go()
    whole = (root / "wifi-creds.txt").read_bytes()
    (root / "wifi-creds.txt").rename(root / ".hotlap-draft")
    car.radio.ssid = None
    go()
    assert car.radio.joins == ["Home", "Home"]
    assert (root / "wifi-creds.txt").read_bytes().startswith(CREDS.encode())
    assert not (root / ".hotlap-draft").exists()
    (root / "wifi-creds.txt").unlink()
    put(root, {".hotlap-draft": whole[:-5]})
    assert go() is None
    assert not (root / ".hotlap-draft").exists()
    put(root, {"wifi-creds.txt": CREDS, ".hotlap-draft": whole.replace(b"Home", b"Else")})
    go()
    assert car.radio.joins == ["Home", "Home"]
    assert not (root / ".hotlap-draft").exists()


# Passwords

KEYS = st.sampled_from(["ssid", "SSID", "network name", "name"])
SECRETS = st.sampled_from(["password", "Password", "PASSWD", "pwd", "psk", "passphrase", "pasword", "passwort", "key"])
QUOTES = st.sampled_from(["''", '""', "``", "\u2018\u2019", "\u201c\u201d", "\u00ab\u00bb", ""])
COLONS = st.sampled_from([": ", ":", "=", " = ", "\uff1a", " "])
BETWEEN = st.sampled_from(
    [" ", ", ", ",", "; ", " / ", "\t", " # ", "\x0b", "\u2028", "\x85", "\n", "\r\n", "\n\n", "\r"]
)


@st.composite
def creds_of_any_kind(draw: st.DrawFn) -> str:
    """As people write it, and as they should not: PASSWORD stands where everybody sees that it is one."""
    text = draw(st.sampled_from(["", "# mine\n", "{", "\ufeff"]))
    for _ in range(draw(st.integers(1, 3))):
        quotes, colon, between = draw(QUOTES), draw(COLONS), draw(BETWEEN)
        name = draw(st.sampled_from(["Home", "Far", "The Neighbours", "x", ""]))
        parts = [f"{draw(KEYS)}{colon}{quotes[:1]}{name}{quotes[1:]}"]
        parts.append(f"{draw(SECRETS)}{draw(COLONS)}{draw(QUOTES)[:1]}{PASSWORD}{quotes[1:]}")
        if draw(st.booleans()):
            parts.reverse()
        text += between.join(parts) + draw(BETWEEN)
        if draw(st.booleans()):
            text += f"{draw(KEYS)}{colon}'{name}', '{PASSWORD}'\n"
    return text


@given(creds_of_any_kind(), st.sampled_from(["utf-8", "utf-16"]))
@example("ssid: 'Home' password: 'canary-password'", "utf-8")
@example("ssid: Home, password: canary-password", "utf-8")
@example("ssid: Home password: canary-password", "utf-8")
def test_however_it_is_written_no_password_is_repeated(text: str, encoding: str) -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root_log = logging.getLogger()
    level = root_log.level
    root_log.addHandler(handler)
    root_log.setLevel(logging.DEBUG)
    try:
        with tempfile.TemporaryDirectory() as folder:
            root, staging = Path(folder) / "drive", Path(folder) / "staging"
            staging.mkdir()
            data = text.encode(encoding)
            put(root, {"wifi-creds.txt": data})
            car, served = Car(), Remembered(staging / "drives.json")
            found = asyncio.run(
                visit(DRIVE, Mounter(root), car.deeds(), car.radio, staging, served, host=HOST, floor=0)
            )
            after = (root / "wifi-creds.txt").read_bytes()
            told = status(root) + repr(found) + said.getvalue()
    finally:
        root_log.removeHandler(handler)
        root_log.setLevel(level)
    assert PASSWORD not in told
    assert after.decode(encoding).count(PASSWORD) == text.count(PASSWORD)


# The report


def test_a_report_that_has_grown_too_long_loses_its_oldest_blocks(root: Path, go: Go) -> None:
    blocks = [f"Hostname: amss-{number}\nTimestamp: x\n{'words ' * 20}" for number in range(3000)]
    put(root, {"device-status.txt": "\n\n".join(blocks) + "\n", "wifi-creds.txt": CREDS})
    for _ in range(2):
        found = go()
        assert found is not None
        assert not found.trouble
        assert len(status(root)) <= drive_report.LARGEST_STATUS
        assert status(root).startswith("Hostname: amss-")
        assert "Hostname: amss-2999\n" in status(root)
        assert status(root).count(f"Hostname: {HOST}\n") == 1
