"""What the doctor finds on a car whose /sys, /dev, /proc and /etc are a temporary folder."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from drivers.rig import Options
from vehicle import doctor
from vehicle.doctor import PATIENCE, Finding, as_json, as_text, examine, sound
from vehicle.settings import Car, Console, Inference, Settings, SettingsError

ME, MINE = os.getuid(), os.getgid()
DEEPRACER = Settings(car=Car(rig="drivers.deepracer:open_rig"), console=Console(port=443))
PI = replace(DEEPRACER, car=Car(rig="drivers.raspberry_pi:open_rig"))
RUNNING = {"hotlap-car": "active", "NetworkManager": "active", "deepracer-core": "inactive", "nginx": "inactive"}
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


def systemd(tools: Path, units: dict[str, str], rtprio: str = "50", memlock: str = "infinity") -> None:
    """A systemctl that knows these units, before all others."""
    blocks = [
        f"Id={name}.service\nActiveState={state}\nResult=success\nLimitRTPRIO={rtprio}\nLimitMEMLOCK={memlock}\n"
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
    write(root / "etc/passwd", f"root:x:0:0:root:/root:/bin/sh\nhotlap:x:{ME}:{MINE}::/var/lib/hotlap:/bin/false\n")
    groups = "".join(f"{name}:x:{number}:hotlap\n" for number, name in enumerate(doctor.GROUPS, 5000))
    write(root / "etc/group", f"root:x:0:\n{groups}")
    (root / "var/lib/hotlap").mkdir(parents=True)
    (root / "var/lib/hotlap").chmod(0o700)
    (root / "var/lib/hotlap/certificate.pem").write_bytes(certificate(datetime.now(UTC) + timedelta(days=100)))
    (root / "run/systemd/system").mkdir(parents=True)
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


def find(root: Path, what: str, settings: Settings | SettingsError = DEEPRACER) -> Finding:
    return next(finding for finding in examine(settings, root) if finding.what == what)


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
        assert [finding.what for finding in findings] == list(doctor.LOOKS)
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
            (state / "certificate.pem").unlink()
            state.rmdir()
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
            systemd(tools, RUNNING | {"hotlap-car": "inactive"})
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
        ("no chip", "servo and motor", "bad", "There is no PWM chip."),
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


def test_devices_that_the_settings_name_are_looked_at_there(root: Path) -> None:
    named = replace(PI, devices=Options(left_camera="csi:0", lidar="/dev/ttyAMA0", gauge="ina219"))
    assert "ribbon" in find(root, "cameras", named).sentence
    assert find(root, "LiDAR", named).state == "bad"
    write(root / "dev/ttyAMA0")
    assert find(root, "LiDAR", named).state == "ok"
    assert find(root, "battery gauge", named).state == "ok"
    (root / "dev/i2c-1").chmod(0o400)
    assert find(root, "battery gauge", named).state == "bad"
    assert find(root, "battery gauge", replace(DEEPRACER, devices=Options(gauge="none"))).state == "absent"


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


@effort(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_the_systems_files_hold_the_doctor_ends(passwd: bytes, tcp: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in (("etc/passwd", passwd), ("etc/group", passwd), ("proc/net/tcp", b"\n" + tcp)):
            write(root / name).write_bytes(text)
        assert len(examine(DEEPRACER, root)) == len(doctor.LOOKS)
