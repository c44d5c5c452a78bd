"""Mounting: by a udisks2 of the tests' own on a real bus, by a script in place of mount(8), and a real ext4."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from drivers.bus import SystemBus
from drivers.mounts import Drive, DriveError, Folder, Mounts
from tests.drivers.private_bus import bus_folder, private_bus

DRIVE = Drive("/dev/sda1", "vfat", "STICK")
UDISKS = "org.freedesktop.UDisks2"


class Udisks:
    """udisks2 as far as it mounts one file system; `refusals` are the names of the errors that its next calls meet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[tuple[str, dict[str, object]]] = []
        self.refusals: dict[str, list[str]] = {}
        self.known_after = 0
        self.garbled: dict[str, tuple[str, list[object]]] = {}
        self.mute = False

    async def open(self, address: str) -> None:
        self.bus = await MessageBus(address, BusType.SYSTEM).connect()
        self.bus.add_message_handler(self.answer)
        await self.bus.request_name(UDISKS)

    async def close(self) -> None:
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    def answer(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        verb = message.member or ""
        options = {key: value.value for key, value in message.body[0].items() if isinstance(value, Variant)}
        self.calls.append((verb, options))
        if verb in self.garbled:
            return Message.new_method_return(message, *self.garbled[verb])
        if verb == "ResolveDevice":
            self.known_after -= 1
            found = [] if self.known_after >= 0 else ["/org/freedesktop/UDisks2/block_devices/sda1"]
            return Message.new_method_return(message, "ao", [found])
        if self.mute:
            return True
        if refusals := self.refusals.get(verb, []):
            return Message.new_error(message, refusals.pop(0), "That will not do.")
        if verb == "Mount":
            return Message.new_method_return(message, "s", [str(self.root)])
        return Message.new_method_return(message)

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.calls if verb != "ResolveDevice"]


@pytest.fixture
def address() -> Iterator[str]:
    with bus_folder() as folder, private_bus(folder) as address:
        yield address


@pytest.fixture
async def udisks(address: str, tmp_path: Path) -> AsyncIterator[Udisks]:
    (tmp_path / "hello").write_text("there")
    udisks = Udisks(tmp_path)
    await udisks.open(address)
    yield udisks
    await udisks.close()


@pytest.fixture
async def mounts(address: str) -> AsyncIterator[Mounts]:
    mounts = Mounts(SystemBus(address, patience=1.0), patience=1.0)
    yield mounts
    await mounts.close()


async def look(mounts: Mounts, writable: bool = False) -> bytes:
    async with mounts.mounted(DRIVE, writable) as folder:
        return folder.read("hello", 10)


@pytest.mark.parametrize(("writable", "mode"), [(False, "ro"), (True, "rw")])
async def test_udisks_mounts_it_safely_and_unmounts_it(
    udisks: Udisks, mounts: Mounts, writable: bool, mode: str
) -> None:
    assert await look(mounts, writable) == b"there"
    assert udisks.verbs() == ["Mount", "Unmount"]
    assert udisks.calls[0] == ("ResolveDevice", {"path": "/dev/sda1"})
    [options] = [options for verb, options in udisks.calls if verb == "Mount"]
    assert options == {"options": f"{mode},nosuid,nodev,noexec", "auth.no_user_interaction": True}


async def test_a_drive_that_udisks_hears_of_later_is_waited_for(udisks: Udisks, mounts: Mounts) -> None:
    udisks.known_after = 3
    assert await look(mounts) == b"there"


async def test_a_drive_that_udisks_never_hears_of_is_an_error(udisks: Udisks, mounts: Mounts) -> None:
    udisks.known_after = 1000
    with pytest.raises(DriveError, match="udisks2 does not see it"):
        await look(mounts)


async def test_a_drive_that_a_desktop_mounted_first_is_taken_over(udisks: Udisks, mounts: Mounts) -> None:
    udisks.refusals = {"Mount": [f"{UDISKS}.Error.AlreadyMounted"]}
    assert await look(mounts) == b"there"
    assert udisks.verbs() == ["Mount", "Unmount", "Mount", "Unmount"]


