"""The doctor's checks of what is wired to the car. They move nothing, and ask a device only while no daemon does."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from drivers import csi, kernel
from drivers.battery import LOCKED, LOW, STOCK_BUS, open_gauge, open_stock_gauge
from drivers.camera import CSI, Places, Video, find_videos
from drivers.gpio import STOCK_CHIP
from drivers.i2c import Device
from drivers.lidar import find_port
from drivers.pwm_pca9685 import ADDRESS, MODE1
from drivers.pwm_sysfs import MOTOR, PI, SERVO, STOCK, TAIL, find_chip
from drivers.rig import DeviceError
from vehicle.patient import AGAIN, USER, Patient, Verdict, parted, text

PI_BUS: Final = "dev/i2c-1"
ENABLE_BUS: Final = "Switch it on: raspi-config nonint do_i2c 0."
CAMERA_MAKER: Final = "29fe"
"""USB vendor of the DeepRacer's camera, GEO Semiconductor's GC6500, whose firmware the host loads at each start."""
BOOT_CAMERA: Final = (
    "Load it, as the stock car's start_cam.sh does: cd /opt/aws/deepracer/camera && sudo installed/bin/mxcam boot "
    "fw/gc6500_ddrboot_no_audio_fw.img fw/app_2ch.json fw/sensor_ov4689_intelAI_le.bin"
)


def wires(car: Patient) -> Verdict:
    car.need_devices()
    verdict, bus = _channels(car, (MOTOR, SERVO)), car.root / PI_BUS
    if verdict[0] == "ok" and car.is_pi and _pwm_chip(car) is None and car.may_ask(bus):
        Device("PWM chip", ADDRESS, partial(car.bus, bus)).read(MODE1)
        return "ok", f"The PCA9685 on {bus} answers.", ""
    return verdict


def switch(car: Patient) -> Verdict:
    car.need_devices()
    if car.is_pi:
        return "absent", "A Raspberry Pi car has no switch before its speed controller.", ""
    chip, files = kernel.find(car.root / "sys/bus/gpio/devices", STOCK_CHIP), car.root / "sys/class/gpio/export"
    node = car.root / "dev" / chip.name if chip is not None else files
    if not node.exists():
        return "bad", "There is no GPIO chip.", "Start a kernel that knows this car; see docs/on-the-car.md."
    if not car.may_write(node):
        return "bad", f"{node} is forbidden to the user {USER}.", AGAIN
    return "ok", f"The speed controller's switch is {USER}'s to set, by {node}.", ""


def cameras(car: Patient) -> Verdict:
    car.need_devices()
    # Whatever is there, whether or not it answers.
    everything = find_videos(car.root, lambda node: True)
    videos = [video for video in everything if any(part.startswith("usb") for part in video.place.parts)]
    if dumb := _without_firmware(car, everything):
        problem = f"The DeepRacer's camera (USB {dumb}) is there without a video device: it seems to lack its firmware."
        return "bad", problem, BOOT_CAMERA
    devices = car.known.devices
    pins = devices.left_camera, devices.right_camera
    nodes, missing = [video.node for video in videos], []
    places = Places(pins, car.root, lambda node: True)
    for which, pin in enumerate(pins):
        if pin and not pin.startswith(f"{CSI}:"):
            try:
                nodes.append(places.find(which))
            except DeviceError as error:
                missing.append(str(error))
    if missing:
        return "bad", *parted(*missing)
    by_ribbon = any(pin.startswith(f"{CSI}:") for pin in pins)
    if by_ribbon:
        nodes += sorted((car.root / "dev/dma_heap").glob("*")) + sorted((car.root / "dev").glob("media*"))
    forbidden = sorted({node.name for node in nodes if not car.may_write(node)})
    if forbidden:
        return "bad", f"{', '.join(forbidden)} is forbidden to the user {USER}.", AGAIN
    if mute := _mute(car, videos):
        return "bad", f"{mute} does not answer as a camera does.", "Unplug it and plug it in again."
    if by_ribbon and csi.find_program() is None:
        return "bad", f"The camera on the ribbon cable needs {csi.PROGRAMS[0]}.", csi.INSTALL
    if by_ribbon:
        by_usb = ", ".join(sorted(video.node.name for video in videos))
        by_usb = f"; by USB: {by_usb}" if by_usb else ""
        return "ok", f"One is on the ribbon cable, which is not looked at{by_usb}.", ""
    if not nodes and car.is_pi:
        return "warn", "No USB camera is found.", "Plug one in, or name the one on the ribbon cable in the settings."
    if not nodes:
        return "bad", "No camera is found.", "Plug it in."
    names = ", ".join(sorted({node.name for node in nodes}))
    if len(videos) > 2 and not devices.left_camera:
        return "warn", f"There are more than two cameras: {names}.", "Name the left and the right one in the settings."
    return "ok", f"{len(set(nodes))} found: {names}.", ""


def _without_firmware(car: Patient, videos: list[Video]) -> str:
    """The USB number of a DeepRacer's camera to which no video device belongs; empty where there is none."""
    for device in sorted((car.root / "sys/bus/usb/devices").glob("*")):
        if text(device / "idVendor") == CAMERA_MAKER:
            place = device.resolve()
            if not any(place in (video.place, *video.place.parents) for video in videos):
                return f"{CAMERA_MAKER}:{text(device / 'idProduct')}"
    return ""


