"""A Wi-Fi of the tests' own."""

from __future__ import annotations

from drivers.wifi import NotFound, Place, Security, Seen, Wifi, WrongPassword

KEY = "correct horse battery"


class Air:
    """A Wireless with two networks in reach."""

    def __init__(self) -> None:
        self.on: str | None = None
        self.joined: list[str] = []

    async def addresses(self) -> list[str]:
        return ["192.168.7.3"] if self.on else []

    async def places(self) -> list[Place]:
        return [Place("wlan0", address) for address in await self.addresses()]

    async def wifi(self) -> Wifi:
        return Wifi(True, self.on, 70 if self.on else None, False, "02:00:00:00:00:01")

    async def scan(self) -> list[Seen]:
        return [Seen("Pit lane", 90, Security.WPA2), Seen("Café", 31, Security.OPEN)]

    async def ready(self) -> None:
        pass

    async def connect(self, ssid: str, password: str = "", hidden: bool = False) -> None:
        if ssid not in ("Pit lane", "Café"):
            raise NotFound(f"No network named {ssid} is in reach.")
        if ssid == "Pit lane" and password != KEY:
            raise WrongPassword("Pit lane refuses the password; type it again.")
        self.on = ssid
        self.joined.append(ssid)

    async def forget(self, ssid: str) -> None:
        self.joined.remove(ssid)
        self.on = None

    async def known(self) -> list[str]:
        return self.joined

    async def close(self) -> None:
        pass
