"""What the doctor finds on a car whose /sys, /dev, /proc and /etc are a temporary folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from calibration.calibration import DEFAULT
from calibration.store import serialise
from drivers.i2c import Bus
from drivers.rig import Options
from tests.drivers.i2c_model import Bytes, Pca9685Model, Wire
from tests.drivers.sysfs_tree import without_permission
from vehicle import doctor
from vehicle.doctor import Finding, as_json, as_text, examine, sound
from vehicle.patient import PATIENCE, parted
from vehicle.settings import Car, Console, Inference, Settings, SettingsError
from vehicle.state import status_line
from vehicle.system_checks import GROUPS

ME, MINE = os.getuid(), os.getgid()
DEEPRACER = Settings(car=Car(rig="drivers.deepracer:open_rig"), console=Console(port=443))
PI = replace(DEEPRACER, car=Car(rig="drivers.raspberry_pi:open_rig"))
RUNNING = {
    "hotlap-car": "active",
    "NetworkManager": "active",
    "udisks2": "inactive",
    "ssh": "active",
    "hotlap-usb": "active",
    "deepracer-core": "inactive",
    "nginx": "inactive",
}
PEOPLE = "root:x:0:0:root:/root:/bin/sh\ndriver:x:1000:1000::/home/driver:/bin/sh\n"
STOPPED = RUNNING | {"hotlap-car": "inactive"}
LISTENING = (
    "  0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   993        0 1 1 0 100 0 0 10 0\n"
)
CONNECTED = LISTENING.replace(" 0A ", " 01 ")


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def certificate(end: datetime) -> bytes:
    key, name = generate_private_key(SECP256R1()), x509.Name([])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(end - timedelta(days=2)).not_valid_after(end)
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM)


def systemd(
    tools: Path, units: dict[str, str], rtprio: str = "50", memlock: str = "infinity", status: str = ""
) -> None:
    """A systemctl that knows these units, before all others; `status` is what each has told."""
    blocks = [
        f"Id={name}.service\nLoadState={'not-found' if state == 'missing' else 'loaded'}\nActiveState={state}\n"
        f"Result=success\nStatusText={status}\nLimitRTPRIO={rtprio}\nLimitMEMLOCK={memlock}\n"
        for name, state in units.items()
    ]
    write(tools / "answer", "\n".join(blocks))
    program(tools / "systemctl", f"cat {tools}/answer")


def program(path: Path, text: str) -> None:
    write(path, f"#!/bin/sh\n{text}\n").chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    systemd(folder, RUNNING)
    program(folder / "timedatectl", "echo no")
    return folder


@pytest.fixture
def root(tmp_path: Path, tools: Path) -> Path:
    """A car on which all is well."""
    root = tmp_path / "root"
    write(root / "etc/passwd", PEOPLE + f"hotlap:x:{ME}:{MINE}::/var/lib/hotlap:/bin/false\n")
    groups = "".join(f"{name}:x:{number}:hotlap\n" for number, name in enumerate(GROUPS, 5000))
    write(root / "etc/group", f"root:x:0:\n{groups}")
    (root / "var/lib/hotlap").mkdir(parents=True)
    (root / "var/lib/hotlap").chmod(0o700)
    (root / "var/lib/hotlap/certificate.pem").write_bytes(certificate(datetime.now(UTC) + timedelta(days=100)))
    (root / "var/lib/hotlap/calibration.json").write_bytes(serialise(DEFAULT))
    link(root / "var/lib/hotlap/active", "models/Swift")
    (root / "var/lib/hotlap/models/Swift").mkdir(parents=True)
    (root / "run/systemd/system").mkdir(parents=True)
    os.mknod(root / "run/hotlap-ssh-password.sock", stat.S_IFSOCK | 0o600)
    write(root / "etc/hotlap/ssh-account", "driver\n")
    for unit in ("hotlap-ssh@.service", "hotlap-ssh-password.socket", "hotlap-ssh-password@.service"):
        write(root / "etc/systemd/system" / unit)
    write(root / "etc/polkit-1/rules.d/40-hotlap.rules", "polkit.addRule();\n")
    write(root / "proc/filesystems", "nodev\ttmpfs\n\tvfat\n")
    write(root / "proc/sys/kernel/osrelease", "6.1.0\n")
    write(
        root / "lib/modules/6.1.0/modules.dep",
        "kernel/fs/exfat/exfat.ko.xz:\nkernel/fs/ntfs3/ntfs3.ko: kernel/nls.ko\n",
    )
    (root / "sys/class/net/wlan0/phy80211").mkdir(parents=True)
    (root / "sys/class/net/eth0").mkdir()
    for name, value in (("type", "wlan\n"), ("soft", "0\n"), ("hard", "0\n")):
        write(root / "sys/class/rfkill/rfkill0" / name, value)
    (root / "sys/class/udc/dwc3.0.auto").mkdir(parents=True)
    write(root / "run/systemd/timesync/synchronized")
    write(root / "proc/sys/kernel/sched_rt_runtime_us", "950000\n")
    write(root / "proc/net/tcp", f"  sl  local_address ...\n{LISTENING}")
    for stock_or_pi, number in (("pci0000:00/0000:00:17.0/i2c-0/0-0040", 2), ("platform/soc/i2c-1/1-0040", 3)):
        chip = root / "sys/devices" / stock_or_pi / f"pwm/pwmchip{number}"
        for channel in range(5):
            for name in ("enable", "duty_cycle", "period"):
                write(chip / f"pwm{channel}" / name, "0")
        link(root / f"sys/class/pwm/pwmchip{number}", f"../../devices/{stock_or_pi}/pwm/pwmchip{number}")
    link(root / "sys/bus/gpio/devices/gpiochip0", "../../../devices/platform/INT3452:00/gpiochip0")
    write(root / "dev/gpiochip0")
    link(root / "sys/class/i2c-dev/i2c-5", "../../devices/pci0000:00/0000:00:17.3/i2c-5/i2c-dev/i2c-5")
    write(root / "dev/i2c-5")
    write(root / "dev/i2c-1")
    for number in (0, 1):
        place = root / "sys/devices/pci0000:00/0000:00:15.0/usb1/1-3/1-3:1.0"
        write(place / f"video4linux/video{number}/index", str(number))
        link(place / f"video4linux/video{number}/device", "../..")
        link(root / f"sys/class/video4linux/video{number}", str(place / f"video4linux/video{number}"))
        write(root / f"dev/video{number}")
    adapter = root / "sys/devices/pci0000:00/0000:00:15.0/usb1/1-4"
    write(adapter / "idVendor", "10c4\n")
    write(adapter / "idProduct", "ea60\n")
    (adapter / "1-4:1.0/ttyUSB0/tty/ttyUSB0").mkdir(parents=True)
    link(root / "sys/class/tty/ttyUSB0", str(adapter / "1-4:1.0/ttyUSB0/tty/ttyUSB0"))
    write(root / "dev/ttyUSB0")
    return root


def find(
    root: Path,
    what: str,
    settings: Settings | SettingsError = DEEPRACER,
    faults: dict[str, str] | None = None,
    bus: Callable[[Path], Bus] | None = None,
    query: Callable[[Path], bool] = lambda node: True,
) -> Finding:
    def closed(path: Path) -> Bus:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    findings = examine(settings, root, faults, bus=bus or closed, query=query)
    return next(finding for finding in findings if finding.what == what)


@pytest.mark.parametrize("settings", [DEEPRACER, PI])
def test_on_a_sound_car_nothing_is_bad_and_nothing_asks_for_anything(root: Path, settings: Settings) -> None:
    findings = examine(settings, root)
    assert [finding for finding in findings if finding.state not in ("ok", "absent") or finding.advice] == []
    assert sound(findings)
    absent = {finding.what for finding in findings if finding.state == "absent"}
    assert absent == ({"motor switch", "battery gauge"} if settings is PI else set())


def test_nothing_is_written_by_looking(root: Path) -> None:
    def everything() -> dict[Path, int]:
        return {path: path.lstat().st_mtime_ns for path in root.rglob("*")}

    before = everything()
    examine(DEEPRACER, root)
    assert everything() == before


def test_an_empty_machine_is_told_line_by_line_and_raises_nothing(tmp_path: Path) -> None:
    for settings in (DEEPRACER, PI, Settings()):
        findings = examine(settings, tmp_path / "nothing")
        assert [finding.what for finding in findings] == list(doctor.CHECKS)
        assert not sound(findings)
        assert all(
            finding.advice for finding in findings if finding.state == "bad" and "looked at" not in finding.sentence
        )


def test_each_finding_is_a_sentence(root: Path, tmp_path: Path) -> None:
    for where in (root, tmp_path / "nothing"):
        for finding in examine(DEEPRACER, where):
            assert finding.sentence.endswith(".")
            assert "\n" not in finding.sentence


def test_settings_that_cannot_be_read_are_a_finding_and_the_rest_is_looked_at(root: Path) -> None:
    findings = examine(SettingsError("There is no setting drvie; did you mean drive?"), root)
    assert findings[0].state == "bad"
    assert "drvie" in findings[0].sentence
    assert next(finding for finding in findings if finding.what == "daemon").state == "ok"


def spoil(root: Path, tools: Path, how: str) -> None:
    state, chip = root / "var/lib/hotlap", root / "sys/class/pwm/pwmchip2"
    match how:
        case "no user":
            write(root / "etc/passwd", "root:x:0:0::/:/bin/sh\n")
        case "no group":
            write(root / "etc/group", "gpio:x:5000:hotlap\nvideo:x:5001:\ndialout:x:5002:hotlap\n")
        case "no state":
            shutil.rmtree(state)
        case "open state":
            state.chmod(0o755)
        case "foreign state":
            passwd = (root / "etc/passwd").read_text().replace(f"hotlap:x:{ME}:", f"hotlap:x:{ME + 1}:")
            write(root / "etc/passwd", passwd)
        case "no chip":
            chip.unlink()
        case "no channel":
            for file in (chip / "pwm1").iterdir():
                file.unlink()
            (chip / "pwm1").rmdir()
        case "root's channel":
            (chip / "pwm0/duty_cycle").chmod(0o444)
        case "no tail light":
            (chip / "pwm4/enable").chmod(0o444)
        case "no gpio":
            (root / "sys/bus/gpio/devices/gpiochip0").unlink()
        case "root's gpio":
            (root / "dev/gpiochip0").chmod(0o400)
        case "no camera":
            for number in (0, 1):
                (root / f"sys/class/video4linux/video{number}").unlink()
        case "root's camera":
            (root / "dev/video0").chmod(0o400)
        case "no lidar":
            (root / "sys/class/tty/ttyUSB0").unlink()
        case "root's lidar":
            (root / "dev/ttyUSB0").chmod(0o400)
        case "no gauge":
            (root / "dev/i2c-5").unlink()
        case "root's gauge":
            (root / "dev/i2c-5").chmod(0o400)
        case "no network":
            systemd(tools, RUNNING | {"NetworkManager": "inactive"})
        case "no priority":
            systemd(tools, RUNNING, rtprio="0")
        case "no rt time":
            write(root / "proc/sys/kernel/sched_rt_runtime_us", "0\n")
        case "no memory":
            systemd(tools, RUNNING, memlock="8388608")
        case "stranger's port":
            systemd(tools, STOPPED)
        case "deaf":
            write(root / "proc/net/tcp", f"  sl  local_address ...\n{CONNECTED}")
        case "old certificate":
            (state / "certificate.pem").write_bytes(certificate(datetime.now(UTC) - timedelta(days=1)))
        case "torn certificate":
            (state / "certificate.pem").write_bytes(b"-----BEGIN")
        case "no certificate":
            (state / "certificate.pem").unlink()
        case "no time":
            (root / "run/systemd/timesync/synchronized").unlink()
        case "failed":
            systemd(tools, RUNNING | {"hotlap-car": "failed"})
        case "stock car":
            systemd(tools, RUNNING | {"deepracer-core": "active"})
        case "stock door":
            systemd(tools, RUNNING | {"nginx": "active"})
            (root / "opt/aws/deepracer").mkdir(parents=True)
        case "no radio":
            (root / "sys/class/net/wlan0/phy80211").rmdir()
        case "radio off":
            write(root / "sys/class/rfkill/rfkill0/soft", "1\n")
        case "radio locked":
            write(root / "sys/class/rfkill/rfkill0/hard", "1\n")
        case "no udisks2":
            systemd(tools, RUNNING | {"udisks2": "missing"})
        case "no exfat":
            write(root / "lib/modules/6.1.0/modules.dep", "kernel/fs/ntfs3/ntfs3.ko:\n")
        case "no rules":
            (root / "etc/polkit-1/rules.d/40-hotlap.rules").unlink()
        case "no ssh":
            systemd(tools, RUNNING | {"ssh": "missing"})
        case "no ssh unit":
            (root / "etc/systemd/system/hotlap-ssh@.service").unlink()
        case "no ssh socket":
            (root / "run/hotlap-ssh-password.sock").unlink()
        case "no ssh account":
            (root / "etc/hotlap/ssh-account").unlink()
        case "strange ssh account":
            write(root / "etc/hotlap/ssh-account", "nobody-here\n")
        case "root's ssh":
            write(root / "etc/hotlap/ssh-account", "root\n")
        case "no cable":
            systemd(tools, RUNNING | {"hotlap-usb": "failed"})
        case "no udc":
            (root / "sys/class/udc/dwc3.0.auto").rmdir()
        case "no calibration":
            (state / "calibration.json").unlink()
        case "torn calibration":
            (state / "calibration.json").write_text("{")
        case "no model":
            (state / "active").unlink()
        case "lost model":
            (state / "models/Swift").rmdir()
        case "mute":
            program(tools / "systemctl", "exit 1")
        case _:
            pytest.fail(how)


@pytest.mark.parametrize(
    ("how", "what", "state", "words"),
    [
        ("no user", "user", "bad", "There is no user hotlap."),
        ("no group", "user", "bad", "is not in i2c, video."),
        ("no state", "state folder", "bad", "There is no folder"),
        ("open state", "state folder", "bad", "open to other users"),
        ("foreign state", "state folder", "bad", "belongs to another user"),
        ("no chip", "servo and motor", "bad", "There is no PWM chip behind 0000:00:17.0."),
        ("no channel", "servo and motor", "bad", "has no channel 1 yet"),
        ("root's channel", "servo and motor", "bad", "duty_cycle"),
        ("no tail light", "lights", "warn", "may not write"),
        ("no gpio", "motor switch", "bad", "There is no GPIO chip."),
        ("root's gpio", "motor switch", "bad", "forbidden"),
        ("no camera", "cameras", "bad", "No camera is found."),
        ("root's camera", "cameras", "bad", "video0 is forbidden"),
        ("no lidar", "LiDAR", "absent", "No LiDAR"),
        ("root's lidar", "LiDAR", "bad", "forbidden"),
        ("no gauge", "battery gauge", "bad", "is not there"),
        ("root's gauge", "battery gauge", "bad", "forbidden"),
        ("no network", "network", "bad", "NetworkManager does not run"),
        ("no priority", "real-time", "bad", "priority 0 only"),
        ("no rt time", "real-time", "bad", "no time"),
        ("no memory", "memory lock", "bad", "8388608 bytes"),
        ("stranger's port", "console", "bad", "Another program has port 443."),
        ("deaf", "console", "bad", "nobody listens on port 443"),
        ("old certificate", "certificate", "bad", "It was good until"),
        ("torn certificate", "certificate", "bad", "It is damaged."),
        ("no certificate", "certificate", "absent", "There is none yet"),
        ("no time", "clock", "warn", "no time server"),
        ("failed", "daemon", "bad", "It does not run (failed, success)."),
        ("stock car", "stock software", "bad", "deepracer-core still runs"),
        ("stock door", "stock software", "bad", "nginx still runs"),
        ("mute", "daemon", "bad", "systemd does not answer"),
        ("no radio", "Wi-Fi", "warn", "There is no Wi-Fi adapter."),
        ("radio off", "Wi-Fi", "bad", "The Wi-Fi is switched off."),
        ("radio locked", "Wi-Fi", "bad", "by the machine itself"),
        ("no udisks2", "USB drives", "bad", "udisks2 is not there"),
        ("no exfat", "USB drives", "warn", "with exFAT cannot be read"),
        ("no rules", "permissions", "bad", "rules are missing"),
        ("no ssh", "SSH", "warn", "no SSH server"),
        ("no ssh unit", "SSH", "warn", "hotlap-ssh@.service is missing"),
        ("no ssh socket", "SSH", "warn", "The socket that takes SSH's password is missing."),
        ("no ssh account", "SSH", "warn", "No account is named whose password it is."),
        ("strange ssh account", "SSH", "warn", "nobody-here is no person's account"),
        ("root's ssh", "SSH", "warn", "root is no person's account"),
        ("no cable", "USB cable", "bad", "does not run"),
        ("no udc", "USB cable", "absent", "no USB port that can be a device"),
        ("no calibration", "calibration", "absent", "None is stored yet"),
        ("torn calibration", "calibration", "bad", "damaged"),
        ("no model", "model", "absent", "None was chosen yet."),
        ("lost model", "model", "bad", "The model Swift, which was chosen, is gone."),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    root: Path, tools: Path, how: str, what: str, state: str, words: str
) -> None:
    spoil(root, tools, how)
    findings = examine(DEEPRACER, root)
    finding = next(finding for finding in findings if finding.what == what)
    assert finding.state == state
    assert words in finding.sentence
    assert bool(finding.advice) == (state in ("bad", "warn"))
    assert sound(findings) == (state != "bad")


def test_a_pi_without_the_kernels_pwm_chip_is_driven_over_its_bus(root: Path) -> None:
    (root / "sys/class/pwm/pwmchip3").unlink()
    assert find(root, "servo and motor", PI).state == "ok"
    (root / "dev/i2c-1").unlink()
    finding = find(root, "servo and motor", PI)
    assert finding.state == "bad"
    assert "do_i2c" in finding.advice


def test_a_camera_on_the_ribbon_cable_needs_its_program_and_its_memory(
    root: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ribbon = replace(PI, devices=Options(left_camera="csi:0"))
    monkeypatch.setenv("PATH", str(tools))
    finding = find(root, "cameras", ribbon)
    assert (finding.state, finding.advice) == ("bad", "sudo apt-get install rpicam-apps")
    assert "rpicam-vid" in finding.sentence
    for name in ("libcamera-vid", "rpicam-vid"):
        program(tools / name, "exit 1")  # it is not run
        assert find(root, "cameras", ribbon).state == "ok"
    for node in ("dma_heap/linux,cma", "media0"):
        write(root / "dev" / node).chmod(0o400)
        finding = find(root, "cameras", ribbon)
        assert (finding.state, Path(node).name in finding.sentence) == ("bad", True)
        (root / "dev" / node).chmod(0o600)
    assert find(root, "cameras", replace(PI, devices=Options(right_camera="csi:1"))).state == "ok"


def test_devices_that_the_settings_name_are_looked_at_there(root: Path, tools: Path) -> None:
    named = replace(PI, devices=Options(left_camera="csi:0", lidar="/dev/ttyAMA0", gauge="ina219"))
    program(tools / "rpicam-vid", "exit 1")
    assert "ribbon" in find(root, "cameras", named).sentence
    assert find(root, "LiDAR", named).state == "bad"
    write(root / "dev/ttyAMA0")
    assert find(root, "LiDAR", named).state == "ok"
    assert find(root, "battery gauge", named).state == "ok"
    (root / "dev/i2c-1").chmod(0o400)
    assert find(root, "battery gauge", named).state == "bad"
    assert find(root, "battery gauge", replace(DEEPRACER, devices=Options(gauge="none"))).state == "absent"


def test_what_the_running_daemon_told_systemd_is_told_where_it_belongs(root: Path, tools: Path) -> None:
    faults = {
        "camera": "The camera is not found; plug it in.",
        "camera 2": "The second camera sends no picture; check its plug.",
        "LiDAR": "The LiDAR sends no turn; check its plug.",
        "flux": "The flux capacitor is empty.",
    }
    systemd(tools, RUNNING, status=status_line("Stands; no model", faults))
    found = {finding.what: finding for finding in examine(DEEPRACER, root)}
    assert found["cameras"].state == "bad"
    assert found["cameras"].sentence == "The camera is not found. The second camera sends no picture."
    assert found["cameras"].advice == "Plug it in. Check its plug."
    assert found["LiDAR"] == Finding("LiDAR", "bad", "The LiDAR sends no turn.", "Check its plug.")
    assert found["daemon"].state == "warn"
    assert found["daemon"].sentence == "The flux capacitor is empty."
    well = {what for what, finding in found.items() if finding.state == "ok"}
    assert set(doctor.CHECKS) - well == {"cameras", "LiDAR", "daemon"}


def test_a_running_daemon_without_faults_says_what_it_does(root: Path, tools: Path) -> None:
    systemd(tools, RUNNING, status=status_line("Drives; model Swift", {}))
    assert find(root, "daemon").sentence == "It runs: Drives; model Swift."
    assert find(root, "cameras").state == "ok"


def test_what_a_daemon_told_that_runs_no_more_counts_no_more(root: Path, tools: Path) -> None:
    systemd(tools, STOPPED, status=status_line("Stands; no model", {"LiDAR": "The LiDAR sends no turn."}))
    assert find(root, "LiDAR").state == "ok"


@pytest.mark.parametrize("device", doctor.FAULTS)
def test_a_fault_that_the_daemon_itself_brings_is_told_at_its_line(root: Path, device: str) -> None:
    what, state = doctor.FAULTS[device]
    assert what in doctor.CHECKS
    finding = find(root, what, faults={device: "It does not work; kick it."})
    assert finding == Finding(what, state, "It does not work.", "Kick it.")


def test_a_fault_stands_behind_what_was_found_wrong_itself(root: Path) -> None:
    (root / "dev/video0").chmod(0o400)
    finding = find(root, "cameras", faults={"camera": "The camera is not found; plug it in."})
    assert finding.sentence == "video0 is forbidden to the user hotlap. The camera is not found."
    assert finding.advice == "Run scripts/install-car again."


def test_a_sentence_is_parted_only_where_it_says_what_to_do() -> None:
    assert parted("The servo does not obey; check its plug.") == ("The servo does not obey.", "Check its plug.")
    assert parted("It is lost.") == ("It is lost.", "")
    assert parted("One is bad; do this. Two is bad; do that.") == ("One is bad; do this. Two is bad; do that.", "")


def test_while_no_daemon_runs_the_pwm_chip_of_a_pi_is_asked(root: Path, tools: Path) -> None:
    (root / "sys/class/pwm/pwmchip3").unlink()
    chip = Pca9685Model()
    before = dict(chip.registers)
    wire = Wire({0x40: chip})
    assert find(root, "servo and motor", PI, bus=lambda path: wire.open()).state == "ok"
    assert wire.transfers == 0  # the daemon runs
    systemd(tools, STOPPED)
    assert "answers" in find(root, "servo and motor", PI, bus=lambda path: wire.open()).sentence
    assert chip.registers == before
    wire.devices.clear()
    finding = find(root, "servo and motor", PI, bus=lambda path: wire.open())
    assert (finding.state, finding.advice) == ("bad", "Check its plug, its address and its power.")
    assert "PWM chip" in finding.sentence


@pytest.mark.parametrize(
    ("byte", "state", "words"),
    [
        (0xEC, "ok", "at 100%"),
        (0xC0, "warn", "at 18%"),
        (0x00, "bad", "No drive battery"),
        (0xFF, "bad", "nobody speaks"),
    ],
)
def test_while_no_daemon_runs_the_gauge_is_asked(root: Path, tools: Path, byte: int, state: str, words: str) -> None:
    wire = Wire({0x3F: Bytes({0x03: byte})})
    assert find(root, "battery gauge", bus=lambda path: wire.open()).state == "ok"
    assert wire.transfers == 0  # the daemon runs
    systemd(tools, STOPPED)
    finding = find(root, "battery gauge", bus=lambda path: wire.open())
    assert (finding.state, words in finding.sentence) == (state, True)


def test_a_gauge_that_is_not_there_is_told(root: Path, tools: Path) -> None:
    systemd(tools, STOPPED)
    for settings in (DEEPRACER, replace(PI, devices=Options(gauge="ina219"))):
        finding = find(root, "battery gauge", settings, bus=lambda path: Wire({}).open())
        assert (finding.state, finding.advice) == ("bad", "Check its plug, its address and its power.")


def test_while_no_daemon_runs_a_camera_is_asked_whether_it_is_one(root: Path, tools: Path) -> None:
    def mute(node: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error", str(node))

    assert find(root, "cameras", query=mute).state == "ok"  # the daemon runs
    systemd(tools, STOPPED)
    assert find(root, "cameras").state == "ok"
    finding = find(root, "cameras", query=mute)
    assert (finding.state, finding.sentence) == ("bad", "video0 does not answer as a camera does.")


def test_each_camera_that_the_settings_name_must_be_there(root: Path) -> None:
    here, gone = "/dev/video0", "/dev/v4l/by-path/gone"
    for left, right, missing in ((here, "", 0), (gone, "", 1), (here, gone, 1), (gone, f"{gone}-too", 2)):
        named = replace(DEEPRACER, devices=Options(left_camera=left, right_camera=right))
        finding = find(root, "cameras", named)
        assert finding.sentence.count("is not found at") == missing
        assert (finding.state, finding.advice) == (("bad", "Plug it in.") if missing else ("ok", ""))
    mixed = replace(PI, devices=Options(left_camera="csi:0", right_camera=gone))
    assert "The right camera is not found at" in find(root, "cameras", mixed).sentence


def test_a_camera_that_is_named_need_not_be_on_usb(root: Path) -> None:
    place = root / "sys/devices/platform/vivid.0"
    write(place / "video4linux/video7/index", "0")
    link(place / "video4linux/video7/device", "../..")
    link(root / "sys/class/video4linux/video7", str(place / "video4linux/video7"))
    write(root / "dev/video7")
    spoil(root, root, "no camera")
    named = replace(PI, devices=Options(left_camera="/dev/video7"))
    assert find(root, "cameras", named).sentence == "1 found: video7."
    (root / "dev/video7").chmod(0o400)
    assert find(root, "cameras", named).sentence == "video7 is forbidden to the user hotlap."


def test_the_stock_camera_without_its_firmware_is_told_from_none(root: Path) -> None:
    camera = root / "sys/devices/pci0000:00/0000:00:15.0/usb1/1-3"
    write(camera / "idVendor", "29fe\n")
    write(camera / "idProduct", "4d53\n")
    link(root / "sys/bus/usb/devices/1-3", str(camera))
    assert find(root, "cameras").state == "ok"
    spoil(root, root, "no camera")
    for faults in (None, {"camera": "The camera is not found; plug it in."}):
        finding = find(root, "cameras", faults=faults)
        assert finding.state == "bad"
        assert "29fe:4d53" in finding.sentence
        assert "mxcam boot" in finding.advice
        assert "Plug it in" not in finding.advice


def test_ntfs_may_be_a_programs(root: Path) -> None:
    write(root / "lib/modules/6.1.0/modules.dep", "kernel/fs/exfat/exfat.ko:\n")
    assert "NTFS" in find(root, "USB drives").sentence
    assert find(root, "USB drives").state == "warn"
    write(root / "sbin/mount.ntfs-3g")
    assert find(root, "USB drives").state == "ok"


def test_what_only_root_may_look_at_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)  # not pytest's own folder, which nobody else may enter
        monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
        systemd(place, RUNNING)
        write(place / "etc/passwd", f"hotlap:x:{ME or 65534}:{MINE}::/var/lib/hotlap:/bin/false\n")
        write(place / "etc/group")
        (place / "run/systemd/system").mkdir(parents=True)
        rules = place / "etc/polkit-1/rules.d"
        rules.mkdir(parents=True)
        for said, state in (("echo 's \"yes\"'", "ok"), ("echo 's \"challenge\"'", "bad"), ("exit 1", "warn")):
            program(place / "busctl", said)
            with without_permission(place, rules):
                finding = find(place, "permissions")
                assert finding.state == state, finding
        modules = place / "lib/modules"
        write(modules / "6.1.0/modules.dep")
        write(place / "proc/sys/kernel/osrelease", "6.1.0\n")
        with without_permission(place, modules):
            finding = find(place, "USB drives")
        assert (finding.state, "only root may see" in finding.sentence) == ("ok", True)


def test_a_gpu_must_be_within_reach(root: Path) -> None:
    settings = replace(DEEPRACER, inference=Inference("GPU"))
    assert find(root, "OpenVINO", settings).state == "bad"
    write(root / "dev/dri/renderD128")
    assert find(root, "OpenVINO", settings).state == "ok"


def test_another_rig_has_no_devices_to_look_at(root: Path) -> None:
    finding = find(root, "cameras", Settings(car=Car(rig="sim_stub.rig:open_rig")))
    assert finding.state == "absent"


def test_a_look_that_hangs_is_given_up_and_the_others_are_told(root: Path) -> None:
    (root / "proc/net/tcp").unlink()
    os.mkfifo(root / "proc/net/tcp")
    begun = time.monotonic()
    findings = examine(DEEPRACER, root)
    assert time.monotonic() - begun < 3 * PATIENCE
    hung = [finding for finding in findings if finding.state != "ok"]
    assert [finding.what for finding in hung] == ["console"]
    assert "did not answer" in hung[0].sentence
    (root / "proc/net/tcp").open("w").close()  # lets the thread that waits end


def test_the_text_has_a_line_for_each_and_the_advice_below(root: Path, tools: Path) -> None:
    spoil(root, tools, "failed")
    lines = as_text(examine(DEEPRACER, root)).splitlines()
    at = next(number for number, line in enumerate(lines) if " daemon: " in line)
    assert lines[at].startswith("bad     daemon: It does not run")
    assert lines[at + 1] == "        -> systemctl restart hotlap-car; journalctl -u hotlap-car"


def test_the_json_holds_the_same(root: Path) -> None:
    findings = examine(DEEPRACER, root)
    assert [Finding(**item) for item in json.loads(as_json(findings))] == findings


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_the_systems_files_hold_the_doctor_ends(passwd: bytes, tcp: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in (("etc/passwd", passwd), ("etc/group", passwd), ("proc/net/tcp", b"\n" + tcp)):
            write(root / name).write_bytes(text)
        assert len(examine(DEEPRACER, root)) == len(doctor.CHECKS)