def _mute(car: Patient, videos: list[Video]) -> str:
    """The cameras that do not say they are one, where they may be asked."""
    if car.runs:
        return ""
    answering = {video.place for video in find_videos(car.root, car.query)}
    return ", ".join(sorted(video.node.name for video in videos if video.place not in answering))


def lidar(car: Patient) -> Verdict:
    car.need_devices()
    named = car.known.devices.lidar
    port = car.root / named.lstrip("/") if named else find_port(car.root)
    if port is None:
        return "absent", "No LiDAR is plugged in.", ""
    if not port.exists():
        problem = f"There is no port {port}, which the settings name."
        return "bad", problem, "Plug the LiDAR in, or correct the settings."
    if not car.may_write(port):
        return "bad", f"The LiDAR's port {port} is forbidden to the user {USER}.", AGAIN
    return "ok", f"It is at {port}.", ""


def battery(car: Patient) -> Verdict:
    car.need_devices()
    wish = car.known.devices.gauge
    if wish == "none" or (car.is_pi and not wish):
        return "absent", "The settings name no gauge.", ""
    if car.is_pi:
        node = car.root / PI_BUS
        verdict = _bus(car, node, f"the bus of the {wish}", ENABLE_BUS)
        gauge = open_gauge(wish, partial(car.bus, node), None)
    else:
        bus = kernel.find(car.root / "sys/class/i2c-dev", STOCK_BUS)
        node = car.root / "dev" / (bus.name if bus is not None else "i2c-7")
        verdict = _bus(car, node, "the battery gauge's bus", "Load its driver: modprobe i2c-dev.")
        gauge = open_stock_gauge(wish, car.root, car.bus)
    if verdict[0] != "ok" or gauge is None or not car.may_ask(node):
        return verdict
    charge = asyncio.run(gauge.read())
    if charge is None:
        return "bad", LOCKED, ""
    if charge < LOW:
        return "warn", f"The drive battery is at {charge:.0%}.", "Change it soon, before it locks itself."
    return "ok", f"The gauge on {node} answers: the drive battery is at {charge:.0%}.", ""


def lights(car: Patient) -> Verdict:
    car.need_devices()
    state, sentence, advice = _channels(car, TAIL)
    if state == "ok" and not car.is_pi:
        state, sentence, advice = switch(car)
    if state != "ok":
        return "warn", sentence, advice
    return "ok", "They are within reach.", ""


def _pwm_chip(car: Patient) -> Path | None:
    return find_chip(car.root, PI if car.is_pi else STOCK)


def _channels(car: Patient, numbers: tuple[int, ...]) -> Verdict:
    """Whether the daemon may drive these outputs."""
    chip = _pwm_chip(car)
    if chip is None and car.is_pi:
        return _bus(car, car.root / PI_BUS, "the PCA9685's bus", ENABLE_BUS)
    if chip is None:
        advice = "Start a kernel that knows this car's PWM chip; see docs/on-the-car.md."
        return "bad", f"There is no PWM chip behind {STOCK}.", advice
    for number in numbers:
        channel = chip / f"pwm{number}"
        if not channel.exists():
            return "bad", f"{chip.name} has no channel {number} yet.", "Run udevadm trigger, or start the car anew."
        for name in ("enable", "duty_cycle", "period"):
            if not car.may_write(channel / name):
                return "bad", f"The user {USER} may not write {channel / name}.", AGAIN
    return "ok", f"{chip.name} and its channels {', '.join(map(str, numbers))} are {USER}'s to drive.", ""


def _bus(car: Patient, node: Path, name: str, advice: str) -> Verdict:
    if not node.exists():
        return "bad", f"{node}, {name}, is not there.", advice
    if not car.may_write(node):
        return "bad", f"{node}, {name}, is forbidden to the user {USER}.", AGAIN
    return "ok", f"{node}, {name}, is {USER}'s to use.", ""
