"""What is wired, found, permitted and working on this car, and what to do for what is not. It moves nothing."""

from __future__ import annotations

import importlib.metadata
import json
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cryptography import x509

from drivers import kernel
from drivers.camera import find_videos
from drivers.gpio import STOCK_CHIP
from drivers.lidar import find_port
from drivers.pwm_sysfs import MOTOR, PI, SERVO, STOCK, TAIL
from drivers.rig import DeviceError
from vehicle.settings import Settings, SettingsError

State: TypeAlias = Literal["ok", "warn", "bad", "absent"]

PATIENCE: Final = 3.0
"""Seconds that one look may take; a device that hangs hangs alone."""
USER: Final = "hotlap"
GROUPS: Final = ("gpio", "i2c", "video", "dialout")
LITTLE_ROOM: Final = 256 << 20
NO_ROOM: Final = 64 << 20
"""Bytes free for what the car remembers: below the first no model can be uploaded, below the second none installed."""
PRIORITY: Final = 50
"""What the governor asks for."""
GAUGE_BUS: Final = "0000:00:17.3"
DAEMON, NETWORK, OLD, OLD_DOOR = "hotlap-car", "NetworkManager", "deepracer-core", "nginx"
AGAIN: Final = "Run scripts/install-car again."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `absent` is what this car need not have; `advice` is empty where all is well."""

    what: str
    state: State
    sentence: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class _Car:
    """What the looks look at."""

    settings: Settings | SettingsError
    root: Path
    units: Mapping[str, Mapping[str, str]] | None
    """By systemd, each unit's properties; None where there is no systemd."""

    @property
    def known(self) -> Settings:
        return Settings() if isinstance(self.settings, SettingsError) else self.settings

    @property
    def rig(self) -> str:
        return self.known.car.rig.partition(":")[0]

    @property
    def is_pi(self) -> bool:
        return self.rig == "drivers.raspberry_pi"

    @property
    def has_devices(self) -> bool:
        return self.rig in ("drivers.deepracer", "drivers.raspberry_pi")

    def active(self, unit: str) -> bool:
        return self.units is not None and self.units.get(unit, {}).get("ActiveState") == "active"

    def may_write(self, path: Path) -> bool:
        """Whether the daemon's user may, whoever asks. Raises OSError when there is no such file."""
        stat, (uid, gids) = path.stat(), self.user()
        shift = 6 if stat.st_uid == uid else 3 if stat.st_gid in gids else 0
        return bool(stat.st_mode >> shift & 2)

    def user(self) -> tuple[int, set[int]]:
        """The daemon's user: its number and those of its groups. Raises _Verdict when there is none."""
        users = {line[0]: line for line in _table(self.root / "etc/passwd", 7)}
        if USER not in users:
            raise _Verdict("bad", f"There is no user {USER}.", "Run scripts/install-car.")
        groups = {int(line[2]) for line in _table(self.root / "etc/group", 4) if USER in line[3].split(",")}
        return int(users[USER][2]), groups | {int(users[USER][3])}


class _Verdict(Exception):
    """What a look came to."""

    def __init__(self, state: State, sentence: str, advice: str = "") -> None:
        super().__init__(sentence)
        self.finding = state, sentence, advice


Look: TypeAlias = Callable[[_Car], tuple[State, str, str]]


def examine(settings: Settings | SettingsError, root: Path = Path("/")) -> list[Finding]:
    """Looks at everything at once, and takes twice PATIENCE at the most; call it from a thread.

    `settings` may be the error that reading them raised: that is a finding, too. `root` is where sys/, dev/, proc/ and
    etc/ are. Raises nothing.
    """
    car = _Car(settings, root, _ask_systemd(root))
    heard: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    for what, look in LOOKS.items():
        threading.Thread(target=_look, args=(what, look, car, heard), name=f"doctor {what}", daemon=True).start()
    found: dict[str, Finding] = {}
    deadline = time.monotonic() + PATIENCE
    while len(found) < len(LOOKS) and (left := deadline - time.monotonic()) > 0:
        try:
            finding = heard.get(timeout=left)
        except queue.Empty:
            break
        found[finding.what] = finding
    slow = f"It did not answer within {PATIENCE:.0f} s."
    return [found.get(what, Finding(what, "bad", slow, "Switch the car off and on.")) for what in LOOKS]


def sound(findings: Iterable[Finding]) -> bool:
    """Whether nothing is bad."""
    return all(finding.state != "bad" for finding in findings)


