"""An RPLIDAR A1 at the far end of a pseudo-terminal: it speaks the protocol, and can be broken in every way."""

from __future__ import annotations

import math
import os
import pty
import random
import select
import termios
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Scene: TypeAlias = Callable[[float], float]
"""Metres at an angle in degrees, clockwise from the sensor's mark; inf where nothing answers."""

DESCRIPTORS = {
    0x20: bytes.fromhex("A55A0500004081"),
    0x50: bytes.fromhex("A55A1400000004"),
    0x52: bytes.fromhex("A55A0300000006"),
}


def node(start: bool, degrees: float, metres: float) -> bytes:
    """One measurement on the wire."""
    answered = math.isfinite(metres)
    quality, distance_q2 = (15, round(metres * 4000)) if answered else (0, 0)
    angle_q6 = round(degrees * 64) % (360 * 64)
    first = quality << 2 | (1 if start else 2)
    return bytes((first, (angle_q6 & 0x7F) << 1 | 1, angle_q6 >> 7, distance_q2 & 0xFF, distance_q2 >> 8))


def turn(scene: Scene, count: int = 200) -> bytes:
    """The bytes of one turn of `count` measurements."""
    return b"".join(node(i == 0, i * 360 / count, scene(i * 360 / count)) for i in range(count))


class Model:
    """Plugged in from construction to unplug(); switches break it while it runs."""

    def __init__(self, scene: Scene, rate: float = 50.0, noise: float = 0.0, seed: int = 0) -> None:
        """`rate` turns a second; each byte is flipped or lost with the probability `noise`."""
        self.scene, self.rate, self.noise = scene, rate, noise
        self.jammed = self.mute = self.deaf = self.babbling = False
        self.health = 0
        self.heard: list[int] = []
        self.turns = 0
        self._chance = random.Random(seed)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        attributes = termios.tcgetattr(self._slave)
        attributes[2] |= termios.HUPCL  # as serial ports have it
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        self.path = Path(os.ttyname(self._slave))
        self._pull, self._pulled = os.pipe()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """May be called twice."""
        if self._thread.is_alive():
            os.write(self._pulled, b"!")
            self._thread.join(5)
        assert not self._thread.is_alive()

    def _live(self) -> None:
        scanning = False
        parts = 4
        part = 0
        try:
            while True:
                ready, _, _ = select.select([self._pull, self._master], [], [], 1 / self.rate / parts)
                if self._pull in ready:
                    return
                if self._master in ready:
                    commands = os.read(self._master, 4096)
                    scanning = self._obey(commands, scanning)
                elif self.babbling:
                    self._send(self._chance.randbytes(250))
                elif scanning and not self.mute:
                    bytes_ = turn(self.scene)
                    step = len(bytes_) // parts
                    piece = bytes_[part * step : (part + 1) * step]
                    if self.jammed:
                        piece = node(False, 90, 1.23) * 10
                    self._send(piece)
                    part = (part + 1) % parts
                    self.turns += part == 0
        finally:
            for handle in (self._master, self._slave, self._pull, self._pulled):
                os.close(handle)

    def _obey(self, commands: bytes, scanning: bool) -> bool:
        for mark, command in zip(commands[::2], commands[1::2], strict=False):
            self.heard.append(command)
            if mark != 0xA5 or self.deaf or self.mute:
                continue
            if command in (0x25, 0x40):
                scanning = False
            elif command == 0x20:
                self._send(DESCRIPTORS[command])
                scanning = True
            elif command == 0x50:
                self._send(DESCRIPTORS[command] + bytes((0x18, 29, 1, 7)) + bytes(range(16)))
            elif command == 0x52:
                self._send(DESCRIPTORS[command] + bytes((self.health, 0x34, 0x12)))
        return scanning

    def _send(self, data: bytes) -> None:
        """As a real line does: what nobody takes is lost."""
        data = disturbed(data, self.noise, self._chance)
        _, writable, _ = select.select([], [self._master], [], 0)
        if writable:
            os.write(self._master, data)


def disturbed(data: bytes, noise: float, chance: random.Random) -> bytes:
    """Each byte flipped, lost or doubled with the probability `noise`."""
    if not noise:
        return data
    out = bytearray()
    for octet in data:
        match chance.choice(("flip", "flip", "lose", "double")) if chance.random() < noise else "":
            case "flip":
                out.append(octet ^ 1 << chance.randrange(8))
            case "lose":
                pass
            case "double":
                out += bytes((octet, octet))
            case _:
                out.append(octet)
    return bytes(out)
