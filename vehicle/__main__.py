"""hotlap-car: the daemon on a car, and the command that puts its wires to rest when the daemon is gone."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from calibration import store as calibration_store
from drivers.disk import claim
from drivers.mounts import Mounts
from drivers.rig import DeviceError, Options, Rig
from drivers.usb import UsbDrives
from inference.package import PackageError
from vehicle import daemon, doctor, drives, governor, journal
from vehicle.car import Car, Refusal
from vehicle.governor import GovernorLost
from vehicle.models import ModelMissing, ModelStore
from vehicle.settings import Settings, SettingsError, load
from webui import certificate, mdns
from webui.app import CABLE, addresses_of, console
from webui.auth import ATTEMPTS_FILE, NO_PASSWORD, PASSWORD_FILE, Password

log = logging.getLogger(__name__)

COMMANDS: Final = {
    "run": "drive the car",
    "release": "put its wires to rest",
    "first-password": "print a password for its console, if that has none yet",
    "reset-password": "print a new password for its console, and forgive the wrong ones",
    "renew-certificate": "make the console's certificate and key anew",
    "doctor": "say what is wired, found, permitted and working, and what to do where it is not",
}
DEFAULT_SETTINGS: Final = Path("/etc/hotlap/hotlap.toml")
ASSET_TAG: Final = Path("/sys/class/dmi/id/chassis_asset_tag")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hotlap-car", description=__doc__)
    parser.add_argument(
        "command", choices=COMMANDS, help="; ".join(f"{name}: {what}" for name, what in COMMANDS.items())
    )
    parser.add_argument("--settings", type=Path, default=DEFAULT_SETTINGS)
    parser.add_argument("--json", action="store_true", help="of doctor: as JSON")
    options = parser.parse_args(arguments)
    journal.set_up("hotlap-car")
    if options.command == "doctor":
        return _examine(options)
    try:
        settings = load(options.settings)
        state = Path(settings.car.state)
        if options.command in ("first-password", "reset-password", "renew-certificate"):
            _become_owner(state)
        if options.command == "first-password":
            print(f"hotlap-car: {_first_password(state)}")
            return 0
        if options.command == "reset-password":
            print(f"hotlap-car: the console's password is now {Password.reset(state / PASSWORD_FILE)}")
            (state / ATTEMPTS_FILE).unlink(missing_ok=True)
            return 0
        if options.command == "renew-certificate":
            names = (*mdns.names(state, socket.gethostname()), *CABLE)
            papers = certificate.renew(state, names, addresses_of(settings.console.host), datetime.now(UTC))
            print(
                f"hotlap-car: the new certificate counts from the next start; its fingerprint is {papers.fingerprint}"
            )
            return 0
        rig = open_rig(settings)
        remembered = calibration_store.load(state / "calibration.json")
        if options.command == "release":
            governor.release(rig.wires, remembered.calibration)
        else:
            with claim(state):
                asyncio.run(_run(settings, rig, state, remembered))
    except asyncio.CancelledError:
        return 0  # the service manager has ended it
    except (SettingsError, OSError, GovernorLost) as error:
        print(f"hotlap-car: {error}", file=sys.stderr)
        return 3 if isinstance(error, GovernorLost) else 2
    return 0


def _examine(options: argparse.Namespace) -> int:
    settings: Settings | SettingsError
    try:
        settings = load(options.settings)
    except SettingsError as error:
        settings = error
    findings = doctor.examine(settings)
    print(doctor.as_json(findings) if options.json else doctor.as_text(findings))
    return 0 if doctor.sound(findings) else 1


def _first_password(state: Path) -> str:
    known = (state / PASSWORD_FILE).exists()
    _, new = Password.first(state / PASSWORD_FILE, tag=_asset_tag())
    if new is not None:
        return f"the console's password is {new}; it asks for one of your own"
    if known:
        return "the console's password stays as it is"
    return "the console's first password is the number on the tag under the car; it asks for one of your own"


def _become_owner(folder: Path) -> None:
    """What root writes the daemon could not read."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)


def open_rig(settings: Settings) -> Rig:
    """The devices that the setting car.rig names. Raises DeviceError."""
    module, _, function = settings.car.rig.partition(":")
    if not function:
        raise DeviceError("No car is set: write rig = 'module:function' below [car] in the settings.")
    try:
        opener = cast(Callable[[Options], Rig], getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError) as error:
        raise DeviceError(f"The car {settings.car.rig!r} is not known: {error}.") from error
    return opener(settings.devices)


async def _run(settings: Settings, rig: Rig, state: Path, remembered: calibration_store.Remembered) -> None:
    store = ModelStore(state, settings.inference.device)
    car = Car(settings, store, remembered.calibration, rig.fittings, wireless=rig.wireless, system=rig.system)
    if remembered.fault:
        car.fault("calibration", remembered.fault)
    here = asyncio.current_task()
    assert here is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    # A secret may be shown to who sits there; never to the journal.
    password, new = Password.first(state / PASSWORD_FILE, tag=_asset_tag(), random=sys.stderr.isatty())
    if new is not None:
        print(f"hotlap-car: the console's password is {new}; it asks for one of your own", file=sys.stderr)
    elif password.missing:
        log.warning(NO_PASSWORD)
    try:
        async with asyncio.TaskGroup() as tasks, console(car, settings.console, password):
            driving = tasks.create_task(daemon.run(rig, car))
            if rig.drives:
                tasks.create_task(drives.serve(car, UsbDrives().watch, Mounts()))
            if store.active is not None:
                tasks.create_task(_resume(car, store.active))
            await driving
    except* GovernorLost as group:
        raise group.exceptions[0] from None
    finally:
        car.close()


def _asset_tag() -> str | None:
    """What is printed under a DeepRacer, and is its stock console's first password."""
    try:
        return ASSET_TAG.read_text("utf-8", "replace")
    except OSError:
        return None


async def _resume(car: Car, name: str) -> None:
    """Load the model that the car last drove with; without it the car waits for another."""
    try:
        await car.load(name)
    except (PackageError, ModelMissing, Refusal) as error:
        car.fault("model", f"The model {name} could not be loaded again: {error}")


if __name__ == "__main__":
    sys.exit(main())