def as_json(findings: Iterable[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def as_text(findings: Iterable[Finding]) -> str:
    """A line for each, and below it what to do."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<7} {finding.what}: {finding.sentence}")
        if finding.advice:
            lines.append(f"{'':<7} -> {finding.advice}")
    return "\n".join(lines)


def _look(what: str, look: Look, car: _Car, heard: queue.SimpleQueue[Finding]) -> None:
    try:
        finding = look(car)
    except _Verdict as verdict:
        finding = verdict.finding
    except DeviceError as error:
        finding = "bad", str(error), ""
    except (OSError, ValueError) as error:
        finding = "bad", f"It could not be looked at: {error}.", AGAIN
    heard.put(Finding(what, *finding))


def _table(path: Path, columns: int) -> list[list[str]]:
    lines = (line.split(":") for line in path.read_text("utf-8", "replace").splitlines())
    return [line for line in lines if len(line) == columns]


def _ask(*command: str) -> str | None:
    """What a program says; None when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def _ask_systemd(root: Path) -> dict[str, dict[str, str]] | None:
    if not (root / "run/systemd/system").exists():
        return None
    units = [f"{name}.service" for name in (DAEMON, NETWORK, OLD, OLD_DOOR)]
    said = _ask("systemctl", "show", "--property=Id,ActiveState,Result,LimitRTPRIO,LimitMEMLOCK", *units)
    blocks = (
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in (said or "").split("\n\n")
    )
    return {block["Id"].removesuffix(".service"): block for block in blocks if "Id" in block}


# The looks -----------------------------------------------------------------------------------------------------------


def _settings(car: _Car) -> tuple[State, str, str]:
    if isinstance(car.settings, SettingsError):
        return "bad", str(car.settings), "Correct the file and restart the daemon; its defaults are looked at below."
    if not car.rig:
        return "bad", "No car is set.", 'Write rig = "drivers.deepracer:open_rig", or your car\'s, below [car].'
    return "ok", f"The car is {car.known.car.rig}.", ""


def _groups(car: _Car) -> tuple[State, str, str]:
    _, mine = car.user()
    lacking = [line[0] for line in _table(car.root / "etc/group", 4) if line[0] in GROUPS and int(line[2]) not in mine]
    lacking += [name for name in GROUPS if name not in {line[0] for line in _table(car.root / "etc/group", 4)}]
    if lacking:
        return "bad", f"The user {USER} is not in {', '.join(sorted(lacking))}.", AGAIN
    return "ok", f"The user {USER} is in {', '.join(GROUPS)}.", ""


def _state(car: _Car) -> tuple[State, str, str]:
    folder = car.root / car.known.car.state.lstrip("/")
    try:
        stat, (uid, _) = folder.stat(), car.user()
    except FileNotFoundError:
        return "bad", f"There is no folder {folder}.", AGAIN
    if stat.st_uid != uid:
        return "bad", f"{folder} belongs to another user.", f"chown -R {USER}: {folder}"
    if stat.st_mode & 0o077:
        return "bad", f"{folder} is open to other users, and holds the console's keys.", f"chmod 700 {folder}"
    free = shutil.disk_usage(folder).free
    sentence = f"{folder} has {free >> 20} MB free."
    if free < LITTLE_ROOM:
        return "bad" if free < NO_ROOM else "warn", sentence, "Remove models, or make room on the disk."
    return "ok", sentence, ""


def _pwm_chip(car: _Car) -> Path | None:
    folder = car.root / "sys/class/pwm"
    chip = kernel.find(folder, PI if car.is_pi else STOCK)
    if chip is None and not car.is_pi and (folder / "pwmchip0").exists():
        return folder / "pwmchip0"
    return chip


def _channels(car: _Car, numbers: tuple[int, ...]) -> tuple[State, str, str]:
    """Whether the daemon may drive these outputs."""
    chip = _pwm_chip(car)
    if chip is None and car.is_pi:
        return _bus(car, car.root / "dev/i2c-1", "the PCA9685's bus", "Switch it on: raspi-config nonint do_i2c 0.")
    if chip is None:
        return (
            "bad",
            "There is no PWM chip.",
            "Start the kernel that knows this car's PWM chip; see docs/on-the-car.md.",
        )
    for number in numbers:
        channel = chip / f"pwm{number}"
        if not channel.exists():
            return "bad", f"{chip.name} has no channel {number} yet.", "Run udevadm trigger, or start the car anew."
        for name in ("enable", "duty_cycle", "period"):
            if not car.may_write(channel / name):
                return "bad", f"The user {USER} may not write {channel / name}.", AGAIN
    return "ok", f"{chip.name} and its channels {', '.join(map(str, numbers))} are {USER}'s to drive.", ""


def _bus(car: _Car, node: Path, name: str, advice: str) -> tuple[State, str, str]:
    if not node.exists():
        return "bad", f"{node}, {name}, is not there.", advice
    if not car.may_write(node):
        return "bad", f"{node}, {name}, is forbidden to the user {USER}.", AGAIN
    return "ok", f"{node}, {name}, is {USER}'s to use.", ""


def _wires(car: _Car) -> tuple[State, str, str]:
    _needs_devices(car)
    return _channels(car, (MOTOR, SERVO))


def _switch(car: _Car) -> tuple[State, str, str]:
    _needs_devices(car)
    if car.is_pi:
        return "absent", "A Raspberry Pi car has no switch before its speed controller.", ""
    chip, files = kernel.find(car.root / "sys/bus/gpio/devices", STOCK_CHIP), car.root / "sys/class/gpio/export"
    node = car.root / "dev" / chip.name if chip is not None else files
    if not node.exists():
        return "bad", "There is no GPIO chip.", "Start a kernel that knows this car; see docs/on-the-car.md."
    if not car.may_write(node):
        return "bad", f"{node} is forbidden to the user {USER}.", AGAIN
    return "ok", f"The speed controller's switch is {USER}'s to set, by {node}.", ""


def _needs_devices(car: _Car) -> None:
    if not car.has_devices:
        raise _Verdict("absent", "The settings name no DeepRacer and no Raspberry Pi.")


def _cameras(car: _Car) -> tuple[State, str, str]:
    _needs_devices(car)
    # Without a question to the device itself: it might be in use, or hang.
    videos = [
        video
        for video in find_videos(car.root, lambda node: True)
        if any(part.startswith("usb") for part in video.place.parts)
    ]
    forbidden = [video.node.name for video in videos if not car.may_write(video.node)]
    if forbidden:
        return "bad", f"{', '.join(forbidden)} is forbidden to the user {USER}.", AGAIN
    names = ", ".join(sorted(video.node.name for video in videos))
    devices = car.known.devices
    if any(pin.startswith("csi:") for pin in (devices.left_camera, devices.right_camera)):
        return "ok", f"One is on the ribbon cable, which is not looked at{f'; by USB: {names}' if names else ''}.", ""
    if not videos and car.is_pi:
        return "warn", "No USB camera is found.", "Plug one in, or name the one on the ribbon cable in the settings."
    if not videos:
        return "bad", "No camera is found.", "Plug it in."
    if len(videos) > 2:
        return "warn", f"There are more than two cameras: {names}.", "Name the left and the right one in the settings."
    return "ok", f"{len(videos)} found: {names}.", ""


def _lidar(car: _Car) -> tuple[State, str, str]:
    _needs_devices(car)
    named = car.known.devices.lidar
    port = car.root / named.lstrip("/") if named else find_port(car.root)
    if port is None:
        return "absent", "No LiDAR is plugged in.", ""
    if not port.exists():
        return (
            "bad",
            f"There is no port {port}, which the settings name.",
            "Plug the LiDAR in, or correct the settings.",
        )
    if not car.may_write(port):
        return "bad", f"The LiDAR's port {port} is forbidden to the user {USER}.", AGAIN
    return "ok", f"It is at {port}.", ""


def _battery(car: _Car) -> tuple[State, str, str]:
    _needs_devices(car)
    gauge = car.known.devices.gauge
    if gauge == "none" or (car.is_pi and not gauge):
        return "absent", "The settings name no gauge.", ""
    if car.is_pi:
        return _bus(
            car, car.root / "dev/i2c-1", f"the bus of the {gauge}", "Switch it on: raspi-config nonint do_i2c 0."
        )
    bus = kernel.find(car.root / "sys/class/i2c-dev", GAUGE_BUS)
    node = car.root / "dev" / (bus.name if bus is not None else "i2c-7")
    return _bus(car, node, "the battery gauge's bus", "Load its driver: modprobe i2c-dev.")


def _lights(car: _Car) -> tuple[State, str, str]:
    _needs_devices(car)
    state, sentence, advice = _channels(car, TAIL)
    if state == "ok" and not car.is_pi:
        state, sentence, advice = _switch(car)
    if state != "ok":
        return "warn", sentence, advice
    return "ok", "They are within reach.", ""


def _network(car: _Car) -> tuple[State, str, str]:
    _needs_systemd(car)
    if not car.active(NETWORK):
        return "bad", "NetworkManager does not run: no Wi-Fi can be set.", f"systemctl enable --now {NETWORK}"
    return "ok", "NetworkManager runs.", ""


def _needs_systemd(car: _Car) -> Mapping[str, Mapping[str, str]]:
    if car.units is None:
        raise _Verdict("absent", "This machine was not started by systemd.")
    if DAEMON not in car.units:
        raise _Verdict("bad", "systemd does not answer.", "Start the car anew.")
    return car.units


def _realtime(car: _Car) -> tuple[State, str, str]:
    limit = _needs_systemd(car)[DAEMON].get("LimitRTPRIO", "0")
    share = car.root / "proc/sys/kernel/sched_rt_runtime_us"
    if share.exists() and kernel.read(share) == 0:
        return "bad", "The kernel gives real-time programs no time.", "sysctl kernel.sched_rt_runtime_us=950000"
    if not _at_least(limit, PRIORITY):
        return "bad", f"The daemon may ask for real-time priority {limit} only, not {PRIORITY}.", AGAIN
    return "ok", f"The daemon may ask for real-time priority {limit}.", ""


def _memory(car: _Car) -> tuple[State, str, str]:
    limit = _needs_systemd(car)[DAEMON].get("LimitMEMLOCK", "0")
    if not _at_least(limit, LITTLE_ROOM):
        return "bad", f"The daemon may lock {limit} bytes of memory only.", AGAIN
    return "ok", "The daemon may lock its memory.", ""


def _at_least(limit: str, least: int) -> bool:
    return limit == "infinity" or (limit.isdecimal() and int(limit) >= least)


def _openvino(car: _Car) -> tuple[State, str, str]:
    device = car.known.inference.device
    try:
        version = importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return "bad", "OpenVINO is not installed: no model can drive.", AGAIN
    if device != "GPU":
        return "ok", f"OpenVINO {version} computes on {device}.", ""
    nodes = sorted((car.root / "dev/dri").glob("renderD*"))
    if not any(car.may_write(node) for node in nodes):
        return "bad", f"There is no GPU that the user {USER} may use.", 'Write device = "CPU" below [inference].'
    return "ok", f"OpenVINO {version} computes on the GPU.", ""


def _console(car: _Car) -> tuple[State, str, str]:
    port = car.known.console.port
    tables = [car.root / "proc/net" / name for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    heard = any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows if len(row) > 3)
    match heard, car.active(DAEMON):
        case True, True:
            return "ok", f"It is open on port {port}.", ""
        case True, False:
            return (
                "bad",
                f"Another program has port {port}.",
                f"End it (ss -lptn sport = :{port}), or set another port.",
            )
        case False, True:
            return "bad", f"The daemon runs, and nobody listens on port {port}.", f"journalctl -u {DAEMON}"
        case _:
            return "ok", f"Port {port} is free.", ""


def _certificate(car: _Car) -> tuple[State, str, str]:
    path = car.root / car.known.car.state.lstrip("/") / "certificate.pem"
    try:
        end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except FileNotFoundError:
        return "absent", "There is none yet; the daemon makes one when it starts.", ""
    except PermissionError:
        return "warn", "You may not look at it.", "Ask again as root."
    except ValueError:
        return "bad", "It is damaged.", "Run hotlap-car renew-certificate and restart the daemon."
    if end < datetime.now(UTC):
        return "bad", f"It was good until {end:%Y-%m-%d}.", "Set the clock, or run hotlap-car renew-certificate."
    return "ok", f"It is good until {end:%Y-%m-%d}.", ""


def _clock(car: _Car) -> tuple[State, str, str]:
    if (car.root / "run/systemd/timesync/synchronized").exists():
        return "ok", "It follows a time server.", ""
    _needs_systemd(car)
    if (_ask("timedatectl", "show", "--property=NTPSynchronized", "--value") or "").strip() == "yes":
        return "ok", "It follows a time server.", ""
    return "warn", f"It follows no time server, and says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.", "Connect the car."


def _daemon(car: _Car) -> tuple[State, str, str]:
    unit = _needs_systemd(car)[DAEMON]
    if car.active(DAEMON):
        return "ok", "It runs.", ""
    reason = f"{unit.get('ActiveState', 'unknown')}, {unit.get('Result', 'unknown')}"
    return "bad", f"It does not run ({reason}).", f"systemctl restart {DAEMON}; journalctl -u {DAEMON}"


def _old(car: _Car) -> tuple[State, str, str]:
    _needs_systemd(car)
    running = [OLD] if car.active(OLD) else []
    if car.active(OLD_DOOR) and (car.root / "opt/aws/deepracer").exists():
        running.append(OLD_DOOR)
    if running:
        return (
            "bad",
            f"{' and '.join(running)} still runs beside hotlap.",
            f"systemctl disable --now {' '.join(running)}",
        )
    return "ok", "It does not run.", ""


LOOKS: Final[Mapping[str, Look]] = {
    "settings": _settings,
    "user": _groups,
    "state folder": _state,
    "servo and motor": _wires,
    "motor switch": _switch,
    "cameras": _cameras,
    "LiDAR": _lidar,
    "battery gauge": _battery,
    "lights": _lights,
    "network": _network,
    "real-time": _realtime,
    "memory lock": _memory,
    "OpenVINO": _openvino,
    "console": _console,
    "certificate": _certificate,
    "clock": _clock,
    "daemon": _daemon,
    "stock software": _old,
}
