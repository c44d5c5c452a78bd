"""Car: the state of one car. Verbs change it, loops read and feed it, snapshot() shows it.

Everything runs on the thread of the event loop. Every change goes to the governor at once, through the mailbox.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from calibration import store as calibration_store
from calibration.calibration import Calibration, CalibrationError, pulse_of
from drivers.battery import LOW
from drivers.lights import FAILURE, CarFacts, Connection
from drivers.rig import DeviceError, Fittings
from drivers.signals import NEUTRAL, Action, Frame, LidarScan, Observation
from drivers.system import System
from drivers.wifi import Wifi, Wireless
from inference.actions import throttle_for_stick
from inference.package import ModelPackage, PackageError
from inference.policy import OpenVinoPolicy, Policy
from vehicle import tail
from vehicle.gate import DriveMode, Proposal
from vehicle.gauges import Gauges
from vehicle.governor import Doorbell
from vehicle.mailbox import Mailbox, Orders
from vehicle.models import ModelMissing, ModelStore
from vehicle.settings import Settings
from vehicle.state import VehicleState, status_line
from vehicle.worker import Worker

log = logging.getLogger(__name__)
T = TypeVar("T")

SILENCE: Final = 0.5
"""Seconds without a picture, or without an answer of the model, after which the car stops itself."""
SPREAD: Final = 0.1
"""Seconds that the parts of one observation may lie apart."""
EVENTS: Final = 1000
NO_WIFI: Final = "hotlap does not manage the Wi-Fi of this machine; set it up in the system."


def camera_name(place: int) -> str:
    """The device's name, as its faults have it."""
    return "camera" if place == 0 else f"camera {place + 1}"


class Refusal(RuntimeError):
    """The car does not do what was asked; the message says why, and what to do first."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling; `when` is wall-clock seconds since 1970, `level` that of logging."""

    when: float
    level: int
    text: str


class Newest(Generic[T]):
    """The newest value of a stream: no queue, a slow reader misses some."""

    def __init__(self) -> None:
        self.value: T | None = None
        self._came = asyncio.Event()

    def put(self, value: T) -> None:
        self.value = value
        came, self._came = self._came, asyncio.Event()
        came.set()

    async def next(self) -> T:
        """The first value put from now on."""
        await self._came.wait()
        assert self.value is not None
        return self.value


@dataclass(frozen=True, slots=True)
class Driver:
    """A model ready to decide: the package, its policy and the one thread that the policy runs in."""

    package: ModelPackage
    policy: Policy
    worker: Worker


