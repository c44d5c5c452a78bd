"""Servo and speed controller by PWM files: neutral before enable, every refusal is said, release whatever fails."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from gpiod.line import Value
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.calibration import DEFAULT
from drivers import kernel
from drivers.gpio import STOCK_CHIP, Held, Outputs
from drivers.pwm_sysfs import PI, STOCK, Channel, SysfsWires, main, open_wires
from drivers.rig import DeviceError, Wires
from drivers.signals import NEUTRAL, Action, ActuatorCommand
from tests.drivers.sysfs_tree import PI_DEVICE, Tree, without_permission
from vehicle.gate import DriveMode, Proposal
from vehicle.governor import Doorbell
from vehicle.mailbox import Mailbox, Orders

REST = DEFAULT.command(NEUTRAL)
FAST = DEFAULT.command(Action(0.5, 1.0))
PATIENCE = 20.0


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def wires(tree: Tree) -> SysfsWires:
    return open_wires(str(tree.root))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_the_chip_is_found_by_its_link_and_gets_period_pulse_and_enable(tree: Tree, wires: SysfsWires) -> None:
    wires.apply(FAST)
    assert tree.command() == FAST
    assert (tree.read(0, "period"), tree.read(0, "duty_cycle")) == (20_000_000, 1_311_000)
    assert tree.level(2) == 0, "the speed controller is enabled by a low line"
    wires.release()
    assert tree.command() is None
    assert [tree.read(n, "duty_cycle") for n in (0, 1)] == [0, 0]
    assert tree.level(2) == 1


@pytest.mark.parametrize("base", [434, 512])
def test_the_enable_line_has_another_number_under_newer_kernels(tmp_path: Path, base: int) -> None:
    tree = Tree(tmp_path, base=base)
    open_wires(str(tmp_path)).apply(REST)
    assert tree.level(2) == 0
    assert (tree.gpio / f"gpio{base + 2}/value").read_text() == "0"


def test_on_a_pi_the_chip_is_the_one_on_the_pins_and_there_is_no_enable_line(tmp_path: Path) -> None:
    tree = Tree(tmp_path, PI_DEVICE)
    wires = open_wires(str(tmp_path), PI)
    wires.apply(FAST)
    assert tree.read(0, "duty_cycle") == FAST.throttle_ns
    assert tree.level(2) == 1, "nobody touches it"
    with pytest.raises(DeviceError, match=r"no PWM chip behind 0000:00:17\.0"):
        open_wires(str(tmp_path), STOCK).apply(FAST)


def test_a_chip_that_sits_elsewhere_is_the_cars_if_it_is_the_only_one(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "platform/elsewhere/pwm", number=0)
    (tmp_path / "sys/class/pwm/pwmchip-1").unlink()
    open_wires(str(tmp_path)).apply(REST)
    assert tree.command() == REST


def test_of_several_chips_elsewhere_none_is_touched(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "platform/elsewhere/pwm", number=1)
    with pytest.raises(DeviceError, match="There is no PWM chip"):
        open_wires(str(tmp_path)).apply(REST)
    assert tree.command() is None


@pytest.mark.parametrize("stale", [(20_000_000, 1_311_000, 1), (5_000_000, 4_000_000, 1), (30_000_000, 25_000_000, 0)])
def test_whatever_was_left_in_the_files_is_replaced(tree: Tree, wires: SysfsWires, stale: tuple[int, int, int]) -> None:
    for channel in (0, 1):
        tree.channel(channel, *stale)
    wires.apply(REST)
    assert tree.command() == REST


@pytest.mark.parametrize("channel", [0, 1])
def test_a_pulse_that_does_not_read_back_never_gets_enabled(tree: Tree, wires: SysfsWires, channel: int) -> None:
    folder = tree.channel(channel)
    (folder / "duty_cycle").unlink()
    (folder / "duty_cycle").symlink_to("/dev/null")  # takes everything, keeps nothing
    with pytest.raises(DeviceError, match=r"duty_cycle: it reads b''.*\.$"):
        wires.apply(REST)
    assert tree.read(channel, "enable") == 0
    assert tree.level(2) == 1, "the speed controller stays disabled"


@pytest.mark.parametrize("name", ["period", "duty_cycle", "enable"])
def test_a_write_that_fails_is_said_with_its_file_and_the_next_one_may_succeed(
    tree: Tree, wires: SysfsWires, name: str
) -> None:
    tree.jam(1, True, name)
    with pytest.raises(DeviceError, match=rf"servo \(PWM channel 1\) .*{name}: .*\.$"):
        wires.apply(REST)
    tree.jam(1, False, name)
    wires.apply(REST)
    assert tree.command() == REST


def test_a_write_that_gets_only_half_through_is_a_failure(tree: Tree, wires: SysfsWires) -> None:
    wires.apply(REST)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, hard))
    try:
        with pytest.raises(DeviceError, match="it took 3 of the 7 characters"):
            wires.apply(REST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    wires.apply(REST)
    assert tree.command() == REST


def test_a_chip_that_goes_and_comes_back_under_another_number_is_found_again(tree: Tree, wires: SysfsWires) -> None:
    wires.apply(REST)
    link = tree.root / "sys/class/pwm/pwmchip3"
    device = link.readlink()
    link.unlink()
    away = tree.chip.rename(tree.chip.with_name("away"))
    for act in (partial(wires.apply, REST), wires.release):
        with pytest.raises(DeviceError, match=r"no PWM chip behind .* plug sits\.$"):
            act()
    assert tree.level(2) == 1, "what can be released is released"
    tree.chip = away.rename(tree.chip.with_name("pwmchip5"))
    link.with_name("pwmchip5").symlink_to(device.with_name("pwmchip5"))
    wires.apply(FAST)
    assert tree.command() == FAST


def test_files_that_this_user_may_not_write_are_told_with_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree(Path(folder))
        wires = open_wires(folder)
        wires.apply(REST)
        with (
            without_permission(tree.root, tree.chip / "pwm0/duty_cycle"),
            pytest.raises(DeviceError, match=r"duty_cycle: Permission denied\); give this user .* udev rules\.$"),
        ):
            wires.apply(FAST)
        wires.apply(FAST)
        assert tree.command() == FAST


def test_a_disturbed_bus_below_the_files_is_worth_three_tries_and_no_more() -> None:
    tries: list[int] = []

    def disturbed(times: int, number: int = errno.EREMOTEIO) -> int:
        tries.append(times)
        if len(tries) <= times:
            raise OSError(number, "Remote I/O error")
        return len(tries)

    for times in (0, 1, 2):
        tries.clear()
        assert kernel.again(partial(disturbed, times), (errno.EREMOTEIO,)) == times + 1
    for times, number, tried in ((3, errno.EREMOTEIO, 3), (1, errno.ETIMEDOUT, 1)):
        tries.clear()
        with pytest.raises(OSError, match="Remote"):
            kernel.again(partial(disturbed, times, number), (errno.EREMOTEIO,))
        assert len(tries) == tried


class Kernel(threading.Thread):
    """Makes a channel's folder when its number is written to `export`, as the kernel does."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(daemon=True)
        self.tree = tree
        export = tree.chip / "export"
        export.unlink()
        os.mkfifo(export)

    def run(self) -> None:
        while not all((self.tree.chip / f"pwm{channel}").exists() for channel in (0, 1)):
            with (self.tree.chip / "export").open() as file:
                self.tree.channel(int(file.read()))


