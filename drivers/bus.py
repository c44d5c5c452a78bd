"""The system bus: calls to services such as NetworkManager that end in an answer or in a sentence, and never hang.

BusError (DeviceError)   D-Bus is gone, or the service does not answer
    CallError            the service is absent or said no; `name` is D-Bus's name for it
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from dbus_fast import BusType, DBusFastError, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from drivers.rig import DeviceError

PATIENCE: Final = 5.0
"""Seconds that a service may take to answer."""
ABSENT: Final = ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner")
FORBIDDEN: Final = (
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
)


class BusError(DeviceError):
    """The bus or the service does not answer."""


class CallError(BusError):
    """The service said no."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name

    @property
    def absent(self) -> bool:
        """Nobody offers this service."""
        return self.name in ABSENT or self.name.startswith("org.freedesktop.DBus.Error.Spawn.")

    @property
    def forbidden(self) -> bool:
        return self.name in FORBIDDEN or self.name.endswith((".PermissionDenied", ".NotAuthorized"))


class SystemBus:
    """One connection, made at the first call and made anew after it was lost. It lives on one event loop."""

    def __init__(self, address: str | None = None, patience: float = PATIENCE) -> None:
        """`address` is that of another bus than the system's."""
        self._address, self._patience = address, patience
        self._bus: MessageBus | None = None
        self._loss: asyncio.Task[None] | None = None
        self._listeners: set[asyncio.Queue[Message | None]] = set()
        self._connecting = asyncio.Lock()

    async def call(
        self,
        service: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: object,
        secret: str = "",
    ) -> list[Any]:
        """What the service answers, its variants unpacked. Raises BusError, whose text never repeats the `secret`."""
        message = Message(service, path, interface, member, signature=signature, body=list(body))
        bus = await self._connected()
        try:
            async with asyncio.timeout(self._patience):
                reply = await bus.call(message)
        except TimeoutError as error:
            raise BusError(f"{service} does not answer; restart it, or the car.") from error
        except (OSError, EOFError, DBusFastError) as error:
            raise _gone(error) from error
        if reply is None:
            raise _gone("the connection was closed")
        if reply.message_type is MessageType.ERROR:
            text = " ".join(part for part in reply.body if isinstance(part, str))
            text = text.replace(secret, "...") if secret else text
            raise CallError(reply.error_name or "unknown", f"{service}: {text.rstrip('.')}.")
        answer: list[Any] = unpack_variants(reply.body)
        return answer

    async def properties(self, service: str, path: str, interface: str) -> dict[str, Any]:
        """Every property of one interface of one object. Raises BusError."""
        answer = await self.call(service, path, "org.freedesktop.DBus.Properties", "GetAll", "s", interface)
        values: dict[str, Any] = answer[0]
        return values

    @asynccontextmanager
    async def signals(self, service: str, path: str) -> AsyncIterator[Callable[[], Any]]:
        """Yields a coroutine function: the next signal of this object as (member, body), in the order they were sent.

        It raises BusError when the service or the bus goes away. Calls made inside are answered after the signals
        that came before the answer. Raises BusError.
        """
        bus = await self._connected()
        came: asyncio.Queue[Message | None] = asyncio.Queue()
        rules = (
            f"type='signal',sender='{service}',path='{path}'",
            f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{service}'",
        )

        def sort(message: Message) -> None:
            ours = message.path == path and message.message_type is MessageType.SIGNAL
            owner = message.member == "NameOwnerChanged" and message.body[:1] == [service]
            if ours or owner:
                came.put_nowait(message)

        async def next_signal() -> tuple[str, list[Any]]:
            message = await came.get()
            if message is None:
                raise _gone("the connection was closed")
            if message.member == "NameOwnerChanged":
                raise CallError(ABSENT[1], f"{service} stopped or was started anew.")
            return message.member or "", unpack_variants(message.body)

        bus.add_message_handler(sort)
        self._listeners.add(came)
        try:
            for rule in rules:
                await self._match("AddMatch", rule)
            yield next_signal
        finally:
            self._listeners.discard(came)
            if bus.connected:
                bus.remove_message_handler(sort)
                for rule in rules:
                    await self._forget(bus, rule)

    async def close(self) -> None:
        """Let go of the bus. May be called twice; a later call connects anew."""
        bus, self._bus = self._bus, None
        if bus is not None and bus.connected:
            bus.disconnect()
        if self._loss is not None:
            await self._loss

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                try:
                    async with asyncio.timeout(self._patience):
                        self._bus = await MessageBus(self._address, BusType.SYSTEM).connect()
                except TimeoutError as error:
                    raise _gone("it does not answer") from error
                except (OSError, EOFError, DBusFastError) as error:
                    raise _gone(error) from error
                self._loss = asyncio.create_task(self._report_loss(self._bus))
            return self._bus

    async def _report_loss(self, bus: MessageBus) -> None:
        with suppress(OSError, EOFError, DBusFastError):
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        for listener in self._listeners:
            listener.put_nowait(None)

    async def _match(self, verb: str, rule: str) -> None:
        await self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", verb, "s", rule)

    async def _forget(self, bus: MessageBus, rule: str) -> None:
        try:
            await self._match("RemoveMatch", rule)
        except BusError:
            bus.disconnect()  # a bus that does not even answer this is of no more use


def _gone(why: object) -> BusError:
    return BusError(f"The system bus cannot be reached ({why}); start D-Bus (dbus.service), or restart the car.")