class Car:
    def __init__(
        self,
        settings: Settings,
        store: ModelStore,
        calibration: Calibration,
        fittings: Fittings = Fittings(),  # noqa: B008 - it is frozen
        *,
        wireless: Wireless | None = None,
        system: System | None = None,
        open_policy: Callable[[ModelPackage], Policy] | None = None,
    ) -> None:
        self.settings, self.store, self._fittings = settings, store, fittings
        self.mailbox, self.doorbell = Mailbox.create(), Doorbell()
        self.mode, self.engaged = DriveMode.AUTONOMOUS, False
        self.max_speed = settings.drive.max_speed
        self.driver: Driver | None = None
        self.loading: str | None = None
        self.stopped_because: str | None = None
        self._failed = False
        self.wireless, self.system = wireless, system
        self._receiving = False
        self._joining = 0
        self.connection = Connection.OFF
        """How the Wi-Fi is, as its lamp tells it."""
        self._connection_since = 0.0
        self.battery: float | None = None
        self.network: tuple[str, ...] = ()
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.frames: tuple[Newest[Frame], ...] = tuple(Newest() for _ in range(fittings.cameras))
        self.scan: Newest[LidarScan] = Newest()
        self.observations: Newest[Observation] = Newest()
        self.changed = asyncio.Event()
        """Replaced and set at each change of what the car is doing."""
        self._open_policy = open_policy or self._open_openvino
        self.calibration = calibration
        self.colour = tail.load(store.root / "led_values.json")
        """Of the tail light."""
        self._proposals: dict[DriveMode, Proposal] = {}
        self._faults: dict[str, str] = {}
        self._lacking: set[str] = set()
        self._turn = 0
        self._loads = 0
        self.gauges = Gauges(self.mailbox)
        self._post()

    def close(self) -> None:
        """After the loops have ended."""
        if self.driver is not None:
            self.driver.worker.shutdown()
        self.doorbell.close()
        self.mailbox.close()

    # What people ask for ----------------------------------------------------------------------------------------

    def select(self, mode: DriveMode) -> None:
        """Change who may wish; the car stops first, and waits for a start."""
        if mode is not self.mode:
            self._halt()
            self.mode = mode
            self._tell(logging.INFO, f"Mode: {mode.value}.")
            self._post()

    def start(self) -> None:
        """Let the wishes of the mode through. Raises Refusal."""
        if self.engaged:
            return
        now = _now()
        if self.loading is not None:
            raise Refusal(f"The model {self.loading} is still being loaded; start when it is ready.")
        if "wires" in self._faults:
            raise Refusal(self._faults["wires"])
        if self.mode is DriveMode.AUTONOMOUS:
            if self.driver is None:
                raise Refusal("No model is loaded: choose one first.")
            for device in (*map(camera_name, range(len(self.frames))), "LiDAR"):
                if device in self._faults and self.needs(device):
                    raise Refusal(self._faults[device])
            seen = self.observations.value
            if seen is None or now - seen.t > SILENCE:
                raise Refusal("The car sees nothing: check the camera.")
        self._proposals.clear()
        self._turn += 1
        self.engaged, self.stopped_because, self._failed = True, None, False
        self._tell(logging.INFO, f"Started: {self.mode.value}.")
        self._post()

    def stop(self, reason: str | None = None) -> None:
        """Bring the car to rest, now. `reason` is given when the car stops itself. Always works."""
        if self.engaged:
            self.stopped_because = reason
            self._tell(logging.WARNING if reason else logging.INFO, f"Stopped: {reason}" if reason else "Stopped.")
        self._halt()
        self._post()

    def fail(self, reason: str) -> None:
        """Stop, because what the car drives with does not work; a lamp tells it until the next start or model."""
        self._failed = self._failed or self.engaged
        self.stop(reason)

    def limit_speed(self, part: float) -> None:
        """Set the maximum-speed slider, 0..1. Raises Refusal."""
        if not 0.0 <= part <= 1.0:
            raise Refusal(f"The maximum speed must lie in 0..1, not {part}.")
        self.max_speed = part
        self._changed()

    def steer(self, steering: float, stick: float) -> None:
        """Manual: the hand's wish of this moment, steering and stick -1..1 (+ left, + forward). Raises Refusal."""
        if not (-1.0 <= steering <= 1.0 and -1.0 <= stick <= 1.0):
            raise Refusal(f"Steering and throttle must lie in -1..1, not {steering} and {stick}.")
        action = Action(steering, throttle_for_stick(stick, self.max_speed))
        self.propose(DriveMode.MANUAL, Proposal(action, _now()))

    def trim(self, wire: str, units: float) -> None:
        """Calibration: hold one wire at this place of its slider for this moment, the other at rest.

        `wire` is steering or throttle; see calibration.pulse_of. Raises Refusal.
        """
        wide = self.calibration.trimming
        try:
            value = getattr(wide, wire).value(pulse_of(wire, units))
        except CalibrationError as error:
            raise Refusal(str(error)) from error
        action = Action(value, 0.0) if wire == "steering" else Action(0.0, value)
        self.propose(DriveMode.CALIBRATION, Proposal(action, _now()))

    async def calibrate(self, calibration: Calibration) -> None:
        """Drive with this trim from now on, and remember it. The car must stand. Raises Refusal, or OSError."""
        if self.engaged:
            raise Refusal("Stop the car before you store a calibration.")
        await asyncio.to_thread(calibration_store.save, self.store.root / "calibration.json", calibration)
        self.calibration = calibration
        self.well("calibration")
        self._tell(logging.INFO, "A new calibration was stored.")
        self._post()

    async def join(self, ssid: str, password: str = "", hidden: bool = False) -> None:
        """Change to another Wi-Fi network, as Wireless.connect. Raises Refusal, or DeviceError with what to do."""
        if self.wireless is None:
            raise Refusal(NO_WIFI)
        self._joining += 1
        self.connected(Connection.CONNECTING)
        try:
            await self.wireless.connect(ssid, password, hidden)
        except BaseException as error:
            self.connected(Connection.FAILED)
            if isinstance(error, DeviceError):
                self._tell(logging.WARNING, str(error))
            raise
        finally:
            self._joining -= 1
        self.connected(Connection.CONNECTED)
        self._tell(logging.INFO, f"Joined the Wi-Fi network {ssid}.")

    async def paint(self, colour: tail.Colour) -> None:
        """Light the tail light in this colour, and remember it. Raises Refusal, or OSError."""
        if not self._fittings.lights:
            raise Refusal("This car has no tail light that can be coloured.")
        await asyncio.to_thread(tail.save, self.store.root / "led_values.json", colour)
        self.colour = colour
        self._changed()

    async def load(self, name: str) -> None:
        """Make an installed model the driver, and the one to start with. The car stops first.

        The newest call wins; one that it overtakes raises Refusal, as does a model that this car cannot feed.
        Raises ModelMissing, or PackageError when the model cannot be loaded; the old one then still drives.
        """
        loop, worker = asyncio.get_running_loop(), Worker(f"model {name}")
        self._loads += 1
        turn = self._loads
        try:
            package = await loop.run_in_executor(worker, self.store.get, name)
            self._check(package, turn)
            self.stop(f"The model {name} is being loaded." if self.engaged else None)
            self.loading = name
            self._changed()
            policy = await loop.run_in_executor(worker, self._open_policy, package)
            self._check(package, turn)
        except BaseException as error:
            worker.shutdown()
            if isinstance(error, Refusal | ModelMissing) or not isinstance(error, Exception):
                raise
            sentence = f"The model {name} could not be loaded: {str(error) or type(error).__name__}"
            self._tell(logging.ERROR, sentence)
            raise PackageError(sentence) from error
        finally:
            if turn == self._loads:
                self.loading = None
                self._changed()
        self.stop(f"The model {name} was loaded." if self.engaged else None)
        if self.driver is not None:
            self.driver.worker.shutdown()
        self.driver, self._failed = Driver(package, policy, worker), False
        self.well("model")
        self._tell(logging.INFO, f"Loaded the model {name}.")
        self._changed()
        try:
            await asyncio.to_thread(self.store.activate, name)
        except (OSError, ModelMissing) as error:
            self._tell(logging.WARNING, f"The model {name} drives, but will not be remembered: {error}")

    async def remove(self, name: str) -> None:
        """Remove an installed model. Raises ModelMissing, OSError, or Refusal while it is the driver."""
        if self.driver is not None and self.driver.package.name == name:
            raise Refusal(f"The model {name} is loaded: load another one before you remove it.")
        await self.store.remove(name)
        self._tell(logging.INFO, f"Removed the model {name}.")

    def unfit(self, package: ModelPackage) -> str | None:
        """Why this car cannot drive with that model, if it cannot."""
        if package.cameras > len(self.frames):
            return f"{package.name} needs {package.cameras} camera(s), and this car has {len(self.frames)}."
        if package.needs_lidar and not self._fittings.lidar:
            return f"{package.name} needs a LiDAR, and this car has none."
        return None

    def needs(self, device: str) -> bool:
        """Whether the car cannot drive without it: servo and motor, a picture, and what the loaded model sees with."""
        if self.driver is not None and device == "LiDAR":
            return self.driver.package.needs_lidar
        return device == "wires" or device in map(camera_name, range(self._cameras))

    @property
    def _cameras(self) -> int:
        """How many the loaded model sees with; without one, the first serves those who drive by hand."""
        return self.driver.package.cameras if self.driver is not None else 1

    @property
    def fittings(self) -> Fittings:
        """What is built in or plugged in, whether or not it works at the moment."""
        cameras = sum(self.has(camera_name(place)) for place in range(len(self.frames)))
        return replace(self._fittings, cameras=cameras, lidar=self._fittings.lidar and self.has("LiDAR"))

    def has(self, device: str) -> bool:
        """Whether it is plugged in, as far as is known."""
        return device not in self._lacking

    def snapshot(self) -> VehicleState:
        report = self.mailbox.report()
        now = _now()
        return VehicleState(
            t=now,
            mode=self.mode,
            engaged=self.engaged,
            applied=report.applied if report else NEUTRAL,
            max_speed=self.max_speed,
            frames=self.gauges.pictures,
            model=self.driver.package.name if self.driver else None,
            loading=self.loading,
            rates=self.gauges.rates(now),
            latencies=self.gauges.latencies(now),
            realtime=report.realtime if report else False,
            battery=self.battery,
            network=self.network,
            faults=tuple(self._faults.values()),
            stopped_because=self.stopped_because,
        )

    # What the loops feed ----------------------------------------------------------------------------------------

    @property
    def turn(self) -> int:
        """Grows whenever the car starts or stops: what was begun before is void."""
        return self._turn

    def saw(self, place: int, frame: Frame) -> None:
        """A picture of that camera has come. With the others that the loaded model needs it makes an observation."""
        latest = self.frames[place].value
        if latest is not None and frame.t <= latest.t:
            return
        self.frames[place].put(frame)
        if place == 0:
            self.gauges.saw(frame.t)
        frames = [newest.value for newest in self.frames[: self._cameras]]
        if all(frames):
            parts = tuple(frame for frame in frames if frame is not None)
            oldest = min(part.t for part in parts)
            if max(part.t for part in parts) - oldest <= SPREAD:
                self._observe(oldest, parts)

    def _observe(self, oldest: float, parts: tuple[Frame, ...]) -> None:
        scan = self.scan.value
        if self.driver is None or not self.driver.package.needs_lidar:
            self.observations.put(Observation(oldest, parts))
        elif scan is not None:
            self.observations.put(Observation(min(oldest, scan.t), parts, scan))

    def felt(self, scan: LidarScan) -> None:
        """A turn of the LiDAR has come."""
        self.scan.put(scan)

    def decided(self, turn: int, action: Action, t: float, seconds: float) -> None:
        """The model has answered to what was seen at `t`, in that turn of the car; it took that many seconds."""
        self.gauges.decided(t, seconds)
        if turn == self._turn and self.engaged:
            limited = Action(action.steering, action.throttle * self.max_speed)
            self.propose(DriveMode.AUTONOMOUS, Proposal(limited, t))

    def propose(self, mode: DriveMode, proposal: Proposal) -> None:
        """Hand a wish to the governor, which lets it through or not."""
        self._proposals[mode] = proposal
        self._post()

    def drop(self, reason: str) -> None:
        """The model is not to be trusted any more."""
        self.fail(reason)
        if self.driver is not None:
            self.driver.worker.shutdown()
            self.driver = None
        self._changed()

    def connected(self, connection: Connection) -> None:
        """The Wi-Fi is so now."""
        if connection is not self.connection:
            self.connection, self._connection_since = connection, _now()
            self._changed()

    def looked(self, wifi: Wifi) -> None:
        """The Wi-Fi was looked at. What `join` tells counts more, and a failure for as long as its lamp shows it."""
        failed = self.connection is Connection.FAILED and _now() - self._connection_since < FAILURE
        if self._joining or failed:
            return
        if wifi.ssid is not None:
            self.connected(Connection.CONNECTED)
        elif wifi.connecting:
            self.connected(Connection.CONNECTING)
        elif self.connection is Connection.CONNECTING:
            self.connected(Connection.FAILED)
        else:
            self.connected(Connection.OFF)

    def receiving(self, receiving: bool) -> None:
        """Models are being taken from a USB drive, or no longer: the power lamp tells not to pull it out."""
        self._receiving = receiving
        self._changed()

    @property
    def facts(self) -> CarFacts:
        """What the status lamps tell. A stop that a person brought about, or a new model, is no failure."""
        return CarFacts(
            loading=self.loading is not None,
            running=True,
            updating=self._receiving,
            failed=self._failed or any(device == "model" or self.needs(device) for device in self._faults),
            wifi=self.connection,
            low_battery=self.battery is not None and self.battery < LOW,
        )

    def fault(self, device: str, sentence: str) -> None:
        """A device does not do its work, for the reason given, until `well` is called."""
        first = device not in self._faults
        self._lacking.discard(device)
        self._faults[device] = sentence
        if first:
            self._tell(logging.WARNING, sentence, device)
        self._changed()

    def has_fault(self, device: str) -> bool:
        return device in self._faults

    @property
    def faults(self) -> dict[str, str]:
        """A sentence for each device that does not do its work."""
        return dict(self._faults)

    @property
    def status(self) -> str:
        """One line, for the service manager."""
        model = f"model {self.driver.package.name}" if self.driver is not None else "no model"
        return status_line(f"{'Drives' if self.engaged else 'Stands'}; {model}", self._faults)

    def lacks(self, device: str, sentence: str) -> None:
        """A device that this car may have is not plugged in: a fault only while the car needs it."""
        if self.needs(device):
            self.fault(device, sentence)
        elif self._faults.pop(device, None) is not None:
            self._tell(logging.INFO, f"{_first_capital(device)} is not there, and not needed.", device)
        self._lacking.add(device)
        self._changed()

    def well(self, device: str) -> None:
        self._lacking.discard(device)
        if self._faults.pop(device, None) is not None:
            self._tell(logging.INFO, f"{_first_capital(device)} works again.", device)
            self._changed()

    # ------------------------------------------------------------------------------------------------------------

    def _check(self, package: ModelPackage, load: int) -> None:
        if load != self._loads:
            raise Refusal(f"The model {package.name} was overtaken by a newer choice.")
        reason = self.unfit(package)
        if reason:
            raise Refusal(reason)

    def _open_openvino(self, package: ModelPackage) -> Policy:
        return OpenVinoPolicy(package, self.settings.inference.device, self.store.cache(package))

    def _halt(self) -> None:
        self.engaged = False
        self._proposals.clear()
        self._turn += 1

    def _post(self) -> None:
        calibration = self.calibration.trimming if self.mode is DriveMode.CALIBRATION else self.calibration
        self.mailbox.post(Orders(self.mode, self.engaged, self._proposals, calibration))
        self.doorbell.ring()
        self._changed()

    def _changed(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _tell(self, level: int, text: str, device: str | None = None) -> None:
        log.log(level, "%s", text, stacklevel=2, extra={"HOTLAP_DEVICE": device} if device else None)
        self.events.append(Event(time.time(), level, text))


def _first_capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _now() -> float:
    return asyncio.get_running_loop().time()