def test_channels_are_exported_first(tree: Tree, wires: SysfsWires) -> None:
    for channel in (0, 1):
        folder = tree.chip / f"pwm{channel}"
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    wires.release()  # nothing there to release, and no fault
    kernel_thread = Kernel(tree)
    kernel_thread.start()

    def applied() -> bool:
        try:
            wires.apply(FAST)
        except DeviceError:  # the folder was not whole yet: so it is under a kernel whose udev is still at work
            return False
        return True

    until(applied)
    kernel_thread.join(PATIENCE)
    assert tree.command() == FAST


def test_a_channel_that_another_driver_holds_is_a_failure(tree: Tree, wires: SysfsWires) -> None:
    (tree.chip / "pwm0").rename(tree.chip / "taken")
    (tree.chip / "export").unlink()
    (tree.chip / "export").symlink_to("/dev/full")
    with pytest.raises(DeviceError, match=r"speed controller \(PWM channel 0\) .*export.*\.$"):
        wires.apply(REST)
    assert "stop the other program that holds it" in kernel.refusal("chip", OSError(16, "Device or resource busy"))
    (tree.chip / "taken").rename(tree.chip / "pwm0")
    wires.apply(REST)
    assert tree.command() == REST


@pytest.mark.parametrize("broken", [0, 1])
def test_release_does_all_that_still_works_and_then_complains(tree: Tree, wires: SysfsWires, broken: int) -> None:
    wires.apply(FAST)
    tree.jam(broken, True, "enable")
    with pytest.raises(DeviceError, match=rf"PWM channel {broken}\) .*enable"):
        wires.release()
    assert tree.level(2) == 1
    assert [tree.read(n, "duty_cycle") for n in (0, 1)] == [0, 0]
    assert tree.read(1 - broken, "enable") == 0


