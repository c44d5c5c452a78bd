"""What is wired, found, permitted and working on this car, and what to do for what is not. It moves nothing."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from drivers.camera import Query, takes_pictures
from drivers.i2c import Bus, open_bus
from drivers.rig import DeviceError
from vehicle import device_checks as devices
from vehicle import system_checks as system
from vehicle.patient import AGAIN, PATIENCE, Patient, Settled, State, Verdict, parted
from vehicle.settings import Settings, SettingsError

Check: TypeAlias = Callable[[Patient], Verdict]

CHECKS: Final[Mapping[str, Check]] = {
    "settings": system.settings,
    "user": system.groups,
    "permissions": system.permissions,
    "state folder": system.state,
    "servo and motor": devices.wires,
    "motor switch": devices.switch,
    "calibration": system.calibration,
    "cameras": devices.cameras,
    "LiDAR": devices.lidar,
    "battery gauge": devices.battery,
    "lights": devices.lights,
    "model": system.model,
    "network": system.network,
    "Wi-Fi": system.wifi,
    "USB drives": system.usb_drives,
    "SSH": system.ssh,
    "USB cable": system.cable,
    "real-time": system.realtime,
    "memory lock": system.memory,
    "OpenVINO": system.openvino,
    "console": system.console,
    "certificate": system.certificate,
    "clock": system.clock,
    "daemon": system.daemon,
    "stock software": system.stock_software,
}
FAULTS: Final[Mapping[str, tuple[str, State]]] = {
    "wires": ("servo and motor", "bad"),
    "calibration": ("calibration", "bad"),
    "camera": ("cameras", "bad"),
    "camera 2": ("cameras", "bad"),
    "LiDAR": ("LiDAR", "bad"),
    "battery": ("battery gauge", "bad"),
    "lights": ("lights", "warn"),
    "model": ("model", "bad"),
    "network": ("network", "bad"),
    "Wi-Fi": ("Wi-Fi", "bad"),
    "drive": ("USB drives", "warn"),
    "USB drives": ("USB drives", "warn"),
}
"""Where a fault of the daemon's is told, by its device, and how bad it is; any other is told with the daemon."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `absent` is what this car need not have; `advice` is empty where all is well."""

    what: str
    state: State
    sentence: str
    advice: str = ""


def examine(
    settings: Settings | SettingsError,
    root: Path = Path("/"),
    faults: Mapping[str, str] | None = None,
    *,
    bus: Callable[[Path], Bus] = open_bus,
    query: Query = takes_pictures,
) -> list[Finding]:
    """Looks at everything at once, and takes twice PATIENCE at the most; call it from a thread.

    `settings` may be the error that reading them raised: that is a finding, too. `root` is where sys/, dev/, proc/ and
    etc/ are. `faults` are the daemon's, by device, where it is the daemon that asks; anybody else has them from
    systemd. While no daemon runs, the devices are asked themselves, by `bus` and `query`. Raises nothing.
    """
    car = Patient(settings, root, faults, bus, query)
    car.units  # noqa: B018 - asked for once, before the threads
    heard: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    for what, check in CHECKS.items():
        threading.Thread(target=_look, args=(what, check, car, heard), name=f"doctor {what}", daemon=True).start()
    found: dict[str, Finding] = {}
    deadline = time.monotonic() + PATIENCE
    while len(found) < len(CHECKS) and (left := deadline - time.monotonic()) > 0:
        try:
            finding = heard.get(timeout=left)
        except queue.Empty:
            break
        found[finding.what] = finding
    slow = f"It did not answer within {PATIENCE:.0f} s."
    for what in CHECKS.keys() - found.keys():
        found[what] = Finding(what, "bad", slow, "Switch the car off and on.")
    told: dict[tuple[str, State], list[str]] = {}
    for device, sentence in car.faults.items():
        told.setdefault(FAULTS.get(device, ("daemon", "warn")), []).append(sentence)
    for (what, state), sentences in told.items():
        found[what] = _with_faults(found[what], state, *parted(*sentences))
    return [found[what] for what in CHECKS]


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


def _look(what: str, check: Check, car: Patient, heard: queue.SimpleQueue[Finding]) -> None:
    try:
        verdict = check(car)
    except Settled as settled:
        verdict = settled.verdict
    except DeviceError as error:
        verdict = "bad", *parted(str(error))
    except PermissionError:
        verdict = "warn", "You may not look at it.", system.LOOK_AS_ROOT
    except (OSError, ValueError) as error:
        verdict = "bad", f"It could not be looked at: {error}.", AGAIN
    heard.put(Finding(what, *verdict))


def _with_faults(finding: Finding, state: State, problem: str, advice: str) -> Finding:
    """The daemon's own words in place of a good finding's, and behind the sentence of one that knows more."""
    if finding.state in ("ok", "absent"):
        return Finding(finding.what, state, problem, advice)
    worse: State = "bad" if "bad" in (finding.state, state) else "warn"
    both = finding.sentence if problem in finding.sentence else f"{finding.sentence} {problem}"
    return replace(finding, state=worse, sentence=both, advice=finding.advice or advice)
