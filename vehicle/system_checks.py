"""The doctor's checks of the car's computer: what is installed, permitted, remembered and running there."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from calibration.calibration import CalibrationError
from calibration.store import parse
from drivers import kernel
from drivers.system import SSH_ACCOUNT, SSH_PASSWORD
from vehicle.governor import PRIORITY
from vehicle.patient import (
    AGAIN,
    CABLE,
    DAEMON,
    DRIVES,
    NETWORK,
    OLD,
    OLD_DOOR,
    SSH,
    USER,
    Patient,
    Verdict,
    ask,
    table,
    text,
)
from vehicle.settings import SettingsError

GROUPS: Final = ("gpio", "i2c", "video", "dialout")
LITTLE_ROOM: Final = 256 << 20
NO_ROOM: Final = 64 << 20
"""Bytes free for what the car remembers: below the first no model can be uploaded, below the second none installed."""
FILE_SYSTEMS: Final = {"FAT32": ("vfat",), "exFAT": ("exfat",), "NTFS": ("ntfs3", "ntfs", "ntfs-3g")}
"""Of USB drives: what the kernel, or a program of mount(8), calls them."""
FIRST_PERSON: Final = 1000
"""Of Debian's login.defs; scripts/ssh-password sets no other's password."""
RULES: Final = ("etc/polkit-1/rules.d/40-hotlap.rules", "etc/polkit-1/localauthority/50-local.d/hotlap.pkla")
"""The second is for a polkit that reads no rules."""
MAY_RESTART: Final = (
    *("busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1"),
    *("org.freedesktop.login1.Manager", "CanReboot"),
)
LOOK_AS_ROOT: Final = "Ask again as root: sudo hotlap-car doctor."


def settings(car: Patient) -> Verdict:
    if isinstance(car.settings, SettingsError):
        return "bad", str(car.settings), "Correct the file and restart the daemon; its defaults are looked at below."
    if not car.rig:
        return "bad", "No car is set.", 'Write rig = "drivers.deepracer:open_rig", or your car\'s, below [car].'
    return "ok", f"The car is {car.known.car.rig}.", ""


def groups(car: Patient) -> Verdict:
    _, mine = car.user()
    lacking = [line[0] for line in table(car.root / "etc/group", 4) if line[0] in GROUPS and int(line[2]) not in mine]
    lacking += [name for name in GROUPS if name not in {line[0] for line in table(car.root / "etc/group", 4)}]
    if lacking:
        return "bad", f"The user {USER} is not in {', '.join(sorted(lacking))}.", AGAIN
    return "ok", f"The user {USER} is in {', '.join(GROUPS)}.", ""


def state(car: Patient) -> Verdict:
    folder = car.state
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


def calibration(car: Patient) -> Verdict:
    try:
        parse((car.state / "calibration.json").read_bytes())
    except FileNotFoundError:
        return "absent", "None is stored yet: the car drives with the default.", ""
    except CalibrationError as error:
        return "bad", f"The stored one is damaged: {error}", "Calibrate the car anew."
    return "ok", "One is stored.", ""


def model(car: Patient) -> Verdict:
    active = car.state / "active"
    if not active.is_symlink():
        return "absent", "None was chosen yet.", ""
    if not active.exists():
        return "bad", f"The model {active.readlink().name}, which was chosen, is gone.", "Choose another one."
    return "ok", f"{active.readlink().name} is chosen.", ""


def network(car: Patient) -> Verdict:
    car.need_systemd()
    if not car.active(NETWORK):
        return "bad", "NetworkManager does not run: no Wi-Fi can be set.", f"systemctl enable --now {NETWORK}"
    return "ok", "NetworkManager runs.", ""


def wifi(car: Patient) -> Verdict:
    car.need_devices()
    radios = [
        adapter.name
        for adapter in sorted((car.root / "sys/class/net").glob("*"))
        if any((adapter / mark).exists() for mark in ("phy80211", "wireless"))
    ]
    for switch in sorted((car.root / "sys/class/rfkill").glob("*")):
        if text(switch / "type") == "wlan" and kernel.read(switch / "hard"):
            return "bad", "The Wi-Fi is switched off by the machine itself.", "Look for its switch, or in the BIOS."
        if text(switch / "type") == "wlan" and kernel.read(switch / "soft"):
            return "bad", "The Wi-Fi is switched off.", "nmcli radio wifi on"
    if not radios:
        return "warn", "There is no Wi-Fi adapter.", "Plug one in; for one that is built in, dmesg tells what it lacks."
    return "ok", f"{', '.join(radios)} is there and switched on.", ""


def usb_drives(car: Patient) -> Verdict:
    car.need_devices()
    car.need_systemd()
    if car.unit(DRIVES, "LoadState") != "loaded":
        return "bad", "udisks2 is not there: no USB drive can be read.", f"apt-get install {DRIVES}"
    try:
        known = _file_systems(car.root)
    except PermissionError:  # the daemon's unit keeps the kernel's modules from it
        return "ok", "udisks2 is there; which file systems it can read, only root may see.", ""
    lacking = [system for system, names in FILE_SYSTEMS.items() if known.isdisjoint(names)]
    if lacking:
        advice = "Start a kernel that knows them, or format drives otherwise; for NTFS: apt-get install ntfs-3g"
        return "warn", f"USB drives with {', '.join(lacking)} cannot be read.", advice
    return "ok", f"udisks2 is there, and drives with {', '.join(FILE_SYSTEMS)} can be read.", ""


def _file_systems(root: Path) -> set[str]:
    """What the kernel has, can load, or has a program for."""
    known = {line.split()[-1] for line in text(root / "proc/filesystems").splitlines() if line.strip()}
    modules = root / "lib/modules" / text(root / "proc/sys/kernel/osrelease")
    for listing in ("modules.dep", "modules.builtin"):
        paths = (line.partition(":")[0] for line in text(modules / listing).splitlines())
        known |= {Path(path).name.partition(".")[0] for path in paths}
    return known | {program.name.removeprefix("mount.") for program in (root / "sbin").glob("mount.*")}


def permissions(car: Patient) -> Verdict:
    car.need_systemd()
    try:
        for rules in RULES:
            if text(car.root / rules):
                return "ok", "polkit's rules are in place.", ""
    except PermissionError:
        # Only root may look there; but the daemon's user may ask what it is permitted.
        answer = ask(*MAY_RESTART) if os.geteuid() == car.user()[0] else None
        if answer is None:
            return "warn", "You may not look at polkit's rules.", LOOK_AS_ROOT
        if '"yes"' in answer:
            return "ok", f"polkit permits the user {USER} what the console asks for.", ""
    return "bad", "polkit's rules are missing: the console cannot set Wi-Fi, SSH and names.", AGAIN


def ssh(car: Patient) -> Verdict:
    car.need_systemd()
    if car.unit(SSH, "LoadState") != "loaded":
        return "warn", "There is no SSH server.", "apt-get install openssh-server"
    for unit in ("hotlap-ssh@.service", "hotlap-ssh-password.socket", "hotlap-ssh-password@.service"):
        if not (car.root / "etc/systemd/system" / unit).exists():
            return "warn", f"The unit {unit} is missing: the console cannot set all of SSH.", AGAIN
    if not (car.root / SSH_PASSWORD.relative_to("/")).is_socket():
        advice = "systemctl restart hotlap-ssh-password.socket"
        return "warn", "The socket that takes SSH's password is missing.", advice
    account = text(car.root / SSH_ACCOUNT.relative_to("/"))
    users = {line[0]: int(line[2]) for line in table(car.root / "etc/passwd", 7)}
    if users.get(account, 0) < FIRST_PERSON:
        problem = f"{account} is no person's account" if account else "No account is named whose password it is"
        return "warn", f"{problem}.", f"Write the name of one that may log in into {SSH_ACCOUNT}, as root."
    return "ok", f"There is a server, and the console can set the password of {account}.", ""


def cable(car: Patient) -> Verdict:
    car.need_systemd()
    if not any((car.root / "sys/class/udc").glob("*")):
        return "absent", "This machine has no USB port that can be a device.", ""
    if car.unit(CABLE, "LoadState") == "masked":
        return "absent", "The console by cable is kept off.", ""
    if not car.active(CABLE):
        return "bad", "The console by cable does not run.", f"systemctl restart {CABLE}; journalctl -u {CABLE}"
    return "ok", "The console by cable runs.", ""


def realtime(car: Patient) -> Verdict:
    car.need_systemd()
    limit = car.unit(DAEMON, "LimitRTPRIO") or "0"
    share = car.root / "proc/sys/kernel/sched_rt_runtime_us"
    if share.exists() and kernel.read(share) == 0:
        return "bad", "The kernel gives real-time programs no time.", "sysctl kernel.sched_rt_runtime_us=950000"
    if not _at_least(limit, PRIORITY):
        return "bad", f"The daemon may ask for real-time priority {limit} only, not {PRIORITY}.", AGAIN
    return "ok", f"The daemon may ask for real-time priority {limit}.", ""


def memory(car: Patient) -> Verdict:
    car.need_systemd()
    limit = car.unit(DAEMON, "LimitMEMLOCK") or "0"
    if not _at_least(limit, LITTLE_ROOM):
        return "bad", f"The daemon may lock {limit} bytes of memory only.", AGAIN
    return "ok", "The daemon may lock its memory.", ""


def _at_least(limit: str, least: int) -> bool:
    return limit == "infinity" or (limit.isdecimal() and int(limit) >= least)


def openvino(car: Patient) -> Verdict:
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


def console(car: Patient) -> Verdict:
    port = car.known.console.port
    tables = [car.root / "proc/net" / name for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    heard = any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows if len(row) > 3)
    match heard, car.runs:
        case True, True:
            return "ok", f"It is open on port {port}.", ""
        case True, False:
            advice = f"End it (ss -lptn sport = :{port}), or set another port."
            return "bad", f"Another program has port {port}.", advice
        case False, True:
            return "bad", f"The daemon runs, and nobody listens on port {port}.", f"journalctl -u {DAEMON}"
        case _:
            return "ok", f"Port {port} is free.", ""


def certificate(car: Patient) -> Verdict:
    try:
        end = x509.load_pem_x509_certificate((car.state / "certificate.pem").read_bytes()).not_valid_after_utc
    except FileNotFoundError:
        return "absent", "There is none yet; the daemon makes one when it starts.", ""
    except ValueError:
        return "bad", "It is damaged.", "Run hotlap-car renew-certificate and restart the daemon."
    if end < datetime.now(UTC):
        return "bad", f"It was good until {end:%Y-%m-%d}.", "Set the clock, or run hotlap-car renew-certificate."
    return "ok", f"It is good until {end:%Y-%m-%d}.", ""


def clock(car: Patient) -> Verdict:
    if (car.root / "run/systemd/timesync/synchronized").exists():
        return "ok", "It follows a time server.", ""
    car.need_systemd()
    if (ask("timedatectl", "show", "--property=NTPSynchronized", "--value") or "").strip() == "yes":
        return "ok", "It follows a time server.", ""
    return "warn", f"It follows no time server, and says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.", "Connect the car."


def daemon(car: Patient) -> Verdict:
    car.need_systemd()
    if car.active(DAEMON):
        doing = car.status.partition(" | ")[0]
        return "ok", f"It runs: {doing}." if doing else "It runs.", ""
    reason = f"{car.unit(DAEMON, 'ActiveState') or 'unknown'}, {car.unit(DAEMON, 'Result') or 'unknown'}"
    return "bad", f"It does not run ({reason}).", f"systemctl restart {DAEMON}; journalctl -u {DAEMON}"


def stock_software(car: Patient) -> Verdict:
    car.need_systemd()
    running = [OLD] if car.active(OLD) else []
    if car.active(OLD_DOOR) and (car.root / "opt/aws/deepracer").exists():
        running.append(OLD_DOOR)
    if running:
        problem = f"{' and '.join(running)} still runs beside hotlap."
        return "bad", problem, f"systemctl disable --now {' '.join(running)}"
    return "ok", "It does not run.", ""