def test_without_its_enable_line_the_car_is_not_driven(tree: Tree, wires: SysfsWires) -> None:
    (tree.gpio / "gpiochip434").rmdir()
    with pytest.raises(DeviceError, match=r"enable line .*no gpiochip434 nor gpiochip512.*\.$"):
        wires.apply(REST)
    with pytest.raises(DeviceError, match="enable line"):
        wires.release()
    assert [tree.read(n, "enable") for n in (0, 1)] == [0, 0], "the pulses stop all the same"
    (tree.gpio / "gpiochip434").mkdir()
    wires.apply(REST)
    assert tree.command() == REST


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_whatever_a_file_holds_is_a_number_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "number"
    path.write_bytes(text)
    try:
        number = int(text[:64])
    except ValueError:
        with pytest.raises(OSError, match="it reads b"):
            kernel.read(path)
    else:
        assert kernel.read(path) == number


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_device_is_found_only_where_its_link_leads_through_it(
    tmp_path_factory: pytest.TempPathFactory, target: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "links"
    folder.mkdir(exist_ok=True)
    link = folder / "chip"
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    assert kernel.find(folder, STOCK) == (link if STOCK in Path(target).parent.parts else None)
    link.unlink()
    link.symlink_to(f"{target}/{STOCK}/pwm/chip")
    assert kernel.find(folder, STOCK) == link
    assert kernel.find(folder / "nowhere", STOCK) is None


# The character device


class Lines:
    """GPIO lines as the kernel lends them out."""

    def __init__(self) -> None:
        self.levels: dict[int | str, Value] = {}
        self.lent = 0
        self.refuses: OSError | None = None

    def request(self, device: str, values: dict[int | str, Value]) -> Held:
        assert device.endswith("/dev/gpiochip0")
        if self.refuses:
            raise self.refuses
        self.lent += 1
        self.levels |= values
        return self

    def set_values(self, values: dict[int | str, Value]) -> None:
        if self.refuses:
            raise self.refuses
        self.levels |= values

    def release(self) -> None:
        self.lent -= 1


@pytest.fixture
def lines(tree: Tree) -> Lines:
    link = tree.root / "sys/bus/gpio/devices/gpiochip0"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"../../../devices/pci0000:00/{STOCK_CHIP}/gpiochip0")
    return Lines()


def test_the_enable_line_is_asked_of_the_character_device_and_given_back(tree: Tree, lines: Lines) -> None:
    gate = Outputs("enable line", (2,), tree.root, lines.request)
    wires = SysfsWires(Channel(0, root=tree.root), Channel(1, root=tree.root), gate)
    for _ in range(3):
        wires.apply(REST)
        assert (lines.levels, lines.lent) == ({2: Value.INACTIVE}, 1)
    wires.release()
    wires.release()
    assert (lines.levels, lines.lent) == ({2: Value.ACTIVE}, 0)
    assert tree.level(2) == 1, "the old files were not touched"


def test_the_speed_controller_is_enabled_last_and_disabled_first(tree: Tree, lines: Lines) -> None:
    moments: list[tuple[Value, int, int]] = []

    class Watched(Outputs):
        def write(self, *levels: bool) -> None:
            super().write(*levels)
            moments.append((lines.levels[2], tree.read(0, "duty_cycle"), tree.read(0, "enable")))

    gate = Watched("enable line", (2,), tree.root, lines.request)
    wires = SysfsWires(Channel(0, root=tree.root), Channel(1, root=tree.root), gate)
    wires.apply(REST)
    wires.release()
    assert moments == [(Value.INACTIVE, REST.throttle_ns, 1), (Value.ACTIVE, REST.throttle_ns, 1)]


