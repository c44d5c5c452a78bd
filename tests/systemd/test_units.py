"""What is handed to systemd, udev, polkit and the USB port, judged by their own tools where these are installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
SYSTEMD = HOME / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
SOCKETS = sorted(SYSTEMD.glob("*.socket"))
WORST = 3.0


def program(name: str) -> str:
    """Skips the test where it is not installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path, **options: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """A root with our files where the installer puts them, and the programs that the units start."""
    for source, target in (
        *((unit, f"etc/systemd/system/{unit.name}") for unit in (*UNITS, *SOCKETS)),
        (SYSTEMD / "sysusers.conf", "etc/sysusers.d/hotlap.conf"),
        (SYSTEMD / "tmpfiles.conf", "etc/tmpfiles.d/hotlap.conf"),
    ):
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / target)
    for name in re.findall(r"^Exec\w+=-?(\S+)", "\n".join(unit.read_text() for unit in UNITS), re.MULTILINE):
        (tmp_path / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name.lstrip("/")).touch(0o755)
    return tmp_path


# Units ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_exposed_as_little_as_it_may(unit: Path) -> None:
    said = run(program("systemd-analyze"), "security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None
    assert float(found[1]) <= WORST


@pytest.mark.parametrize("unit", [*UNITS, *SOCKETS], ids=lambda unit: unit.name)
def test_systemd_understands_every_line_of_a_unit(staged: Path, unit: Path) -> None:
    name = unit.name.replace("@.", "@enable.")
    command = (program("systemd-analyze"), f"--root={staged}", "--man=no", "verify", f"etc/systemd/system/{name}")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    foreign = re.compile(r"(not found|Failed to (add|load|find|create)|Cannot add dependency)")  # units of the system
    assert [
        line for line in done.stderr.splitlines() if unit.name.split(".")[0] in line and not foreign.search(line)
    ] == []
    assert "Unknown" not in done.stderr


def test_the_car_is_watched_and_released_by_the_light_command_first() -> None:
    unit = lines(SYSTEMD / "hotlap-car.service")
    assert [line for line in unit if line.startswith("ExecStopPost=")] == [
        "ExecStopPost=-/opt/hotlap/venv/bin/python -I -m drivers.pwm_sysfs release",
        "ExecStopPost=/opt/hotlap/venv/bin/hotlap-car release",
    ]
    wanted = {"Type=notify", "NotifyAccess=all", "WatchdogSec=1", "User=hotlap", "LimitRTPRIO=50", "LimitCORE=0"}
    assert wanted <= set(unit)


def test_nothing_that_the_wires_need_is_taken_away() -> None:
    unit = lines(SYSTEMD / "hotlap-car.service")
    for taken in (
        "ProtectKernelTunables",
        "PrivateDevices",
        "DevicePolicy",
        "RestrictRealtime",
        "MemoryDenyWriteExecute",
    ):
        assert not [line for line in unit if line.startswith(taken)]


def test_the_daemon_may_open_low_ports_and_no_more() -> None:
    unit = lines(SYSTEMD / "hotlap-car.service")
    assert [line for line in unit if "Capabilit" in line] == [
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
    ]


def test_a_new_password_of_ssh_is_taken_from_the_daemon_alone_and_by_as_little_as_sets_it() -> None:
    socket = lines(SYSTEMD / "hotlap-ssh-password.socket")
    assert {"SocketUser=hotlap", "SocketMode=0600", "Accept=yes", "MaxConnections=1"} <= set(socket)
    unit = lines(SYSTEMD / "hotlap-ssh-password@.service")
    assert {"StandardInput=socket", "StandardOutput=socket", "StandardError=journal", "LimitCORE=0"} <= set(unit)
    assert [line for line in unit if "Capabilit" in line or line.startswith("ReadWritePaths")] == [
        "CapabilityBoundingSet=CAP_CHOWN",
        "ReadWritePaths=/etc",
    ]


def test_the_agent_starts_only_where_it_has_settings_and_touches_no_device() -> None:
    unit = lines(SYSTEMD / "hotlap-agent.service")
    assert {"ConditionPathExists=/etc/hotlap/agent.toml", "User=hotlap", "PrivateDevices=true"} <= set(unit)


# User, folders, devices ----------------------------------------------------------------------------------------------


def test_user_groups_and_folder_come_into_being(staged: Path) -> None:
    run(program("systemd-sysusers"), f"--root={staged}", "hotlap.conf")
    users = {line.split(":")[0]: line.split(":") for line in (staged / "etc/passwd").read_text().splitlines()}
    assert users["hotlap"][6].endswith("nologin")
    groups = (staged / "etc/group").read_text()
    for name in ("gpio", "i2c", "video", "render", "dialout", "systemd-journal"):
        assert re.search(rf"^{name}:x:\d+:hotlap$", groups, re.MULTILINE)
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder away")
    run(program("systemd-tmpfiles"), f"--root={staged}", "--create", "hotlap.conf")
    stat = (staged / "var/lib/hotlap").stat()
    assert (stat.st_uid, stat.st_mode & 0o777) == (int(users["hotlap"][2]), 0o700)


def test_the_groups_of_the_rules_are_the_users() -> None:
    members = set(re.findall(r"^m hotlap (\S+)$", (SYSTEMD / "sysusers.conf").read_text(), re.MULTILINE))
    rules = (SYSTEMD / "udev.rules").read_text()
    used = set(re.findall(r'GROUP="(\w+)"', rules)) | set(re.findall(r"chgrp (?:-R )?(\w+)", rules))
    assert used == {"gpio", "i2c", "video", "dialout"}
    assert used <= members


def test_the_group_video_has_all_that_a_camera_on_the_ribbon_cable_needs() -> None:
    rules = lines(SYSTEMD / "udev.rules")
    for subsystem in ("video4linux", "media", "dma_heap"):
        assert f'SUBSYSTEM=="{subsystem}", GROUP="video", MODE="0660"' in rules


def test_every_udev_rule_is_well_formed() -> None:
    term = r'[A-Z_]+(?:\{[^}]+\})?(?:==|!=|=|\+=)"(?:[^"\\]|\\.)*"'
    rules = lines(SYSTEMD / "udev.rules")
    assert [rule for rule in rules if not re.fullmatch(rf"{term}(?:, {term})*", rule)] == []
    text = "\n".join(rules)
    labels = set(re.findall(r'LABEL="(\w+)"', text))
    assert set(re.findall(r'GOTO="(\w+)"', text)) == labels


def test_udev_itself_agrees() -> None:
    done = subprocess.run(
        (program("udevadm"), "verify", "--resolve-names=never", SYSTEMD / "udev.rules"),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if "Unknown command verb" in done.stderr:
        pytest.skip("this udevadm cannot verify: it is older than 254")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_pwm_chip_is_opened_to_the_group_with_all_its_channels(tmp_path: Path) -> None:
    """The rules' own shell words, on a chip that notes which channels are asked for."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files to a group")
    chip = tmp_path / "sys/class/pwm/pwmchip0"
    (chip / "pwm0").mkdir(parents=True)
    commands = re.findall(r"""RUN\+="/bin/sh -c '([^']*)'""", (SYSTEMD / "udev.rules").read_text())
    make, give = (command.replace("$$", "$").replace("/sys%p", str(chip)) for command in commands[:2])
    run("sh", "-c", make.replace(">export", ">>export"))
    assert (chip / "export").read_text().split() == ["1", "2", "3", "4"]
    duty = chip / "pwm0/duty_cycle"
    duty.touch(0o600)
    run("sh", "-c", give.replace("gpio", "1"))
    assert (duty.stat().st_gid, duty.stat().st_mode & 0o777) == (1, 0o660)


# polkit --------------------------------------------------------------------------------------------------------------

SSH = "org.freedesktop.systemd1.manage-units"
MOUNT = "org.freedesktop.udisks2.filesystem-mount"
UNMOUNT = "org.freedesktop.udisks2.filesystem-unmount-others"
STICK = {"drive.removable": "true", "drive.removable.bus": "usb"}
ALLOWED: list[tuple[str, dict[str, str]]] = [
    (SSH, {"unit": "hotlap-ssh@enable.service", "verb": "start"}),
    (SSH, {"unit": "hotlap-ssh@disable.service", "verb": "start"}),
    (MOUNT, STICK),
    (f"{MOUNT}-other-seat", STICK),
    (UNMOUNT, STICK),
    *(
        (action, {})
        for action in (
            "org.freedesktop.hostname1.set-static-hostname",
            "org.freedesktop.timedate1.set-timezone",
            "org.freedesktop.login1.reboot",
            "org.freedesktop.login1.reboot-multiple-sessions",
            "org.freedesktop.login1.power-off",
            "org.freedesktop.login1.power-off-multiple-sessions",
            "org.freedesktop.NetworkManager.network-control",
            "org.freedesktop.NetworkManager.settings.modify.system",
            "org.freedesktop.NetworkManager.wifi.scan",
        )
    ),
]
REFUSED: list[tuple[str, dict[str, str]]] = [
    (SSH, {"unit": "hotlap-ssh@mask.service", "verb": "start"}),
    (SSH, {"unit": "hotlap-ssh@enable.service", "verb": "stop"}),
    (SSH, {"unit": "ssh.service", "verb": "start"}),
    (SSH, {"unit": "hotlap-car.service", "verb": "stop"}),
    (SSH, {}),
    (MOUNT, {}),
    (UNMOUNT, {"drive.removable": "false", "drive.removable.bus": "usb"}),
    (MOUNT, {"drive.removable": "true", "drive.removable.bus": "sdio"}),
    (f"{MOUNT}-system", STICK),
    *(
        (action, {})
        for action in (
            "org.freedesktop.systemd1.manage-unit-files",
            "org.freedesktop.systemd1.reload-daemon",
            "org.freedesktop.systemd1.set-environment",
            "org.freedesktop.hostname1.set-machine-info",
            "org.freedesktop.timedate1.set-time",
            "org.freedesktop.login1.reboot-ignore-inhibit",
            "org.freedesktop.login1.suspend",
            "org.freedesktop.NetworkManager.enable-disable-network",
            "org.freedesktop.NetworkManager.settings.modify.hostname",
            "org.freedesktop.NetworkManager.settings.modify.global-dns",
            "org.freedesktop.NetworkManager.wifi.share.open",
            "org.freedesktop.NetworkManager.reload",
            "org.freedesktop.udisks2.modify-device",
            "org.freedesktop.packagekit.package-install",
            "org.freedesktop.policykit.exec",
            "toString",
        )
    ),
]


def judged(user: str, wishes: list[tuple[str, dict[str, str]]]) -> list[str]:
    """What polkit's rule says to each wish."""
    script = (
        "let rule; const polkit = {Result: {YES: 'yes', NOT_HANDLED: 'no'}, addRule: (each) => { rule = each; }};"
        + (SYSTEMD / "polkit/hotlap.rules").read_text()
        + f"const wishes = {json.dumps(wishes)}, user = {json.dumps(user)};"
        + "console.log(JSON.stringify(wishes.map(([id, words]) => rule({id, lookup: (key) => words[key]}, {user}))));"
    )
    answers = json.loads(run(program("node"), "-e", script))
    assert isinstance(answers, list)
    return answers


def test_polkit_lets_the_daemon_do_what_the_console_offers() -> None:
    assert judged("hotlap", ALLOWED) == ["yes"] * len(ALLOWED)


def test_polkit_lets_the_daemon_do_nothing_else() -> None:
    assert judged("hotlap", REFUSED) == ["no"] * len(REFUSED)


def test_polkit_says_nothing_about_others() -> None:
    assert judged("somebody", ALLOWED) == ["no"] * len(ALLOWED)


def test_the_old_polkit_is_told_the_same_but_for_what_it_cannot_tell_apart() -> None:
    text = (SYSTEMD / "polkit/hotlap.pkla").read_text()
    actions = re.search(r"^Action=(.*)$", text, re.MULTILINE)
    assert actions is not None
    assert set(actions[1].split(";")) == {action for action, _ in ALLOWED} - {SSH}
    assert "Identity=unix-user:hotlap\n" in text


# The USB cable -------------------------------------------------------------------------------------------------------

GADGET = """\
UDC: dwc3.0.auto
bDeviceClass: 0xef
bDeviceProtocol: 0x01
bDeviceSubClass: 0x02
bcdDevice: 0x0100
bcdUSB: 0x0200
configs/c.1/MaxPower: 2
configs/c.1/bmAttributes: 0xc0
configs/c.1/ecm.usb1 -> functions/ecm.usb1
configs/c.1/rndis.usb0 -> functions/rndis.usb0
configs/c.1/strings/0x409/configuration: Network
functions/ecm.usb1/dev_addr: 12:34:56:78:90:21
functions/ecm.usb1/host_addr: 12:34:56:78:90:20
functions/rndis.usb0/dev_addr: 12:34:56:78:90:11
functions/rndis.usb0/host_addr: 12:34:56:78:90:10
functions/rndis.usb0/os_desc/interface.rndis/compatible_id: RNDIS
functions/rndis.usb0/os_desc/interface.rndis/sub_compatible_id: 5162001
idProduct: 0x0104
idVendor: 0x1d6b
os_desc/b_vendor_code: 0xcd
os_desc/c.1 -> configs/c.1
os_desc/qw_sign: MSFT100
os_desc/use: 1
strings/0x409/manufacturer: hotlap
strings/0x409/product: DeepRacer
strings/0x409/serialnumber: 1
"""
NAMES = """\
bind-dynamic
except-interface=lo
no-resolv
no-hosts
addn-hosts=/run/hotlap-usb/hosts
localise-queries
local=/deepracer.aws/hotlap.local/
local-ttl=60
domain=deepracer.net
dhcp-authoritative
no-ping
dhcp-leasefile=/run/hotlap-usb-names/leases
dhcp-option=option:router
pid-file=
interface=usb0
dhcp-range=10.0.0.2,10.0.0.2,255.255.255.252,1h
interface=usb1
dhcp-range=10.0.1.2,10.0.1.2,255.255.255.252,1h
"""
ADDRESSES = """\
address replace 10.0.0.1/30 dev usb0
link set usb0 up
address replace 10.0.1.1/30 dev usb1
link set usb1 up
"""


class Port:
    """A machine with a USB port that can be a device; `ip` is noted, and configfs is a plain folder."""

    def __init__(self, folder: Path) -> None:
        self.root, self._tools = folder / "root", folder / "tools"
        self.gadgets = self.root / "sys/kernel/config/usb_gadget"
        self.gadgets.mkdir(parents=True)
        (self.root / "sys/class/udc/dwc3.0.auto").mkdir(parents=True)
        self._tools.mkdir()
        self.program("ip", f'echo "$@" >>{folder}/said')
        # In configfs a folder goes with the files and folders that came with it, but not with what was made or linked.
        made = "-type l -o -name 0x409 -o -name c.1 -o -name '*.usb?'"
        self.program("rmdir", f"""[ -z "$(find "$1" -mindepth 1 \\( {made} \\))" ] && exec rm -r "$1" """)
        self.said = folder / "said"
        self.said.touch()

    def program(self, name: str, text: str) -> None:
        (self._tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (self._tools / name).chmod(0o755)

    def call(self, verb: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{self._tools}:{os.environ['PATH']}"}
        command = (HOME / "scripts/usb-console", verb, self.root)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)

    def described(self) -> str:
        gadget = self.gadgets / "hotlap"
        found = []
        for path in gadget.rglob("*"):
            name = str(path.relative_to(gadget))
            if path.is_symlink():
                found.append(f"{name} -> {path.resolve().relative_to(gadget)}\n")
            elif path.is_file():
                found.append(f"{name}: {path.read_text()}")
        return "".join(sorted(found))


@pytest.fixture
def port(tmp_path: Path) -> Port:
    return Port(tmp_path)


def test_the_cables_adapter_is_as_the_stock_cars(port: Port) -> None:
    assert port.call("up").returncode == 0
    assert port.described() == "".join(sorted(GADGET.splitlines(keepends=True)))
    conf = (port.root / "run/hotlap-usb/dnsmasq.conf").read_text()
    assert "".join(line for line in conf.splitlines(keepends=True) if not line.startswith("#")) == NAMES
    hosts = (port.root / "run/hotlap-usb/hosts").read_text()
    assert hosts == "10.0.0.1 deepracer.aws hotlap.local\n10.0.1.1 deepracer.aws hotlap.local\n"
    assert port.said.read_text() == ADDRESSES


def test_it_can_be_made_twice_and_taken_down_twice(port: Port) -> None:
    for verb in ("up", "up", "down", "down"):
        done = port.call(verb)
        assert (done.returncode, done.stderr) == (0, "")
        assert (port.gadgets / "hotlap").exists() == (verb == "up")
    assert list((port.root / "run/hotlap-usb").iterdir()) == []


def test_what_another_start_left_half_made_is_no_obstacle(port: Port) -> None:
    (port.gadgets / "hotlap/functions/ecm.usb1").mkdir(parents=True)
    assert port.call("up").returncode == 0
    assert port.described() == "".join(sorted(GADGET.splitlines(keepends=True)))


def test_a_kernel_that_names_the_adapters_otherwise_is_followed(port: Port) -> None:
    port.program("ln", 'echo usb5 >"$2/ifname"; exec /bin/ln "$@"')
    assert port.call("up").returncode == 0
    assert "interface=usb5\n" in (port.root / "run/hotlap-usb/dnsmasq.conf").read_text()
    assert "address replace 10.0.0.1/30 dev usb5\n" in port.said.read_text()


def test_a_kernel_that_has_only_the_newer_kind_gets_that(port: Port) -> None:
    port.program("mkdir", 'case "$2" in *ecm.usb1) exit 1;; esac; exec /bin/mkdir "$@"')
    assert port.call("up").returncode == 0
    assert port.described() == "".join(sorted(GADGET.replace("ecm", "ncm").splitlines(keepends=True)))


def test_what_stands_in_the_way_is_said_in_a_sentence(port: Port) -> None:
    (port.gadgets / "multi").mkdir()
    (port.gadgets / "multi/UDC").write_text("dwc3.0.auto\n")
    done = port.call("up")
    assert (done.returncode, done.stderr) == (
        1,
        "usb-console: the USB port serves multi already: end that first.\n",
    )
    shutil.rmtree(port.root / "sys/kernel")
    assert "modprobe libcomposite" in port.call("up").stderr
    shutil.rmtree(port.root / "sys/class")
    assert "no USB port that can be a device" in port.call("up").stderr
    assert port.call("sideways").returncode == 2


def test_dnsmasq_itself_understands_what_it_is_given(port: Port) -> None:
    dnsmasq = program("dnsmasq")
    assert port.call("up").returncode == 0
    run(dnsmasq, "--test", f"--conf-file={port.root / 'run/hotlap-usb/dnsmasq.conf'}")


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network of its own, with the two adapters and a computer at the far end of each."""
    ip = program("ip")
    name = f"hotlap-{os.getpid()}"
    if subprocess.run((ip, "netns", "add", name), capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespace can be made here")
    try:
        for number in (0, 1):
            run(ip, "-n", name, "link", "add", f"usb{number}", "type", "veth", "peer", "name", f"far{number}")
            run(ip, "-n", name, "link", "set", f"far{number}", "up")
            run(ip, "-n", name, "link", "set", f"usb{number}", "up")
            run(ip, "-n", name, "address", "add", f"10.0.{number}.1/30", "dev", f"usb{number}")
        run(ip, "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        run(ip, "netns", "delete", name)


ASK = """
import socket, sys
def ask(server, name):
    packet = b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0"
    packet += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\\0\\0\\1\\0\\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.settimeout(0.5)
        for _ in range(20):
            try:
                plug.sendto(packet, (server, 53))
                answer = plug.recv(512)
            except OSError:
                continue
            return socket.inet_ntoa(answer[-4:]) if answer[7] else f"refused {answer[3] & 15}"
    return "silence"
for server in ("10.0.0.1", "10.0.1.1"):
    print(*(ask(server, name) for name in ("deepracer.aws", "hotlap.local", "example.org")))
"""


def test_the_cars_names_lead_to_it_and_no_other_name_leads_anywhere(port: Port, namespace: str, tmp_path: Path) -> None:
    dnsmasq, ip = program("dnsmasq"), program("ip")
    assert port.call("up").returncode == 0
    conf = tmp_path / "dnsmasq.conf"
    text = (port.root / "run/hotlap-usb/dnsmasq.conf").read_text()
    text = text.replace("/run/hotlap-usb-names", str(tmp_path)).replace(
        "/run/hotlap-usb", f"{port.root}/run/hotlap-usb"
    )
    conf.write_text(f"user=root\n{text}")
    command = (ip, "netns", "exec", namespace, dnsmasq, "--keep-in-foreground", f"--conf-file={conf}")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            said = run(ip, "netns", "exec", namespace, "python3", "-c", ASK)
        finally:
            server.terminate()
    assert said.splitlines() == ["10.0.0.1 10.0.0.1 refused 5", "10.0.1.1 10.0.1.1 refused 5"]


@pytest.mark.parametrize("name", ["install-car", "usb-console", "machine", "../tests/machine/clubhouse"])
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    run(program("shellcheck"), HOME / "scripts" / name)
