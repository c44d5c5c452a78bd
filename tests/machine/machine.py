"""A car that is a virtual machine: its kernel, its services and its file systems are real, its hardware is QEMU's."""

from __future__ import annotations

import base64
import itertools
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import SocketIO
from typing import Any, Final

BOOT: Final = 240
"""Seconds from power-on until the machine answers; it is emulated, on a computer that has more to do."""
DRAWER: Final = "/dev/disk/by-id/virtio-drawer"
"""Where the machine finds the stick that is not plugged in, to write on it and read it."""
_STICK: Final = 48 << 20

THROTTLE, STEERING = 0, 1
REST: Final = {THROTTLE: round(4096 * 1.446 / 20), STEERING: round(4096 * 1.450 / 20)}
"""The pulses of a car at rest, in 4096ths of a servo's period."""
OFF: Final = 0x10
"""The bit of a PCA9685's register that switches an output off."""


class MachineError(AssertionError):
    """What was asked of the machine failed."""


class _Line:
    """One of QEMU's sockets: a JSON object a line, asked and answered in turn."""

    def __init__(self, lines: SocketIO) -> None:
        self._lines = lines

    def ask(self, command: str, **arguments: Any) -> Any:
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        return self.hear()

    def hear(self) -> Any:
        """The next answer. Raises MachineError when it is a refusal, or when none comes any more."""
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise MachineError(str(answer["error"]))
            if "return" in answer:
                return answer["return"]
        raise MachineError("no answer")


@contextmanager
def _line(path: Path, patience: float) -> Iterator[_Line]:
    """Raises OSError, TimeoutError included."""
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(patience)
        end.connect(str(path))
        with end.makefile("rwb", buffering=0) as lines:
            yield _Line(lines)


