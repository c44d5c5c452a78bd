"""The car is found by its name on a network that lets it be found, and drives on one that does not."""

from __future__ import annotations

import asyncio
import re
import socket
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from zeroconf import AddressResolver, IPVersion, ServiceListener, Zeroconf  # type: ignore[attr-defined] # the first
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from webui.mdns import FILE, SERVICE, announced, names

LOOPBACK = "127.0.0.1"
FINGERPRINT = ":".join(f"{byte:02X}" for byte in range(32))


# Names --------------------------------------------------------------------------------------------------------------


def test_the_name_is_drawn_once_and_remembered(tmp_path: Path) -> None:
    own, other = names(tmp_path, "amss-k2x9")
    assert re.fullmatch(r"hotlap-[a-z0-9]{4}\.local", own)
    assert other == "amss-k2x9.local"
    assert names(tmp_path, "amss-k2x9") == (own, other)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o644


def test_names_say_nothing_about_the_machine(tmp_path: Path) -> None:
    drawn = set()
    for number in range(200):
        (tmp_path / str(number)).mkdir()
        drawn.add(names(tmp_path / str(number), "amss-k2x9")[0])
    assert len(drawn) > 195


@pytest.mark.parametrize("junk", [b"", b"\xff\xff", b"hotlap-K2X9\n", b"hotlap-k2x9x", b"../../etc", b"a" * 10_000])
def test_a_damaged_name_is_drawn_anew(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / FILE).write_bytes(junk)
    (own,) = names(tmp_path, "localhost")
    assert re.fullmatch(r"hotlap-[a-z0-9]{4}\.local", own)
    assert names(tmp_path, "localhost") == (own,)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("AMSS-K2X9", "amss-k2x9.local"),
        ("car.lan", "car.local"),
        ("a", "a.local"),
        ("a" * 63, "a" * 63 + ".local"),
        ("", None),
        ("localhost", None),
        ("localhost.localdomain", None),
        ("(none)", None),
        ("my car", None),
        ("voiture_é", None),
        ("-car", None),
        ("a" * 64, None),
        ("car\n", None),
    ],
)
def test_a_host_name_counts_when_it_can_be_one(tmp_path: Path, host: str, name: str | None) -> None:
    assert names(tmp_path, host)[1:] == ((name,) if name else ())


def test_a_host_of_the_cars_name_has_one_name(tmp_path: Path) -> None:
    (own,) = names(tmp_path, "localhost")
    assert names(tmp_path, own) == (own,)


# The network --------------------------------------------------------------------------------------------------------


def loops_back() -> bool:
    """Whether what is sent to mDNS's group on the loopback comes back."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth,
    ):
        try:
            ear.bind(("", 0))
            group = struct.pack("4s4s", socket.inet_aton("224.0.0.251"), socket.inet_aton(LOOPBACK))
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            ear.settimeout(1)
            mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
            mouth.sendto(b"hello", ("224.0.0.251", ear.getsockname()[1]))
            return ear.recv(5) == b"hello"
        except OSError:
            return False


@pytest_asyncio.fixture
async def network() -> AsyncIterator[Zeroconf]:
    """Another machine, as far as mDNS goes."""
    if not loops_back():
        pytest.skip("this machine does no multicast on its loopback")
    async with AsyncZeroconf([LOOPBACK]) as other:
        yield other.zeroconf


async def addresses_of(network: Zeroconf, name: str) -> set[str]:
    host = AddressResolver(f"{name}.")
    async with asyncio.timeout(10):
        while not await host.async_request(network, 1000):
            pass
    return set(host.parsed_addresses(IPVersion.All))


class Listener(ServiceListener):
    """Hears consoles come and go."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.heard.put_nowait(("came", name))

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.heard.put_nowait(("went", name))

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        pass


async def test_a_browser_finds_the_console_and_its_names(network: Zeroconf, caplog: pytest.LogCaptureFixture) -> None:
    both = ("hotlap-k2x9.local", "amss-k2x9.local")
    listener = Listener()
    async with (
        asyncio.timeout(30),
        AsyncServiceBrowser(network, SERVICE, listener=listener),
    ):
        async with announced(both, ["192.0.2.2", "fe80::1%eth0"], 8443, FINGERPRINT, [LOOPBACK]):
            assert await listener.heard.get() == ("came", f"hotlap-k2x9.{SERVICE}")
            found = AsyncServiceInfo(SERVICE, f"hotlap-k2x9.{SERVICE}")
            assert await found.async_request(network, 5000)
            assert (found.server, found.port) == ("hotlap-k2x9.local.", 8443)
            assert found.decoded_properties == {"path": "/", "fingerprint": FINGERPRINT}
            for name in both:
                assert await addresses_of(network, name) == {"192.0.2.2", "fe80::1"}
        assert await listener.heard.get() == ("went", f"hotlap-k2x9.{SERVICE}")
        assert listener.heard.empty(), "the second name is no second console"
    assert not caplog.records


async def warned(caplog: pytest.LogCaptureFixture, interfaces: list[str]) -> str:
    """What the log says when the announcing fails; the context goes on, and ends, as if nothing were."""
    async with announced(["hotlap-k2x9.local"], ["192.0.2.2"], 8443, FINGERPRINT, interfaces), asyncio.timeout(5):
        while not caplog.records:
            await asyncio.sleep(0.005)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("webui.mdns", "WARNING")
    return record.getMessage()


@pytest.mark.filterwarnings("ignore:unclosed <socket")  # the library's, of the socket that it could not bind
async def test_a_port_that_is_taken_is_told_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        try:
            taken.bind(("", 5353))
        except OSError:
            pytest.skip("the port of mDNS is in use on this machine")
        assert "open the console by its address: [Errno 98]" in await warned(caplog, [LOOPBACK])


@pytest.mark.filterwarnings("ignore:unclosed <socket")
@pytest.mark.parametrize(("interfaces", "reason"), [([], "takes multicast"), (["192.0.2.77"], "Errno")])
async def test_a_machine_without_a_network_is_told_and_no_more(
    caplog: pytest.LogCaptureFixture, interfaces: list[str], reason: str
) -> None:
    assert reason in await warned(caplog, interfaces)


async def test_nothing_stays_behind_when_it_ends_before_it_has_begun(caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.all_tasks()
    async with announced(["hotlap-k2x9.local"], ["192.0.2.2"], 8443, FINGERPRINT, [LOOPBACK]):
        pass
    assert asyncio.all_tasks() == before
    assert not caplog.records
