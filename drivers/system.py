"""The computer in the car: SSH, host name, time zone, restart and switching off, by systemd's services over D-Bus."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from drivers.bus import CallError, SystemBus
from drivers.rig import DeviceError

log = logging.getLogger(__name__)

DEADLINE: Final = 40.0
"""Seconds that SSH may take to be switched, or its password to be set: the units' own 30, and some to spare."""
SSH_PASSWORD: Final = Path("/run/hotlap-ssh-password.sock")
"""Where systemd waits for a new password (systemd/hotlap-ssh-password.socket); scripts/ssh-password sets it."""
SSH_ACCOUNT: Final = Path("/etc/hotlap/ssh-account")
"""Whose password that is. Root writes it, so that whoever takes over the daemon cannot set root's own."""

_RUNS: Final = ("active", "reloading")
_WITHOUT_RULES: Final = "0.105"
"""The last polkit that reads no rules, and so cannot tell one unit from another."""
_PASSWORD: Final = re.compile("[^\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{8,128}")
_MOST_BYTES: Final = 511
"""What crypt(3) takes of a password."""
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NO_ZONES: Final = {"Factory", "localtime"}
"""The second is a link to where the choice is kept, which would then lead to itself."""


@dataclass(frozen=True, slots=True)
class _Service:
    """One of systemd's on the bus, as `name`; its program is called `program`."""

    name: str
    program: str
    manager: str = ""

    @property
    def path(self) -> str:
        return "/" + self.name.replace(".", "/")

    @property
    def interface(self) -> str:
        return self.name + self.manager


_SYSTEMD: Final = _Service("org.freedesktop.systemd1", "systemd", ".Manager")
_HOSTNAME: Final = _Service("org.freedesktop.hostname1", "systemd-hostnamed")
_TIMEDATE: Final = _Service("org.freedesktop.timedate1", "systemd-timedated")
_LOGIN: Final = _Service("org.freedesktop.login1", "systemd-logind", ".Manager")
_POLKIT: Final = _Service("org.freedesktop.PolicyKit1", "polkit")


def time_zones() -> list[str]:
    """Every time zone that may be chosen, sorted. Reads some hundred files: call it from a thread."""
    return sorted(zoneinfo.available_timezones() - _NO_ZONES)