async def test_a_drive_that_may_not_be_taken_over_says_what_to_do(udisks: Udisks, mounts: Mounts) -> None:
    udisks.refusals = {"Mount": [f"{UDISKS}.Error.AlreadyMounted"], "Unmount": [f"{UDISKS}.Error.NotAuthorized"]}
    with pytest.raises(DriveError, match="install-car"):
        await look(mounts)
    assert udisks.verbs() == ["Mount", "Unmount"]


@pytest.mark.parametrize("verb", ["ResolveDevice", "Mount"])
@pytest.mark.parametrize(("signature", "body"), [("", []), ("u", [7]), ("ss", ["a", "b"]), ("a{ss}", [{}])])
async def test_udisks_that_answers_nonsense_is_an_error(
    udisks: Udisks, mounts: Mounts, verb: str, signature: str, body: list[object]
) -> None:
    udisks.garbled = {verb: (signature, body)}
    with pytest.raises(DriveError, match=r"no answer|does not see it"):
        await look(mounts)


@pytest.mark.parametrize(
    ("name", "words"),
    [("NotAuthorizedCanObtain", "cannot be mounted"), ("NotAuthorized", "install-car"), ("Failed", "That will not do")],
)
async def test_a_drive_that_udisks_refuses_says_why(udisks: Udisks, mounts: Mounts, name: str, words: str) -> None:
    udisks.refusals = {"Mount": [f"{UDISKS}.Error.{name}"]}
    with pytest.raises(DriveError, match=words) as failure:
        await look(mounts)
    assert str(failure.value).endswith(".")
    assert udisks.verbs() == ["Mount"]


async def test_whatever_happens_inside_the_drive_is_unmounted(udisks: Udisks, mounts: Mounts) -> None:
    with pytest.raises(FileNotFoundError):
        async with mounts.mounted(DRIVE) as folder:
            folder.read("nothing", 10)
    assert udisks.verbs() == ["Mount", "Unmount"]

    async def stay() -> None:
        async with mounts.mounted(DRIVE):
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    while udisks.verbs() != ["Mount", "Unmount", "Mount"]:
        await asyncio.sleep(0)
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    assert udisks.verbs()[-1] == "Unmount"


async def test_a_drive_in_use_is_unmounted_by_force_and_one_pulled_out_is_no_fault(
    udisks: Udisks, mounts: Mounts, caplog: pytest.LogCaptureFixture
) -> None:
    udisks.refusals = {"Unmount": [f"{UDISKS}.Error.DeviceBusy"]}
    await look(mounts)
    assert [options["force"] for verb, options in udisks.calls if verb == "Unmount"] == [False, True]
    caplog.clear()
    udisks.refusals = {"Unmount": ["org.freedesktop.DBus.Error.UnknownObject"]}
    await look(mounts)
    assert not caplog.records


async def test_udisks_that_does_not_answer_holds_up_nobody(udisks: Udisks, address: str) -> None:
    udisks.mute = True
    mounts = Mounts(SystemBus(address, patience=0.1), patience=0.1)
    with pytest.raises(DriveError, match="does not answer"):
        await look(mounts)
    await mounts.close()


async def test_a_drive_pulled_out_between_mounting_and_looking_is_an_error(udisks: Udisks, mounts: Mounts) -> None:
    udisks.root = Path("/nowhere")
    with pytest.raises(DriveError, match="pulled out"):
        await look(mounts)
    assert udisks.verbs() == ["Mount", "Unmount"]


# Without udisks2


def by_command(tmp_path: Path, mount: str, unmount: str = "pass", patience: float = 5.0) -> Mounts:
    """Mounts on a machine without a bus, whose two commands are these pieces of Python; they note their arguments."""
    note = f"import sys, time; open({str(tmp_path / 'log')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10)); "
    python = (sys.executable, "-I", "-c")
    return Mounts(SystemBus(f"unix:path={tmp_path}/none"), (*python, note + mount), (*python, note + unmount), patience)


