"""What the whole car does: no part of it is a fake, but its hardware. Ask for these tests with --machine."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import pytest

from tests.machine.machine import DRAWER, OFF, REST, THROTTLE, Machine, MachineError

pytestmark = pytest.mark.timeout(900)

KEY: Final = "canary-password"
WRONG: Final = "right-password"
SSH_PASSWORD: Final = "seven blue teapots"
HOME: Final = "Clubhouse-wpa2"
CREDS: Final = f"ssid: {HOME}\npassword: {KEY}\n"
SAMPLE: Final = "/root/hotlap/vehicle/sample.tar.gz"
VISIT: Final = "/opt/hotlap/venv/bin/python -I /usr/local/lib/visitor.py"
PAGE: Final = "busybox wget -q -O - --no-check-certificate"
MKFS: Final = {
    "FAT32": "mkfs.vfat -F 32 -n RACE",
    "exFAT": "mkfs.exfat -L RACE",
    "NTFS": "mkfs.ntfs -q -Q -F -L RACE",
    "ext4": "mkfs.ext4 -q -F -L RACE",
}
Ask: TypeAlias = Callable[..., list[Any]]


def fill(machine: Machine, system: str, *scripts: str, creds: str | None = None) -> None:
    """Format the stick, which is in the drawer, and write on it; `scripts` run in its root."""
    kind = "-t ntfs-3g" if system == "NTFS" else ""
    machine.run(f"umount /mnt 2>/dev/null || true; {MKFS[system]} {DRAWER}; mount {kind} {DRAWER} /mnt")
    if creds is not None:
        machine.run("cat >/mnt/wifi-creds.txt", creds.encode())
    machine.run("\n".join(("cd /mnt", *scripts, "cd /", "umount /mnt", f"blockdev --flushbufs {DRAWER}")))


def content(machine: Machine, name: str) -> str:
    """What a file on the stick holds, which is in the drawer again."""
    return machine.run(
        f"""blockdev --flushbufs {DRAWER}
        mount -o ro -t "$(blkid -p -s TYPE -o value {DRAWER} | sed s/^ntfs$/ntfs-3g/)" {DRAWER} /mnt
        trap 'cd /; umount /mnt' EXIT
        cat /mnt/{name}"""
    )


def bring(machine: Machine) -> None:
    """Plug the stick in, wait until the car has done with it, pull it out."""
    count = "journalctl -u hotlap-car | grep -c 'USB drive RACE: ' || true"
    before = int(machine.run(count))
    with machine.plugged():
        machine.until(f"[[ $({count}) -gt {before} ]]", 240)
    machine.until("[[ ! -e /dev/sda ]]")


def joined(machine: Machine) -> str:
    """The name of the network that the car is in."""
    return machine.run("nmcli -g GENERAL.CONNECTION device show wlan0").strip()


def forget(machine: Machine) -> None:
    machine.run(f"nmcli connection delete {joined(machine)}")


@pytest.fixture(autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--machine"):
        pytest.skip("it takes ten minutes: ask for it with --machine")


@pytest.fixture
def ask(machine: Machine, password: str) -> Ask:
    """Visits the console: each request is method, path, body; gives what it answers. Fails where it refuses."""

    def visit(*requests: tuple[Any, ...]) -> list[Any]:
        said = machine.run(f"{VISIT} {shlex.quote(password)}", "\n".join(map(json.dumps, requests)).encode())
        answers = [json.loads(line) for line in said.splitlines()]
        for request, (status, body) in zip(requests, answers, strict=True):
            assert status in (200, 201), (request, body)
        return [body for _, body in answers]

    return visit


NETWORKS: Final = (
    ("FAT32", "wpa2", f"\ufeffSSID: Clubhouse-wpa2\r\nPassword : {KEY}\r\n"),
    ("exFAT", "wpa3", f"ssid: 'Clubhouse-wpa3'\npassword: '{KEY}'\n"),
    ("NTFS", "open", "ssid: Clubhouse-open\npassword:\n"),
    ("ext4", "hidden", f"ssid: Clubhouse-hidden\npassword: {KEY}\nhidden: yes\n"),
)


@pytest.mark.parametrize(("system", "security", "creds"), NETWORKS, ids=[f"{s}, {w}" for s, w, _ in NETWORKS])
def test_a_stick_brings_it_into_the_network(machine: Machine, system: str, security: str, creds: str) -> None:
    machine.run(f"clubhouse {security}")
    fill(machine, system, "chmod 777 .", "chmod 666 *", creds=creds)
    bring(machine)
    report = content(machine, "device-status.txt")
    assert joined(machine) == f"Clubhouse-{security}", report
    address = machine.run("nmcli -g IP4.ADDRESS device show wlan0").split("/")[0]
    assert f"wlan0: {address}" in report
    assert content(machine, "wifi-creds.txt").encode().startswith(creds.encode().rstrip())
    assert address in content(machine, "wifi-creds.txt")
    assert "hotlap" in machine.run(f"ip netns exec clubhouse {PAGE} https://{address}/")
    forget(machine)


def test_a_wrong_password_is_told_and_networks_are_offered(machine: Machine) -> None:
    machine.run("clubhouse wpa2")
    fill(machine, "FAT32", creds=f"ssid: {HOME}\npassword: {WRONG}\n")
    bring(machine)
    assert joined(machine) == ""
    assert "password" in content(machine, "device-status.txt")
    assert HOME in content(machine, "wifi-creds.txt").split(WRONG)[1]


def test_a_stick_brings_models_and_a_bad_one_harms_none(machine: Machine, ask: Ask) -> None:
    bad = "head -c 99999 /dev/urandom >models/Bad.tar.gz"
    fill(machine, "exFAT", "mkdir models", f"cp {SAMPLE} models/Swift.tar.gz", bad)
    bring(machine)
    assert [model["name"] for model in ask(("GET", "/api/v1/models"))[0]] == ["Swift"]
    report = content(machine, "device-status.txt")
    assert "Swift" in report
    assert "Bad" in report


MOMENTS: Final = {
    "it is seen": "-k | grep -c 'Attached SCSI removable disk'",
    "it is mounted": "-u udisks2 | grep -c 'Mounted /dev/sda'",
    "a model is installed": "-u hotlap-car | grep -c 'Installed the model Late'",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_pulled_out_at_any_moment_nothing_is_lost(machine: Machine, moment: str) -> None:
    machine.run("clubhouse wpa2")
    process = machine.run("systemctl show -p MainPID hotlap-car")
    large = "head -c 30M /dev/zero >models/Large.tar.gz"  # it takes a while to be copied
    fill(machine, "FAT32", "mkdir models", f"cp {SAMPLE} models/Late.tar.gz", large, creds=CREDS)
    count = f"journalctl {MOMENTS[moment]} || true"
    before = int(machine.run(count))
    with machine.plugged():
        machine.until(f"[[ $({count}) -gt {before} ]]", 180)
    machine.until("[[ ! -e /dev/sda ]] && ! findmnt -S /dev/sda")
    assert content(machine, "wifi-creds.txt").startswith(CREDS)
    bring(machine)
    assert joined(machine) == HOME
    assert "Late" in content(machine, "device-status.txt")
    assert machine.run("systemctl show -p MainPID hotlap-car") == process
    forget(machine)


def test_a_driver_moves_it_and_one_who_is_gone_stops_it(machine: Machine, password: str) -> None:
    requests = (("POST", "/api/v1/mode", {"mode": "manual"}), ("POST", "/api/v1/start"), ("HOLD", 0.5, 0.5))
    machine.run("cat >/root/hand", "\n".join(map(json.dumps, requests)).encode())
    hand = "--property=StandardInput=file:/root/hand"
    machine.run(f"systemd-run --quiet --unit=driver {hand} {VISIT} {shlex.quote(password)}")
    registers = {channel: f"$(($(i2cget -y 1 0x40 {8 + 4 * channel})))" for channel in REST}
    moving = " && ".join(f"[[ {registers[channel]} -ne {REST[channel] & 0xFF} ]]" for channel in REST)
    machine.until(moving, 60)
    machine.run("systemctl kill --signal=KILL driver")
    machine.until(f"! {{ {moving}; }}", 10)
    assert machine.pulses() == pytest.approx(REST, abs=1)


def test_an_unplugged_camera_and_lidar_are_told_and_work_again(machine: Machine, ask: Ask) -> None:
    assert ask(("GET", "/api/v1/state"))[0]["rates"]["camera"] > 1
    machine.run("v4l2-ctl -d /dev/video0 --set-ctrl disconnect=1")
    machine.until("journalctl -u hotlap-car -n 20 | grep 'The camera'", 20)
    machine.run("for i in $(seq 100); do modprobe -r vivid && break; sleep 0.1; done; modprobe vivid")
    machine.until("journalctl -u hotlap-car -n 20 | grep -i 'camera works again'")


def test_a_computer_at_the_cable_finds_the_console(machine: Machine) -> None:
    """The other end of the cable is another network of the same machine."""
    machine.run("modprobe dummy_hcd is_high_speed=1 is_super_speed=0")
    address = "ip link show enx123456789020"
    machine.until(f"systemctl is-active hotlap-usb hotlap-usb-names && {address}")
    machine.run(
        """ip netns add laptop
        ip link set enx123456789020 netns laptop
        ip -n laptop link set enx123456789020 up
        printf '#!/bin/sh\\n[ "$1" != bound ] || ip address add $ip/30 dev $interface; env >/run/lease\\n' >/root/leased
        chmod +x /root/leased
        ip netns exec laptop busybox udhcpc -f -n -q -t 20 -i enx123456789020 -s /root/leased"""
    )
    assert "ip=10.0.1.2" in (lease := machine.run("cat /run/lease"))
    assert "router=" not in lease
    assert "10.0.1.1" in machine.run("ip netns exec laptop busybox nslookup deepracer.aws 10.0.1.1")
    assert "hotlap" in machine.run(f"ip netns exec laptop {PAGE} https://10.0.1.1/")


def test_what_the_console_asks_of_the_system_is_done_and_nothing_else(
    machine: Machine, ask: Ask, password: str
) -> None:
    ask(
        ("PUT", "/api/v1/host_name", {"name": "lightning"}),
        ("PUT", "/api/v1/time_zone", {"zone": "Pacific/Auckland"}),
        ("PUT", "/api/v1/ssh", {"enabled": True}),
    )
    assert machine.run("hostnamectl --static").strip() == "lightning"
    assert "Pacific/Auckland" in machine.run("timedatectl show")
    assert machine.run("systemctl is-active ssh").strip() == "active"
    ask(("PUT", "/api/v1/ssh", {"enabled": False}))
    machine.until("! systemctl is-active ssh")
    machine.run("useradd --create-home racer && echo racer >/etc/hotlap/ssh-account")
    assert machine.run("passwd --status racer").split()[1] == "L"
    ask(("PUT", "/api/v1/ssh/password", {"password": password, "new": SSH_PASSWORD}))
    assert machine.run("passwd --status racer").split()[1] == "P"
    for forbidden in (
        "systemctl stop NetworkManager",
        "systemctl start emergency.target",
        "timedatectl set-ntp false",
        "timedatectl set-time 2000-01-01",
        "nmcli general reload",
    ):
        assert machine.run(f"! runuser -u hotlap -- {forbidden} 2>&1")


def test_a_governor_that_hangs_leaves_the_wires_at_rest_and_the_car_comes_back(machine: Machine) -> None:
    process = machine.run("systemctl show -p MainPID hotlap-car").strip()
    machine.run("pkill -STOP -f [v]ehicle.governor")
    machine.until(f"[[ $(i2cget -y 1 0x40 9) == {OFF:#04x} ]]", 30)
    machine.until(f"[[ $(systemctl show -p MainPID hotlap-car) != {process} ]] && systemctl is-active hotlap-car")
    machine.until(f"[[ $(($(i2cget -y 1 0x40 8))) -eq {REST[THROTTLE] & 0xFF} ]]", 30)


def test_after_a_power_cut_and_after_a_restart_it_is_the_same_car(machine: Machine, ask: Ask) -> None:
    machine.run("clubhouse wpa2")
    fill(machine, "FAT32", "mkdir models", f"cp {SAMPLE} models/Cut.tar.gz", creds=CREDS)
    bring(machine)
    with machine.plugged():
        machine.until("find /var/lib/hotlap/incoming -name '*.tar.gz' | grep .")
        machine.cut_power()
    machine.until("systemctl is-active hotlap-car")
    assert "Swift" in [model["name"] for model in ask(("GET", "/api/v1/models"))[0]]
    assert machine.run("find /var/lib/hotlap/incoming -mindepth 1") == ""
    machine.run("clubhouse wpa2")
    machine.until(f"nmcli -g GENERAL.CONNECTION device show wlan0 | grep {HOME}", 120)
    boot = machine.run("cat /proc/sys/kernel/random/boot_id")
    with contextlib.suppress(MachineError):  # it may be gone before it has answered
        ask(("POST", "/api/v1/reboot"))
    machine.await_boot_after(boot)
    machine.until("systemctl is-active hotlap-car")
    assert machine.run("hostnamectl --static").strip() == "lightning"


def test_no_password_is_in_any_log(machine: Machine, password: str) -> None:
    secrets = " ".join(f"-e {shlex.quote(secret)}" for secret in (KEY, WRONG, SSH_PASSWORD, password))
    # What the driver's unit was started with is this test's own doing.
    machine.run(f"! journalctl --no-pager -o export -u hotlap-car -u NetworkManager -u udisks2 -k | grep -a {secrets}")
    machine.run(f"! grep -r {secrets} /var/log /var/lib/hotlap --exclude-dir=journal")


def test_it_is_installed_anew_and_taken_off(machine: Machine) -> None:
    before = machine.run("cat /etc/hotlap/hotlap.toml; ls /var/lib/hotlap")
    machine.run("/root/hotlap/scripts/install-car --car raspberry-pi", patience=600)
    machine.until("systemctl is-active hotlap-car")
    assert machine.run("cat /etc/hotlap/hotlap.toml; ls /var/lib/hotlap") == before
    machine.run("/root/hotlap/scripts/install-car --uninstall", patience=120)
    assert machine.run("i2cget -y 1 0x40 9").strip() == "0x10"
    assert machine.run("find / -xdev -path /root -prune -o -name '*hotlap*' -print").split() == [
        "/etc/hotlap",
        "/var/lib/hotlap",
    ]