class Machine:
    """Switched on from construction to close(). What it writes on its disk is forgotten thereafter."""

    def __init__(self, made: Path, folder: Path, *devices: str) -> None:
        """`made` is what scripts/machine left; `folder` gets sockets, the console's words and the USB stick."""
        self.stick = folder / "stick.img"
        with self.stick.open("wb") as file:
            file.truncate(_STICK)
        self._folder = folder
        self._numbers = itertools.count(time.time_ns())
        command = (
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"),
            *("-display", "none", "-nodefaults", "-serial", f"file:{folder / 'console.log'}"),
            *("-kernel", str(made / "vmlinuz"), "-initrd", str(made / "initrd.img")),
            *("-append", "root=LABEL=car rw console=ttyS0 quiet"),
            *("-drive", f"file={made / 'car.img'},format=raw,if=virtio,snapshot=on"),
            # The stick, which is in the drawer before it is plugged into the car.
            *("-blockdev", f"driver=raw,node-name=stick,file.driver=file,file.filename={self.stick}"),
            *("-device", "virtio-blk-pci,drive=stick,share-rw=on,serial=drawer", "-device", "qemu-xhci,id=usb"),
            *("-device", "virtio-serial", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            *("-chardev", f"socket,id=agent,path={self._agent},server=on,wait=off"),
            *("-qmp", f"unix:{folder / 'qmp'},server=on,wait=off"),
            *devices,
        )
        with (folder / "qemu.log").open("wb") as said:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=said)
        try:
            self._await_answer()
        except BaseException:
            self.close()
            raise

    @property
    def _agent(self) -> Path:
        return self._folder / "agent"

    @contextmanager
    def _asking(self, patience: float) -> Iterator[_Line]:
        """The machine's agent, once it has heard of us: what it still had to say to somebody before is passed over."""
        with _line(self._agent, patience) as line:
            number = next(self._numbers)
            answer = line.ask("guest-sync", id=number)
            while answer != number:
                answer = line.hear()
            yield line

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _await_answer(self) -> None:
        end = time.monotonic() + BOOT
        while True:
            if self._process.poll() is not None:
                raise MachineError((self._folder / "qemu.log").read_text())
            with suppress(OSError, MachineError, ValueError), self._asking(5):
                return
            if time.monotonic() > end:
                raise MachineError((self._folder / "console.log").read_text()[-2000:])
            time.sleep(0.5)

    def run(self, script: str, given: bytes = b"", patience: float = 120) -> str:
        """What the script, run by root's bash, says. Raises MachineError when it fails, or takes longer (s)."""
        status, said = self._run(script, given, patience)
        if status != 0:
            raise MachineError(f"{script}\n{said}")
        return said

    def _run(self, script: str, given: bytes, patience: float) -> tuple[int, str]:
        script = f"export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nset -euo pipefail\n{script}"
        end = time.monotonic() + patience
        with self._asking(patience) as line:
            asked = {"path": "/bin/bash", "arg": ["-c", script], "capture-output": True}
            if given:
                asked["input-data"] = base64.b64encode(given).decode()
            pid = line.ask("guest-exec", **asked)["pid"]
            while True:
                answer = line.ask("guest-exec-status", pid=pid)
                if answer["exited"]:
                    said = (base64.b64decode(answer.get(name, "")) for name in ("out-data", "err-data"))
                    return answer.get("exitcode", -1), b"".join(said).decode(errors="replace")
                if time.monotonic() > end:
                    raise MachineError(f"not done after {patience} s: {script}")
                time.sleep(0.1)

    def until(self, script: str, patience: float = 90) -> str:
        """What the script says once it succeeds. Raises MachineError, with the car's log, if not in time (s)."""
        end = time.monotonic() + patience
        while True:
            status, said = self._run(script, b"", patience)
            if status == 0:
                return said
            if time.monotonic() > end:
                log = self.run("journalctl --no-pager -n 40 -u hotlap-car -u NetworkManager -u hotlap-usb")
                raise MachineError(f"not within {patience} s: {script}\n{said}\n{log}")
            time.sleep(0.5)

    def _monitor(self, *asked: tuple[str, dict[str, Any]]) -> None:
        with _line(self._folder / "qmp", 20) as line:
            line.ask("qmp_capabilities")
            for command, arguments in asked:
                line.ask(command, **arguments)

    def plug(self) -> None:
        """The stick goes into the car's USB port."""
        self._monitor(
            (
                "device_add",
                {
                    "driver": "usb-storage",
                    "id": "port",
                    "bus": "usb.0",
                    "drive": "stick",
                    "share-rw": True,
                    "removable": True,
                },
            )
        )

    def pull(self) -> None:
        """The stick is pulled out, whatever is being done with it."""
        self._monitor(("device_del", {"id": "port"}))

    def cut_power(self) -> None:
        """Off and on again: what was not yet on the disk is lost. Returns when the machine answers again."""
        before = self.run("cat /proc/sys/kernel/random/boot_id")
        self._monitor(("system_reset", {}))
        self.await_boot_after(before)

    def await_boot_after(self, before: str) -> None:
        """Returns when the machine answers from another boot than that."""
        end = time.monotonic() + BOOT
        while time.monotonic() < end:
            self._await_answer()
            with suppress(OSError, MachineError, ValueError):
                if self.run("cat /proc/sys/kernel/random/boot_id", patience=10) != before:
                    return
        raise MachineError("the machine did not start again")

    def pulses(self) -> dict[int, int]:
        """How long the outputs of the PWM chip are on, in 4096ths of a period; 0 is switched off."""
        asked = "; ".join(f"i2cget -y 1 0x40 {6 + 4 * channel + place}" for channel in REST for place in range(4))
        values = [int(value, 16) for value in self.run(asked).split()]
        pulses = {}
        for channel in REST:
            on_l, on_h, off_l, off_h = values[4 * channel : 4 * channel + 4]
            pulses[channel] = 0 if off_h & OFF else (off_l | off_h << 8) - (on_l | on_h << 8)
        return pulses

    @contextmanager
    def plugged(self) -> Iterator[None]:
        self.plug()
        try:
            yield
        finally:
            self.pull()
