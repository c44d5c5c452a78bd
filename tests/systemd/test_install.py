"""scripts/install-car in a staged root: a DeepRacer or a Raspberry Pi whose disk is a temporary folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tarfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calibration import store as calibration_store
from calibration.calibration import DEFAULT
from drivers.disk import claim
from vehicle import stock_car, tail
from vehicle.models import ModelStore
from vehicle.settings import Car, Console, load
from webui import certificate, mdns
from webui.auth import Password

HOME = Path(__file__).parents[2]
SAMPLE = HOME / "vehicle" / "sample.tar.gz"
DEEPRACER, PI = "deepracer", "raspberry-pi"
SYSTEMS = {"debian": "12", "ubuntu": "24.04"}
TRIMMED = """{"Calibration": {"Motor": {"max": 1603500, "mid": 1446000, "min": 1311000, "polarity": -1},
"Servo": {"max": 1690000, "mid": 1450000, "min": 1210000, "polarity": 1}, "version": 1}}"""

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("systemctl", "systemd-sysusers", "systemd-tmpfiles")) or os.geteuid() != 0,
    reason="a staged root needs systemd's tools and root",
)


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def machine(root: Path, kind: str, system: str = "ubuntu", version: str = "24.04") -> Path:
    """A disk of such a car, with the system freshly on it."""
    write(root / "etc/os-release", f'NAME="A system"\nID={system}\nVERSION_ID="{version}"\n')
    write(root / "etc/hostname", "localhost\n")
    if kind == DEEPRACER:
        write(root / "sys/class/dmi/id/chassis_serial", "AMSS-42IM\n")
        (root / "sys/bus/pci/devices/0000:00:17.0").mkdir(parents=True)
    if kind == PI:
        write(root / "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
        write(root / "boot/firmware/config.txt", "arm_64bit=1\n[cm5]\ndtoverlay=dwc2\n")
    return root


def stock(root: Path) -> Path:
    """What a stock car has on its disk besides."""
    home = root / "opt/aws/deepracer"
    write(home / "calibration.json", TRIMMED)
    tail.save(home / "led_values.json", (255, 0, 0))
    good, bad = home / "artifacts/Sample_single_cam", home / "artifacts/Broken"
    for folder in (good, bad):
        folder.mkdir(parents=True)
    with tarfile.open(SAMPLE) as archive:
        for name in ("agent/model.pb", "model_metadata.json"):
            file = archive.extractfile(name)
            assert file is not None
            (good / Path(name).name).write_bytes(file.read())
    write(good / "checksum.txt", "0123\n")
    write(bad / "model.pb", "no graph")
    write(bad / "model_metadata.json", "{}")
    (home / "artifacts/elsewhere").symlink_to("/etc")
    write(root / "etc/hostname", "ubuntu\n")
    for name in ("deepracer-core", "nginx"):
        write(
            root / f"etc/systemd/system/{name}.service",
            "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
        )
        subprocess.run(("systemctl", f"--root={root}", "enable", f"{name}.service"), check=True, capture_output=True)
    return root


def install(root: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = (HOME / "scripts/install-car", *options, *(() if "DESTDIR" in environment else ("--root", str(root))))
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=50, env=os.environ | environment
    )


def installed(root: Path, *options: str) -> list[str]:
    done = install(root, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def everything(root: Path) -> dict[str, bytes]:
    """Every file and link below, with what it holds."""
    return {
        str(path.relative_to(root)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def wanted(root: Path) -> set[str]:
    return {link.name for link in (root / "etc/systemd/system/multi-user.target.wants").glob("*")}


def people(root: Path, *names: str) -> None:
    """Accounts that were on the machine before."""
    lines = ["root:x:0:0::/root:/bin/bash", *(f"{name}:x:{1000 + k}:100::/:/bin/bash" for k, name in enumerate(names))]
    write(root / "etc/passwd", "".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("kind", [DEEPRACER, PI])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_fresh_car_gets_all_that_the_daemon_needs(tmp_path: Path, kind: str, system: str) -> None:
    root = machine(tmp_path, kind, system, SYSTEMS[system])
    steps = installed(root)
    there = everything(root)
    for name in ("car", "agent", "usb", "usb-names", "ssh@", "ssh-password@"):
        assert f"etc/systemd/system/hotlap-{name}.service" in there
    for name in ("sysusers.d", "tmpfiles.d", "modules-load.d", "systemd/journald.conf.d"):
        assert f"etc/{name}/hotlap.conf" in there
    assert {"etc/udev/rules.d/72-hotlap.rules", "etc/polkit-1/rules.d/40-hotlap.rules"} <= set(there)
    assert not [name for name in there if name.endswith(".pkla")]
    for name in ("usb-console", "ssh-password"):
        assert os.access(root / "opt/hotlap/bin" / name, os.X_OK)
    assert wanted(root) == {"hotlap-car.service", "hotlap-agent.service"}
    assert (root / "etc/systemd/system/sockets.target.wants/hotlap-ssh-password.socket").is_symlink()
    rig = f"drivers.{kind.replace('-', '_')}:open_rig"
    settings = load(root / "etc/hotlap/hotlap.toml")
    assert (settings.car, settings.console) == (Car(rig), Console("0.0.0.0", 443, 80, 200))
    assert (root / "var/lib/hotlap").stat().st_mode & 0o777 == 0o700
    assert any("--require-hashes" in step for step in steps)
    link = "/usr/lib/python3/dist-packages/systemd /opt/hotlap/venv/lib/python3/site-packages/systemd"
    assert f"- ln -sfn {link}" in steps


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    root = stock(machine(tmp_path, DEEPRACER))
    installed(root)
    before = everything(root)
    steps = installed(root)
    assert everything(root) == before
    assert not [step for step in steps if step.startswith("+ install ")]


def test_settings_are_never_overwritten_and_files_of_ours_are_renewed(tmp_path: Path) -> None:
    root = machine(tmp_path, PI)
    write(root / "etc/hotlap/hotlap.toml", "# mine\n")
    write(root / "etc/systemd/system/hotlap-car.service", "# of an older hotlap\n")
    installed(root)
    assert (root / "etc/hotlap/hotlap.toml").read_text() == "# mine\n"
    unit = (root / "etc/systemd/system/hotlap-car.service").read_text()
    assert unit == (HOME / "systemd/hotlap-car.service").read_text()


def test_a_dry_run_tells_each_step_and_takes_none(tmp_path: Path) -> None:
    root = stock(machine(tmp_path, DEEPRACER))
    before = everything(root)
    steps = installed(root, "--dry-run")
    assert everything(root) == before
    said = "\n".join(steps)
    for word in (
        "apt-get install",
        "hotlap-car.service",
        "systemd-sysusers",
        "pip",
        "hotlap.toml",
        "deepracer-core",
        "amss-42im",
    ):
        assert word in said
    assert installed(root) != []
    assert len(everything(root)) > len(before)


def test_a_dry_run_without_another_root_leaves_this_machine_alone() -> None:
    done = subprocess.run(
        (HOME / "scripts/install-car", "--dry-run", "--car", DEEPRACER),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if "not supported" in done.stderr:
        pytest.skip("this system is none that a car has")
    assert done.returncode == 0, done.stderr
    assert "+ systemctl enable hotlap-car.service" in done.stdout
    assert not Path("/opt/hotlap").exists()
    assert not Path("/etc/systemd/system/hotlap-car.service").exists()


def test_destdir_names_the_root_too(tmp_path: Path) -> None:
    root = machine(tmp_path, PI)
    assert install(root, DESTDIR=str(root)).returncode == 0
    assert (root / "etc/hotlap/hotlap.toml").is_file()


def test_on_the_ubuntu_of_2022_there_is_the_other_polkit_and_the_other_python(tmp_path: Path) -> None:
    steps = installed(machine(tmp_path, DEEPRACER, version="22.04"))
    assert (tmp_path / "etc/polkit-1/localauthority/50-local.d/hotlap.pkla").is_file()
    assert any("python3.11-venv" in step for step in steps)


@pytest.mark.parametrize(
    ("system", "version", "options", "words"),
    [
        ("ubuntu", "20.04", (), "put Ubuntu 24.04 on the car first"),
        ("ubuntu", "16.04", (), "put Ubuntu 24.04 on the car first"),
        ("fedora", "40", (), "fedora 40 is not supported"),
        ("debian", "12", ("--car", "tank"), "there is no car tank"),
        ("debian", "12", (), "say which with --car"),
        ("debian", "12", ("--colour",), "usage: "),
    ],
)
def test_what_cannot_be_installed_on_is_left_alone_with_a_sentence(
    tmp_path: Path, system: str, version: str, options: tuple[str, ...], words: str
) -> None:
    machine(tmp_path, "laptop", system, version)
    before = everything(tmp_path)
    done = install(tmp_path, *options)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("processor", "words"), [("armv7l", "put the 64-bit Raspberry Pi OS on the card"), ("riscv64", "of type riscv64")]
)
def test_a_processor_without_packages_is_refused(tmp_path: Path, processor: str, words: str) -> None:
    tools = tmp_path / "tools"
    write(tools / "uname", f"#!/bin/sh\necho {processor}\n")
    (tools / "uname").chmod(0o755)
    done = install(machine(tmp_path / "root", PI), PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert words in done.stderr


def test_a_pis_bus_is_switched_on_once_outside_every_section(tmp_path: Path) -> None:
    root = machine(tmp_path, PI)
    installed(root)
    assert any("reboot" in step for step in installed(machine(tmp_path, PI)))
    installed(root)
    config = (root / "boot/firmware/config.txt").read_text()
    assert config.count("dtparam=i2c_arm=on") == 1
    assert config.index("[cm5]") < config.index("[all]") < config.index("dtparam=i2c_arm=on")


# What the stock car remembers ----------------------------------------------------------------------------------------


def test_calibration_colour_models_and_name_are_brought_over(tmp_path: Path) -> None:
    root = stock(machine(tmp_path, DEEPRACER))
    said = "\n".join(installed(root))
    state = root / "var/lib/hotlap"
    assert calibration_store.load(state / "calibration.json").calibration == calibration_store.parse(TRIMMED.encode())
    assert tail.load(state / "led_values.json") == (255, 0, 0)
    assert ModelStore(state).names() == ["Sample_single_cam"]
    assert "The model Broken is left out" in said
    assert (root / "etc/hostname").read_text() == "amss-42im\n"


def test_the_stock_software_is_disabled_and_not_deleted(tmp_path: Path) -> None:
    root = stock(machine(tmp_path, DEEPRACER))
    before = everything(root / "opt/aws")
    installed(root)
    assert wanted(root) == {"hotlap-car.service", "hotlap-agent.service"}
    assert (root / "etc/systemd/system/deepracer-core.service").is_file()
    assert everything(root / "opt/aws") == before


def test_what_the_car_has_of_its_own_is_not_replaced(tmp_path: Path) -> None:
    root = stock(machine(tmp_path, DEEPRACER))
    state = root / "var/lib/hotlap"
    state.mkdir(parents=True)
    calibration_store.save(state / "calibration.json", DEFAULT)
    tail.save(state / "led_values.json", (0, 255, 0))
    installed(root)
    assert calibration_store.load(state / "calibration.json").calibration == DEFAULT
    assert tail.load(state / "led_values.json") == (0, 255, 0)


def test_a_model_that_was_removed_since_does_not_come_back(tmp_path: Path) -> None:
    root = stock(machine(tmp_path / "root", DEEPRACER))
    state = root / "var/lib/hotlap"
    installed(root)
    asyncio.run(ModelStore(state).remove("Sample_single_cam"))
    installed(root)
    assert ModelStore(state).names() == []


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"Calibration": {"Servo": 1, "Motor": 2}}', TRIMMED.replace("1450000", "9")]
)
def test_a_calibration_of_no_use_is_told_and_left_out(tmp_path: Path, text: str) -> None:
    write(tmp_path / "stock/calibration.json", text)
    (said,) = asyncio.run(stock_car.bring_over(tmp_path / "stock", tmp_path / "state"))
    assert "of no use" in said
    assert not (tmp_path / "state/calibration.json").exists()


def test_nothing_is_brought_over_while_the_daemon_has_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stock").mkdir()
    with claim(tmp_path / "state"):
        assert stock_car.main([str(tmp_path / "stock"), str(tmp_path / "state")]) == 1
    assert "in use by another process" in capsys.readouterr().err
    assert stock_car.main([str(tmp_path / "stock"), str(tmp_path / "state")]) == 0


# Off again -----------------------------------------------------------------------------------------------------------


def test_uninstalling_leaves_what_was_there_before_and_what_the_car_remembers(tmp_path: Path) -> None:
    root = stock(machine(tmp_path, DEEPRACER))
    before = everything(root)
    installed(root)
    installed(root, "--uninstall")
    after = everything(root)
    kept = {name for name in after.keys() - before.keys() if not name.startswith(("etc/hotlap/", "var/lib/hotlap/"))}
    assert kept <= {"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/.pwd.lock"}
    assert "var/lib/hotlap/calibration.json" in after
    assert {name: data for name, data in after.items() if name in before and name != "etc/hostname"} == {
        name: data for name, data in before.items() if name != "etc/hostname"
    }
    assert wanted(root) == {"deepracer-core.service", "nginx.service"}
    installed(root, "--uninstall")
    assert everything(root) == after


# Whose password SSH has ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accounts", "sudo", "account"),
    [
        (("ubuntu", "deepracer"), "ubuntu", "deepracer"),
        (("deeprac", "deepracer2", "anna"), "anna", "anna"),
        (("anna",), "root", None),
        (("anna",), "gone", None),
        (("anna",), "", None),
    ],
)
def test_the_account_of_ssh_is_the_stock_cars_or_who_installs(
    tmp_path: Path, accounts: tuple[str, ...], sudo: str, account: str | None
) -> None:
    root = machine(tmp_path, DEEPRACER)
    people(root, *accounts)
    done = install(root, SUDO_USER=sudo)
    assert done.returncode == 0, done.stdout + done.stderr
    named = root / "etc/hotlap/ssh-account"
    if account is None:
        assert not named.exists()
        assert "once /etc/hotlap/ssh-account holds the name" in done.stdout
        return
    assert named.read_text() == f"{account}\n"
    assert named.stat().st_mode & 0o777 == 0o644
    named.write_text("ben\n")
    install(root, SUDO_USER=sudo)
    assert named.read_text() == "ben\n"


# Secrets -------------------------------------------------------------------------------------------------------------


def test_two_installs_share_no_secret(tmp_path: Path) -> None:
    cars = []
    for name in ("one", "other"):
        root = stock(machine(tmp_path / name, DEEPRACER))
        installed(root)
        state = root / "var/lib/hotlap"
        assert not [path for path, data in everything(root).items() if b"PRIVATE KEY" in data]
        assert not (state / "password.json").exists()
        own = set(everything(state))
        # At the installer's end, and at the daemon's first start.
        _, told = Password.first(state / "password.json")
        assert told is not None
        certificate.ensure(state, mdns.names(state, "car"), (), datetime.now(UTC))
        cars.append(
            {path: data for path, data in everything(state).items() if path not in own} | {"told": told.encode()}
        )
    one, other = cars
    assert one.keys() == other.keys() == {"password.json", "certificate.pem", "mdns_name", "told"}
    assert [name for name in one if one[name] == other[name]] == []


def test_the_first_password_is_made_at_the_end_for_who_sits_there(tmp_path: Path) -> None:
    steps = installed(machine(tmp_path, PI))
    assert "- /opt/hotlap/venv/bin/hotlap-car first-password" in steps[-3:]
    text = (HOME / "scripts/install-car").read_text()
    assert "|| -t 1 ]]; then\n        machine" in text, "and nowhere else: the rest may be a file"


def test_the_written_settings_hold_no_secret(tmp_path: Path) -> None:
    root = machine(tmp_path, PI)
    installed(root)
    tables = tomllib.loads((root / "etc/hotlap/hotlap.toml").read_text())
    assert tables == {
        "car": {"rig": "drivers.raspberry_pi:open_rig"},
        "console": {"host": "0.0.0.0", "port": 443, "redirect": 80},
    }
