"""NetworkManager as python-dbusmock plays it, that also says no: it runs under Debian's Python, outside .venv.

How a network behaves stands in its name: no-address, portal, slow, deaf, gone, forbidden, talkative; every other lets
the car in with PASSWORD. The states and reasons are those that the real one sends.
"""

# mypy: disable-error-code="import-not-found, misc, no-untyped-call"

from typing import Any

import dbus
import dbusmock
from dbusmock.templates import networkmanager as stock
from dbusmock.templates.networkmanager import *  # noqa: F403 - dbusmock looks for its methods in this module
from gi.repository import GLib

BUS_NAME, MAIN_OBJ, SYSTEM_BUS, IS_OBJECT_MANAGER = stock.BUS_NAME, stock.MAIN_OBJ, True, True

PASSWORD = "right-password"
STEP_MS = 5

WELL = [(40, 0), (50, 0), (60, 0), (40, 0), (50, 0), (70, 0)]
"""With the key at hand NetworkManager passes `need auth` too."""
WRONG_KEY = [(40, 0), (50, 0), (60, 8), (120, 7), (30, 0)]
FATES = {
    "no-address": [(40, 0), (50, 0), (70, 0), (120, 5), (30, 0)],
    "slow": [(40, 0), (50, 0)],
    "deaf": [(40, 0), (50, 0), (120, 11), (30, 0)],
    "gone": [(40, 0), (50, 0), (120, 53), (30, 0)],
}


def load(mock: Any, parameters: Any) -> None:
    stock.load(mock, parameters)
    manager = dbusmock.get_object(stock.MANAGER_OBJ)
    manager.AddMethods(
        stock.MANAGER_IFACE,
        [
            ("AddAndActivateConnection2", "a{sa{sv}}ooa{sv}", "ooa{sv}", "ret = self.join(self, args[0], args[1])"),
            ("ActivateConnection", "ooo", "o", "ret = self.rejoin(self, args[0], args[1])"),
        ],
    )
    manager.join, manager.rejoin = join, rejoin


def join(manager: Any, settings: Any, device: str) -> tuple[Any, Any, Any]:
    name = bytes(settings["802-11-wireless"]["ssid"]).decode("utf-8", "backslashreplace")
    key = str(settings.get("802-11-wireless-security", {}).get("psk", PASSWORD))
    if name == "forbidden":
        raise dbus.exceptions.DBusException("No.", name=f"{stock.MANAGER_IFACE}.PermissionDenied")
    if name == "talkative":
        raise dbus.exceptions.DBusException(f"psk: {key}: no", name=f"{stock.CSETTINGS_IFACE}.InvalidProperty")
    profile = dbusmock.get_object(stock.SETTINGS_OBJ).SettingsAddConnection(settings)
    home = dbusmock.get_object(profile)
    home.Set(stock.CSETTINGS_IFACE, "Unsaved", True)
    home.AddMethod(stock.CSETTINGS_IFACE, "Save", "", "", f"self.Set('{stock.CSETTINGS_IFACE}', 'Unsaved', False)")
    connectivity = 2 if name == "portal" else 4
    manager.SetProperty(stock.MANAGER_OBJ, stock.MANAGER_IFACE, "Connectivity", dbus.UInt32(connectivity))
    play(device, profile, FATES.get(name, WELL if key == PASSWORD else WRONG_KEY))
    return dbus.ObjectPath(profile), dbus.ObjectPath("/"), dbus.Dictionary({}, signature="sv")


def rejoin(_manager: Any, profile: str, device: str) -> Any:
    play(device, profile, WELL)
    return dbus.ObjectPath("/")


def play(device: str, profile: str, states: list[tuple[int, int]]) -> None:
    """Leave what the adapter is on, go through the states, and after WELL be connected."""
    manager, adapter = dbusmock.get_object(stock.MANAGER_OBJ), dbusmock.get_object(device)
    left = [(110, 60), (30, 60), *states] if adapter.Get(stock.DEVICE_IFACE, "State") > 30 else [*states]
    active = adapter.Get(stock.DEVICE_IFACE, "ActiveConnection")
    if active != "/":
        manager.RemoveActiveConnection(device, active)
    adapter.playing = left

    def step() -> bool:
        if adapter.playing is not left:
            return False
        if left:
            change(adapter, *left.pop(0))
            return True
        if states is WELL:
            manager.AddActiveConnection([device], profile, "/", profile.rsplit("/", 1)[1], dbus.UInt32(2))
        return False

    GLib.timeout_add(STEP_MS, step)


def change(adapter: Any, state: int, reason: int) -> None:
    old = adapter.Get(stock.DEVICE_IFACE, "State")
    adapter.Set(stock.DEVICE_IFACE, "State", dbus.UInt32(state))
    adapter.EmitSignal(stock.DEVICE_IFACE, "StateChanged", "uuu", [dbus.UInt32(state), old, dbus.UInt32(reason)])