async def test_without_udisks_the_command_gets_the_same_options_and_no_shell(tmp_path: Path) -> None:
    put = "open(sys.argv[-1] + '/hello', 'w').write('there')"
    mounts = by_command(tmp_path, put, "import os; os.unlink(sys.argv[-1] + '/hello')")
    assert await look(mounts) == b"there"
    mounted, unmounted = (tmp_path / "log").read_text().splitlines()
    *rest, place = mounted.split()
    assert rest == [
        *("-t", "vfat", "-o", f"ro,nosuid,nodev,noexec,uid={os.getuid()},gid={os.getgid()}", "--", "/dev/sda1")
    ]
    assert unmounted.split() == ["--", place]
    assert not is_there(place)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("sys.exit('mount: must be superuser to use mount.')", "must be superuser"),
        ("sys.exit(1)", "no reason given"),
        ("time.sleep(60)", "took longer than 0.3 s"),
    ],
)
async def test_a_command_that_fails_or_hangs_is_an_error(tmp_path: Path, mount: str, words: str) -> None:
    with pytest.raises(DriveError, match=words):
        await look(by_command(tmp_path, mount, patience=0.3))


async def test_without_the_command_it_is_an_error(tmp_path: Path) -> None:
    mounts = Mounts(SystemBus(f"unix:path={tmp_path}/none"), ("/nowhere/mount",), ("/nowhere/umount",))
    with pytest.raises(DriveError, match="No such file"):
        await look(mounts)


async def test_a_drive_that_does_not_let_itself_be_unmounted_is_let_go_later(tmp_path: Path) -> None:
    put = "open(sys.argv[-1] + '/hello', 'w').write('there')"
    await look(by_command(tmp_path, put, "sys.exit('--lazy' not in sys.argv and 'target is busy')"))
    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("--lazy -- /")


@contextmanager
def ext4(tmp_path: Path) -> Iterator[str]:
    """A loop device with a file system; skips where that is not permitted."""
    image = tmp_path / "image"
    if os.getuid() or not all(map(shutil.which, ("mkfs.ext4", "losetup", "mount"))):
        pytest.skip("only root may mount")
    with image.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(("mkfs.ext4", "-q", "-F", str(image)), check=True)
    made = subprocess.run(("losetup", "--find", "--show", str(image)), capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip("no loop device here")
    try:
        yield made.stdout.strip()
    finally:
        subprocess.run(("losetup", "--detach", made.stdout.strip()), check=True)


async def test_a_real_file_system_is_written_only_when_it_is_mounted_for_that(tmp_path: Path) -> None:
    with ext4(tmp_path) as node:
        drive = Drive(node, "ext4")
        mounts = Mounts(SystemBus(f"unix:path={tmp_path}/none"))
        try:
            async with mounts.mounted(drive) as folder:
                with pytest.raises(OSError, match="Read-only"):
                    folder.replace("status", b"x")
        except DriveError as error:
            pytest.skip(f"mounting is not permitted here: {error}")
        for text in (b"one", b"two"):
            async with mounts.mounted(drive, writable=True) as folder:
                folder.replace("status", text)
        async with mounts.mounted(drive) as folder:
            assert folder.read("status", 10) == b"two"
            assert [entry.name for entry in folder.entries(10)] == ["lost+found", "status"]
        async with mounts.mounted(drive, writable=True) as folder:
            with pytest.raises(OSError, match="No space"):
                folder.replace("status", bytes(8 << 20))
            assert folder.read("status", 10) == b"two"
            assert len(folder.entries(10)) == 2
        assert node not in mounted_nodes()


def is_there(path: str) -> bool:
    return Path(path).exists()


def mounted_nodes() -> str:
    return Path("/proc/self/mountinfo").read_text()


# A folder of a drive


def test_a_folder_looks_at_no_more_than_it_may(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    with Folder(tmp_path) as folder:
        assert len(folder.entries(5)) == 5
        assert len(folder.entries(100)) == 20


def test_a_copy_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    with Folder(tmp_path) as folder:
        folder.copy("a", tmp_path / "b", 5)
        assert (tmp_path / "b").read_bytes() == b"12345"
        assert folder.copy("a", tmp_path / "again", 5) == hashlib.sha256(b"12345").hexdigest()
        assert (folder.read_end("a", 2), folder.read_end("a", 9)) == (b"45", b"12345")
        with pytest.raises(OSError, match="larger than 4 bytes"):
            folder.copy("a", tmp_path / "c", 4)
        assert not (tmp_path / "c").exists()
        with pytest.raises(FileExistsError):
            folder.copy("a", tmp_path / "b", 5)
        assert (tmp_path / "b").exists()


def test_a_closed_folder_does_nothing_more(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.close()
    folder.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        folder.replace("x", b"x")