def test_lines_that_the_stock_software_holds_are_driven_by_their_files(tree: Tree, lines: Lines) -> None:
    gate = Outputs("enable line", (2,), tree.root, lines.request)
    gate.write(False)
    lines.refuses = OSError(16, "Device or resource busy")
    gate.write(False)
    assert (tree.level(2), lines.lent) == (0, 0)
    lines.refuses = None
    gate.write(True)
    assert lines.levels == {2: Value.ACTIVE}


def test_when_neither_way_works_the_character_device_s_reason_is_told(tree: Tree, lines: Lines) -> None:
    lines.refuses = PermissionError(13, "Permission denied")
    (tree.gpio / "gpiochip434").rmdir()
    with pytest.raises(DeviceError, match=r"The enable line .*/dev/gpiochip0: Permission denied\); give this user"):
        Outputs("enable line", (2,), tree.root, lines.request).write(True)


def test_the_real_library_refuses_what_is_no_gpio_chip(tree: Tree, lines: Lines) -> None:
    (tree.root / "dev").mkdir()
    (tree.root / "dev/gpiochip0").write_text("")
    Outputs("enable line", (2,), tree.root).write(False)
    assert tree.level(2) == 0, "it went by the old files"


# Processes


def test_the_release_command_works_without_a_daemon_and_says_what_fails(
    tree: Tree, wires: SysfsWires, capsys: pytest.CaptureFixture[str]
) -> None:
    wires.apply(FAST)
    assert main(["release", str(tree.root)]) == 0
    assert tree.command() is None
    pi = Tree(tree.root / "pi", PI_DEVICE)
    open_wires(str(pi.root), PI).apply(FAST)
    assert main(["release", str(pi.root)]) == 0, "it knows by itself which car this is"
    assert [pi.read(n, "enable") for n in (0, 1)] == [0, 0]
    assert main(["release", str(tree.root / "nowhere")]) == 1
    assert "no gpiochip434" in capsys.readouterr().err
    assert main([]) == main(["drive"]) == main(["release", "", "", ""]) == 2


def test_a_killed_governor_leaves_its_pulses_and_the_release_command_takes_them_off(tree: Tree) -> None:
    mailbox, bell = Mailbox.create(), Doorbell()
    lifeline, held = os.pipe()
    wires = Wires("drivers.pwm_sysfs:open_wires", (str(tree.root),))
    command = [sys.executable, "-m", "vehicle.governor", str(mailbox.fd), str(bell.fd), str(lifeline)]
    seen: list[ActuatorCommand | None] = []

    def ask(action: Action, engaged: bool = True) -> None:
        wish = Proposal(action, time.monotonic())
        mailbox.post(Orders(DriveMode.MANUAL, engaged, {DriveMode.MANUAL: wish}, DEFAULT))

    def carries(wanted: ActuatorCommand) -> bool:
        try:
            command = tree.command()
        except (ValueError, AssertionError):  # the governor is writing
            return False
        seen.append(command)
        return command == wanted

    ask(NEUTRAL, engaged=False)
    with subprocess.Popen([*command, wires.opener, *wires.arguments], pass_fds=(mailbox.fd, bell.fd, lifeline)) as act:
        try:
            until(lambda: carries(REST))
            assert {*seen} <= {None, REST}, "neutral is the first thing on the wires"

            def driven() -> bool:
                ask(Action(0.5, 1.0))
                return carries(FAST)

            until(driven)
        finally:
            act.send_signal(signal.SIGKILL)
    throttle = tree.read(0, "duty_cycle") if (tree.chip / "pwm0/duty_cycle").read_text() else FAST.throttle_ns
    assert (throttle, tree.read(0, "enable")) == (FAST.throttle_ns, 1), "nobody is left to stop the car"
    subprocess.run([sys.executable, "-m", "drivers.pwm_sysfs", "release", str(tree.root)], check=True, timeout=PATIENCE)
    assert tree.command() is None
    assert [tree.read(n, "duty_cycle") for n in (0, 1)] == [0, 0]
    for fd in (lifeline, held):
        os.close(fd)
    bell.close()
    mailbox.close()


def test_the_driver_is_light() -> None:
    heavy = "import sys, drivers.pwm_sysfs, drivers.pwm_pca9685; print({'numpy', 'cv2', 'asyncio'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", heavy], check=True, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.strip() == "set()"
