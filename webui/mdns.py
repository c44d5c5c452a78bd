"""The car's names on the local network, so that nobody has to know its address."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import string
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from drivers.disk import write_atomically

log = logging.getLogger(__name__)
# What matters of its own messages is told here, in one sentence.
logging.getLogger("zeroconf").setLevel(logging.CRITICAL)

FILE: Final = "mdns_name"
SERVICE: Final = "_https._tcp.local."
DEVICE: Final = "_device-info._tcp.local."
"""Under this service a further host name may be announced without a second console appearing."""
LETTERS: Final = string.ascii_lowercase + string.digits
NAME: Final = re.compile(r"hotlap-[a-z0-9]{4}")
LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def names(folder: Path, host: str) -> tuple[str, ...]:
    """The car's names: hotlap-XXXX.local, drawn once and remembered in `folder`, which exists; and that of the machine,
    whose host name is `host`, if that can be one. Raises OSError."""
    label = host.partition(".")[0].lower()
    others = {label} if LABEL.fullmatch(label) and label != "localhost" else set()
    own = _own(folder / FILE)
    return (f"{own}.local", *(f"{other}.local" for other in others - {own}))


def _own(path: Path) -> str:
    try:
        name = path.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        name = ""
    if not NAME.fullmatch(name):
        name = "hotlap-" + "".join(secrets.choice(LETTERS) for _ in range(4))
        write_atomically(path, f"{name}\n".encode())
    return name


@asynccontextmanager
async def announced(
    names: Sequence[str],
    addresses: Sequence[str],
    port: int,
    fingerprint: str,
    interfaces: Sequence[str] | zeroconf.InterfaceChoice = zeroconf.InterfaceChoice.All,
) -> AsyncIterator[None]:
    """Announce the console under the first of `names`, and answer for all of them with these IP addresses, until the
    context ends. `interfaces` are the addresses of those to do it on.

    It is done beside what runs in the context; where it cannot be done, the log says so, and that is all.
    """
    announcing = asyncio.create_task(_announce(names, addresses, port, fingerprint, interfaces))
    try:
        yield
    finally:
        announcing.cancel()
        await asyncio.wait([announcing])


async def _announce(
    names: Sequence[str],
    addresses: Sequence[str],
    port: int,
    fingerprint: str,
    interfaces: Sequence[str] | zeroconf.InterfaceChoice,
) -> None:
    try:
        async with AsyncZeroconf(interfaces) as responder:
            await responder.zeroconf.async_wait_for_start()
            if not responder.zeroconf.engine.senders:
                raise OSError("No network here takes multicast.")
            for service in _services(names, addresses, port, fingerprint):
                await (await responder.async_register_service(service, allow_name_change=True))
            await asyncio.Event().wait()
    except (OSError, RuntimeError, zeroconf.Error) as error:
        log.warning("The car's name is not announced on the network, so open the console by its address: %s", error)


def _services(names: Sequence[str], addresses: Sequence[str], port: int, fingerprint: str) -> list[AsyncServiceInfo]:
    # A zone, as in fe80::1%eth0, means something on this machine only.
    plain = [address.partition("%")[0] for address in addresses]

    def service(name: str, kind: str, port: int, text: dict[str, str]) -> AsyncServiceInfo:
        instance = f"{name.removesuffix('.local')}.{kind}"
        return AsyncServiceInfo(kind, instance, port, properties=text, server=f"{name}.", parsed_addresses=plain)

    console = service(names[0], SERVICE, port, {"path": "/", "fingerprint": fingerprint})
    return [console, *(service(name, DEVICE, 0, {}) for name in names[1:])]