class System:
    """What the daemon may ask of its computer (systemd/polkit), one verb each. It lives on one event loop.

    Every verb raises DeviceError, in one sentence that a person can act on.
    """

    def __init__(
        self,
        bus: SystemBus | None = None,
        deadline: float = DEADLINE,
        ssh_password: Path = SSH_PASSWORD,
        ssh_account: Path = SSH_ACCOUNT,
    ) -> None:
        """SSH that is not switched, or whose password is not set, within `deadline` seconds is an error."""
        self._bus = bus or SystemBus()
        self._deadline = deadline
        self._ssh_password, self._ssh_account = ssh_password, ssh_account
        self._switching, self._setting = asyncio.Lock(), asyncio.Lock()

    async def close(self) -> None:
        """Let go of the bus. May be called twice."""
        await self._bus.close()

    async def ssh(self) -> bool:
        """Whether the SSH server runs, or its socket waits to start it. Raises where SSH cannot be switched, too."""
        with _in_words(_SYSTEMD, "switch SSH"):
            server, socket = await self._unit("ssh.service"), await self._unit("ssh.socket")
            if server.get("LoadState") != "loaded":
                raise DeviceError(
                    "This machine has no SSH server that can be started; install one with: apt-get install "
                    "openssh-server."
                )
            if (await self._unit("hotlap-ssh@enable.service")).get("LoadState") != "loaded":
                raise DeviceError("The unit that switches SSH is missing; run scripts/install-car again.")
            if await self._polkit_version() == _WITHOUT_RULES:
                raise DeviceError(
                    "The polkit of this system cannot permit SSH alone; switch it by hand: "
                    "systemctl enable --now ssh, or disable."
                )
            return any(unit.get("ActiveState") in _RUNS for unit in (server, socket))

    async def switch_ssh(self, on: bool) -> None:
        """Start or stop the SSH server, now and for every start of the machine; on return that is done."""
        unit, word = (f"hotlap-ssh@{'enable' if on else 'disable'}.service", "on" if on else "off")
        async with self._switching:
            try:
                with _in_words(_SYSTEMD, "switch SSH"):
                    async with asyncio.timeout(self._deadline):
                        result = await self._run(unit)
            except TimeoutError as error:
                raise DeviceError(f"SSH is still not switched {word}; look why with: journalctl -u {unit}.") from error
        if result != "done":
            raise DeviceError(f"SSH could not be switched {word} ({result}); look why with: journalctl -u {unit}.")
        log.info("SSH was switched %s.", word)

    async def ssh_account(self) -> str:
        """Whose password `set_ssh_password` sets. Raises where that cannot be done, too."""
        if not self._ssh_password.is_socket():
            raise DeviceError(
                "The socket that takes SSH's password is missing; run: sudo systemctl restart "
                "hotlap-ssh-password.socket, or scripts/install-car again."
            )
        try:
            account = self._ssh_account.read_text("utf-8").strip()
        except (OSError, ValueError):
            account = ""
        if not account:
            raise DeviceError(
                f"No account is named whose password it is: write the name of one that may log in into "
                f"{self._ssh_account}, as root."
            )
        return account

    async def set_ssh_password(self, password: str) -> None:
        """Set the password of `ssh_account`, 8 to 128 characters of which none is a control character; on return it
        counts."""
        if not _PASSWORD.fullmatch(password) or len(password.encode()) > _MOST_BYTES:
            raise DeviceError(
                "SSH's password has 8 to 128 characters, 511 bytes in UTF-8, and no control characters; choose another."
            )
        account = await self.ssh_account()
        async with self._setting:
            try:
                async with asyncio.timeout(self._deadline):
                    answer = await self._hand_in(password)
            except TimeoutError as error:
                raise DeviceError(f"SSH's password is still not set; {_LOOK}") from error
            except (OSError, ValueError) as error:
                raise DeviceError(
                    f"What sets SSH's password cannot be reached ({getattr(error, 'strerror', None) or error}); run: "
                    "sudo systemctl restart hotlap-ssh-password.socket."
                ) from error
        if not answer:
            raise DeviceError(f"SSH's password was not set; {_LOOK}")
        if answer != "ok":
            raise DeviceError(answer)
        log.info("SSH's password was set for %s.", account)

    async def _hand_in(self, password: str) -> str:
        """What is answered, empty where nothing is. Raises OSError or ValueError."""
        reader, writer = await asyncio.open_unix_connection(self._ssh_password, limit=4096)
        try:
            writer.write(f"{password}\n".encode())
            await writer.drain()
            return (await reader.readline()).decode("utf-8", "replace").strip()
        finally:
            writer.close()

    async def host_name(self) -> str:
        with _in_words(_HOSTNAME, "change the host name"):
            values = await self._bus.properties(_HOSTNAME.name, _HOSTNAME.path, _HOSTNAME.interface)
            return str(values.get("StaticHostname") or values.get("Hostname", ""))

    async def rename(self, name: str) -> None:
        """Give the machine a host name: one label (RFC 1123, 2.1), 1..63 letters, digits and hyphens."""
        if not _LABEL.fullmatch(name) or name.lower() == "localhost":
            raise DeviceError(
                "A host name has 1 to 63 letters, digits and hyphens, no hyphen at its ends, and is not localhost; "
                "choose another one."
            )
        with _in_words(_HOSTNAME, "change the host name"):
            await self._call(_HOSTNAME, "SetStaticHostname", "sb", name, False)
        log.info("The host name is now %s.", name)

    async def time_zone(self) -> str:
        """The name of the machine's time zone, such as Europe/Berlin."""
        with _in_words(_TIMEDATE, "change the time zone"):
            values = await self._bus.properties(_TIMEDATE.name, _TIMEDATE.path, _TIMEDATE.interface)
            return str(values.get("Timezone", ""))

    async def set_time_zone(self, zone: str) -> None:
        """Put the machine, and this process, into one of `time_zones()`."""
        if zone not in await asyncio.to_thread(time_zones):
            raise DeviceError(f"There is no time zone {zone[:60]!r} on this machine; choose one such as Europe/Berlin.")
        with _in_words(_TIMEDATE, "change the time zone"):
            await self._call(_TIMEDATE, "SetTimezone", "sb", zone, False)
        time.tzset()  # the C library looks once only
        log.info("The time zone is now %s.", zone)

    async def check_power(self) -> None:
        """Raises where the machine cannot be restarted and switched off by us."""
        with _in_words(_LOGIN, "restart the car"):
            for question in ("CanReboot", "CanPowerOff"):
                [answer] = await self._call(_LOGIN, question)
                if answer == "na":
                    raise DeviceError("This machine cannot restart or switch itself off; do it by hand.")
                if answer != "yes":
                    raise DeviceError(_forbidden("restart the car"))

    async def reboot(self) -> None:
        with _in_words(_LOGIN, "restart the car"):
            await self._call(_LOGIN, "Reboot", "b", False)
        log.info("The car is being restarted.")

    async def power_off(self) -> None:
        with _in_words(_LOGIN, "switch the car off"):
            await self._call(_LOGIN, "PowerOff", "b", False)
        log.info("The car is being switched off.")

    async def _unit(self, name: str) -> dict[str, Any]:
        [path] = await self._call(_SYSTEMD, "LoadUnit", "s", name)
        return await self._bus.properties(_SYSTEMD.name, path, "org.freedesktop.systemd1.Unit")

    async def _run(self, unit: str) -> str:
        """Start a unit that does its work and ends; how that ended, in systemd's word."""
        async with self._bus.signals(_SYSTEMD.name, _SYSTEMD.path) as next_signal:
            [job] = await self._call(_SYSTEMD, "StartUnit", "ss", unit, "replace")
            while True:
                member, body = await next_signal()
                if member == "JobRemoved" and body[1] == job:
                    return str(body[3])

    async def _polkit_version(self) -> str:
        with suppress(CallError):
            path, interface = f"{_POLKIT.path}/Authority", f"{_POLKIT.name}.Authority"
            values = await self._bus.properties(_POLKIT.name, path, interface)
            return str(values.get("BackendVersion", ""))
        return ""

    async def _call(self, service: _Service, member: str, signature: str = "", *body: object) -> list[Any]:
        return await self._bus.call(service.name, service.path, service.interface, member, signature, *body)


@contextmanager
def _in_words(service: _Service, wish: str) -> Iterator[None]:
    try:
        yield
    except CallError as error:
        if error.absent:
            raise DeviceError(f"{service.program} does not run on this machine; {wish} by hand.") from error
        if error.forbidden:
            raise DeviceError(_forbidden(wish)) from error
        raise DeviceError(f"{service.program} did not {wish} ({error.name}): {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DeviceError(f"{service.program} answers what is no answer; {wish} by hand.") from error


_LOOK: Final = "look why with: journalctl -u 'hotlap-ssh-password@*'."


def _forbidden(wish: str) -> str:
    return f"The car's user may not {wish}; run scripts/install-car again, which permits it."
