"""The stock car's routes, for the clients that people already have; docs/stock-api.md says where we are stricter."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, TypeAlias

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from calibration.calibration import CalibrationError
from inference.package import PackageError
from vehicle.car import Refusal
from vehicle.gate import DriveMode
from vehicle.models import ModelExists, ModelMissing
from webui import api, computer, garage, people
from webui.about import about
from webui.auth import TooManyAttempts, WeakPassword
from webui.desk import STOCK_COOKIE, Desk, Malformed, NoArchive, TooLarge, Visit, sentence
from webui.garage import Replace
from webui.link import Link
from webui.wheel import NotYours

HELD: Final = 1.0
"""Seconds that a manual command of this API is in force: its clients send five a second, or fewer."""
REPEAT: Final = 0.1
MOST_FIELDS: Final = 10
"""Fields of an upload's form that are looked at for the file."""
TOKEN_LIFE: Final = 12 * 3600
WIRES: Final = {"angle": "steering", "throttle": "throttle"}
MODEL: Final = "model"
"""The name of every model; what differs is its folder's."""
LOGS: Final = {"SYS": "system", "ROS": "daemon"}
NOT_SET: Final = "It was not set from this console yet; hotlap sets none by itself."
OLD_SSH_PASSWORD: Final = "The old password that is asked for here is the console's, not the one that SSH had."
NO_UPDATE: Final = "No updater is set up on this car; install new software by hand."
REFUSALS: Final = (
    Refusal,
    CalibrationError,
    NotYours,
    ModelExists,
    ModelMissing,
    PackageError,
    Malformed,
    TooLarge,
    NoArchive,
    WeakPassword,
    TooManyAttempts,
    OSError,
)
"""What these routes answer with `success: false` and the reason."""

Answer: TypeAlias = Mapping[str, Any]


class Tokens:
    """The tokens against forged requests that the login page carries, as its old clients expect."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._key, self._now = secrets.token_bytes(32), now

    def new(self) -> str:
        return self._sign(str(int(self._now()) + TOKEN_LIFE))

    def valid(self, token: str) -> bool:
        end, _, _ = token.partition(".")
        if not (token.isascii() and end.isdecimal() and len(end) < 12):
            return False
        return hmac.compare_digest(token, self._sign(end)) and self._now() < int(end)

    def _sign(self, end: str) -> str:
        return f"{end}.{hmac.new(self._key, end.encode(), hashlib.sha256).hexdigest()}"


class StockApi:
    """The handlers. Each takes a Visit and gives the JSON that the stock car would."""

    def __init__(self, desk: Desk, link: Link) -> None:
        self._desk, self._car, self._link = desk, desk.car, link
        self._loaded: str = "loaded"
        self._holding: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Let go of what is held."""
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.wait([self._holding])

    def routes(self) -> list[tuple[str, str, Callable[[Visit], Awaitable[object]]]]:
        """Method, path, handler. `*` is both PUT and POST."""
        return [
            ("*", "/api/password", self._password),
            ("*", "/api/manual_drive", self._manual_drive),
            ("*", "/api/drive_mode", self._drive_mode),
            ("*", "/api/start_stop", self._start_stop),
            ("*", "/api/max_nav_throttle", self._max_throttle),
            ("*", "/api/emergency_stop", self._emergency_stop),
            ("GET", "/api/control_modes_available", self._modes),
            ("GET!", "/api/set_calibration_mode", self._calibration_mode),
            ("GET", "/api/get_calibration/{type:angle|throttle}", self._get_calibration),
            ("*", "/api/set_calibration/{type:angle|throttle}", self._set_calibration),
            ("*", "/api/adjust_calibrating_wheels/{type:angle|throttle}", self._adjust),
            ("GET", "/api/get_led_color", self._get_colour),
            ("*", "/api/set_led_color", self._set_colour),
            ("GET", "/api/get_device_info", self._device_info),
            ("GET", "/api/get_device_status", self._device_status),
            ("GET", "/api/get_battery_level", self._battery),
            ("GET", "/api/get_sensor_status", self._sensors),
            ("GET", "/api/models", self._models),
            ("*", "/api/models/{folder}/{name}", self._load),
            ("GET", "/api/uploaded_model_list", self._uploaded),
            ("*", "/api/uploadModels", self._upload),
            ("*", "/api/deleteModels", self._delete),
            ("GET", "/api/is_model_installed", self._is_installed),
            ("GET", "/api/isModelLoading", self._is_loading),
            ("GET", "/api/get_mandatory_update_status", self._no_update),
            ("GET", "/api/is_software_update_available", self._no_update),
            ("*", "/api/set_mandatory_update_status", self._refuse_update),
            ("GET", "/api/begin_software_update", self._refuse_update),
            ("*", "/api/begin_software_update", self._refuse_update),
            ("GET", "/api/server_ready", self._ready),
            ("GET", "/api/isSshEnabled", self._ssh),
            ("GET!", "/api/enableSsh", self._enable_ssh),
            ("GET!", "/api/disableSsh", self._disable_ssh),
            ("GET", "/api/isSshDefaultPasswordChanged", self._ssh_password),
            ("*", "/api/resetSshPassword", self._set_ssh_password),
            ("GET", r"/api/logs/{type}/{lines:\d+}", self._logs),
            ("GET", "/api/is_usb_connected", self._usb),
            ("GET", "/api/get_network_details", self._network),
            ("GET", "/api/available_wifi_info", self._wifi),
            ("*", "/api/wifi_reset", self._wifi_reset),
            ("GET", "/api/supported_apis", self._supported),
            ("GET", "/api/get_time", self._time),
            ("GET", "/route", self._route),
        ]

    # Driving ----------------------------------------------------------------------------------------------------

    async def _manual_drive(self, visit: Visit) -> Answer:
        body = await _object(visit)
        angle, throttle = (_number(body, key, -1, 1) for key in ("angle", "throttle"))
        limit = _number(body, "max_speed", 0, 1)
        self._desk.wheel.take(visit.person)
        if self._car.mode is not DriveMode.MANUAL:
            raise Refusal("The car is not in manual mode: choose it with drive_mode first.")
        self._car.limit_speed(limit)
        # The stock pad counts as a screen does: right and down are positive.
        self._hold(lambda: self._car.steer(-angle, -throttle))
        return _done()

    async def _drive_mode(self, visit: Visit) -> Answer:
        mode = _choice(await _object(visit), "drive_mode", ("manual", "autonomous"))
        self._desk.wheel.take(visit.person)
        self._car.select(DriveMode(mode))
        return _done()

    async def _start_stop(self, visit: Visit) -> Answer:
        wish = _choice(await _object(visit), "start_stop", ("start", "stop"))
        if wish == "stop":
            self._car.stop()
        else:
            self._desk.wheel.take(visit.person)
            self._car.start()
        return _done()

    async def _max_throttle(self, visit: Visit) -> Answer:
        percent = _number(await _object(visit), "throttle", 0, 100)
        self._desk.wheel.take(visit.person)
        self._car.limit_speed(percent / 100)
        return _done()

    async def _emergency_stop(self, visit: Visit) -> Answer:
        self._car.stop()
        return _done()

    async def _modes(self, visit: Visit) -> Answer:
        return _done(control_modes_available=[mode.value for mode in DriveMode])

    def _hold(self, wish: Callable[[], None]) -> None:
        """Wish it now, and again until HELD seconds have passed or another wish comes."""
        if self._holding is not None:
            self._holding.cancel()
        wish()

        async def repeat() -> None:
            mode, turn = self._car.mode, self._car.turn
            for _ in range(round(HELD / REPEAT) - 1):
                await asyncio.sleep(REPEAT)
                if (self._car.mode, self._car.turn) != (mode, turn):
                    return
                wish()

        self._holding = asyncio.create_task(repeat())

    # Calibration ------------------------------------------------------------------------------------------------

    async def _calibration_mode(self, visit: Visit) -> Answer:
        self._desk.wheel.take(visit.person)
        self._car.select(DriveMode.CALIBRATION)
        self._car.start()
        return _done()

    async def _get_calibration(self, visit: Visit) -> Answer:
        trims = api.trims(self._car.calibration)
        trim = getattr(trims, WIRES[visit.request.match_info["type"]])
        figures = {key: round(getattr(trim, key)) for key in ("min", "mid", "max", "polarity")}
        return _done(**figures)

    async def _set_calibration(self, visit: Visit) -> Answer:
        body = await _object(visit)
        low, mid, high = (_number(body, key, -50, 50) for key in ("min", "mid", "max"))
        polarity = _number(body, "polarity", -1, 1)
        if polarity not in (1, -1):
            raise Malformed("polarity out of range")
        self._desk.wheel.take(visit.person)
        if self._car.mode is DriveMode.CALIBRATION:
            self._car.stop()
        trim = api.Trim(low, mid, high, 1 if polarity > 0 else -1)
        await api.set_trim(self._car, WIRES[visit.request.match_info["type"]], trim)
        return _done()

    async def _adjust(self, visit: Visit) -> Answer:
        units = _number(await _object(visit), "pwm", -50, 50)
        self._desk.wheel.take(visit.person)
        if self._car.mode is not DriveMode.CALIBRATION:
            raise Refusal("The car is not in calibration mode: ask for set_calibration_mode first.")
        wire = WIRES[visit.request.match_info["type"]]
        self._hold(lambda: self._car.trim(wire, units))
        return _done()

    # The car ----------------------------------------------------------------------------------------------------

    async def _get_colour(self, visit: Visit) -> Answer:
        return _done(**dict(zip(("red", "green", "blue"), self._car.colour, strict=True)))

    async def _set_colour(self, visit: Visit) -> Answer:
        body = await _object(visit)
        red, green, blue = (round(_number(body, key, 0, 255)) for key in ("red", "green", "blue"))
        await self._car.paint((red, green, blue))
        return _done()

    async def _device_info(self, visit: Visit) -> Answer:
        it = await asyncio.to_thread(about, self._car, self._desk.address.fingerprint)
        return _done(
            hardware_version=it.hardware,
            software_version=it.hotlap,
            cpu_model=it.processor,
            os_version=it.os,
            disk_amount=f"{it.disk.total >> 30} GB",
            ram_amount=f"{it.memory >> 30} GB",
        )

    async def _device_status(self, visit: Visit) -> Answer:
        it, state = await asyncio.to_thread(about, self._car, ""), self._car.snapshot()
        latency = state.latencies.frame_to_pulse_ms
        return _done(
            free_disk=it.disk.free, latency_mean=latency.p50, latency_p95=latency.p99, fps_mean=state.rates.camera
        )

    async def _battery(self, visit: Visit) -> Answer:
        charge = self._car.battery
        return _done(battery_level=-1 if charge is None else round(11 * charge))

    async def _sensors(self, visit: Visit) -> Answer:
        return _done(**self._sensor_status())

    def _sensor_status(self) -> dict[str, str]:
        def status(fitted: bool, device: str) -> str:
            if not fitted:
                return "not_connected"
            return "error" if self._car.has_fault(device) else "connected"

        fitted = self._car.fittings
        return {
            "camera_status": status(fitted.cameras > 0, "camera"),
            "stereo_status": status(fitted.cameras > 1, "camera 2"),
            "lidar_status": status(fitted.lidar, "LiDAR"),
        }

    # Models -----------------------------------------------------------------------------------------------------

    async def _described(self) -> list[garage.Model]:
        return garage.described(self._car, await asyncio.to_thread(self._car.store.installed))

    async def _models(self, visit: Visit) -> Answer:
        models = [
            {
                "model_name": MODEL,
                "model_folder_name": model.name,
                "model_training_algorithm": model.algorithm,
                "model_action_space_type": model.actions.type if model.actions else "",
                "model_sensors": list(model.sensors),
                "is_select_disabled": model.status != "ready",
            }
            for model in await self._described()
        ]
        models.sort(key=lambda model: bool(model["is_select_disabled"]))
        return {"models": models, "sensor_status": self._sensor_status()}

    async def _load(self, visit: Visit) -> Answer:
        folder, name = (visit.request.match_info[key] for key in ("folder", "name"))
        if name != MODEL:
            raise ModelMissing(f"There is no {name!r} in {folder!r}: each holds one {MODEL!r}.")
        self._desk.wheel.take(visit.person)
        # Who goes away while a model is loading has chosen it all the same.
        await asyncio.shield(self._load_model(folder))
        return _done()

    async def _load_model(self, folder: str) -> None:
        self._loaded = "loading"
        try:
            await self._car.load(folder)
        except Exception:
            self._loaded = "error"
            raise
        self._loaded = "loaded"

    async def _is_loading(self, visit: Visit) -> Answer:
        return _done(isModelLoading="loading" if self._car.loading else self._loaded)

    async def _uploaded(self, visit: Visit) -> list[Answer]:
        return [
            {
                "name": model.name,
                "size": f"{max(1, model.size >> 20)}M",
                "creation_time": model.installed,
                "status": "Ready" if model.status == "ready" else "Error",
                "training_algorithm": model.algorithm,
                "action_space_type": model.actions.type if model.actions else "",
                "sensors": ", ".join(model.sensors),
            }
            for model in await self._described()
        ]

    async def _upload(self, visit: Visit) -> Answer:
        request = visit.request
        if not request.content_type.startswith("multipart/"):
            raise Malformed("The upload must be a form with a file.")
        if request.content_length is not None and request.content_length > self._desk.largest_upload + (1 << 20):
            raise TooLarge(f"The file is too large: a model may have {self._desk.largest_upload >> 20} MB.")
        part = _Part(await _file_in(request))
        name = part.filename
        if not isinstance(name, str) or not name.endswith(".tar.gz"):
            return {"success": False, "message": "Failed to upload the model. Not a .tar.gz file"}
        try:
            await garage.install(self._desk, part, None, garage.name_of_upload(name), Replace(replace=True))
        except REFUSALS as error:
            return {"success": False, "message": sentence(error)}
        return {"success": True, "message": "Model uploaded successfully to your vehicle"}

    async def _delete(self, visit: Visit) -> Answer:
        names = (await _object(visit)).get("filenames")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Malformed("filenames must be a list of names")
        self._desk.wheel.take(visit.person)
        for name in names:
            await self._car.remove(name)
        return {"success": True, "message": f"Deleted {len(names)} model(s)."}

    async def _is_installed(self, visit: Visit) -> Answer:
        name = visit.request.query.get("filename", "")
        installed = bool(name) and garage.name_of_upload(name) in await asyncio.to_thread(self._car.store.names)
        return {"success": installed, "message": "Model is installed" if installed else "Model is not installed"}

    # Settings ---------------------------------------------------------------------------------------------------

    async def _password(self, visit: Visit) -> object:
        body = await _object(visit)
        old, new = body.get("old_password"), body.get("new_password")
        if not isinstance(old, str) or not isinstance(new, str):
            raise Malformed("old_password and new_password must be texts")
        try:
            cookie, _ = await people.change_password(self._desk, visit, old, new)
        except Refusal as error:
            raise Refusal("The password is incorrect. Provide your current password.") from error
        return signed_in(_done(), cookie)

    async def _no_update(self, visit: Visit) -> Answer:
        return _done(status=False)

    async def _refuse_update(self, visit: Visit) -> NoReturn:
        raise Refusal(NO_UPDATE)

    async def _ready(self, visit: Visit) -> Answer:
        return _done()

    async def _ssh(self, visit: Visit) -> Answer:
        found = await computer.ssh(self._desk, visit)
        return _done(isSshEnabled=found.enabled, reason=found.reason)

    async def _enable_ssh(self, visit: Visit) -> Answer:
        await computer.change_ssh(self._desk, visit.person, True)
        return await self._ssh(visit)

    async def _disable_ssh(self, visit: Visit) -> Answer:
        await computer.change_ssh(self._desk, visit.person, False)
        return await self._ssh(visit)

    async def _ssh_password(self, visit: Visit) -> Answer:
        found = await computer.ssh_password(self._desk, visit)
        return {
            "success": found.settable,
            "isDefaultSshPasswordChanged": found.was_set,
            "reason": found.reason or ("" if found.was_set else NOT_SET),
        }

    async def _set_ssh_password(self, visit: Visit) -> Answer:
        body = await _object(visit)
        old, new = body.get("oldPassword"), body.get("newPassword")
        if not isinstance(old, str) or not isinstance(new, str):
            raise Malformed("oldPassword and newPassword must be texts")
        try:
            await computer.change_ssh_password(self._desk, visit, old, new)
        except computer.NotThePassword as error:
            raise Refusal(OLD_SSH_PASSWORD) from error
        return _done()

    async def _logs(self, visit: Visit) -> Answer:
        kind, lines = visit.request.match_info["type"], int(visit.request.match_info["lines"][:6])
        if kind not in LOGS:
            raise Malformed(f"There is no log {kind[:40]!r}: ask for SYS or ROS.")
        if not 1 <= lines <= 1000:
            raise Malformed("Ask for 1 to 1000 lines.")
        log = self._desk.log if LOGS[kind] == "daemon" else self._desk.journal
        page = await log.read("", 0, "", lines)
        texts = [
            f"{datetime.fromtimestamp(entry.when).astimezone():%b %d %H:%M:%S} {entry.source}: {entry.text}"
            for entry in page.entries
        ]
        return _done(data="\n".join(texts) or (page.reason or ""))

    async def _usb(self, visit: Visit) -> Answer:
        return _done(is_usb_connected=False)

    async def _network(self, visit: Visit) -> Answer:
        found = await computer.network(self._desk, visit)
        ssid = (found.wifi.ssid or "") if found.wifi else ""
        return _done(is_usb_connected=False, SSID=ssid, ip_address=", ".join(found.addresses))

    async def _wifi(self, visit: Visit) -> list[Answer]:
        if self._car.wireless is None:
            return []
        return [
            {"ssid": seen.ssid, "strength": min(1 + seen.strength // 30, 4), "security_info": seen.security.value}
            for seen in await self._car.wireless.scan()
        ]

    async def _wifi_reset(self, visit: Visit) -> Answer:
        body = await _object(visit)
        ssid, password = body.get("wifi_name"), body.get("wifi_password", "")
        if not isinstance(ssid, str) or not isinstance(password, str):
            raise Malformed("wifi_name and wifi_password must be texts")
        await computer.change_network(self._desk, visit.person, ssid, password)
        found = await computer.network(self._desk, visit)
        return _done(ip_address=", ".join(found.addresses))

    async def _supported(self, visit: Visit) -> Answer:
        return _done(supported_apis=sorted({path for _, path, _ in self.routes()}))

    async def _time(self, visit: Visit) -> Answer:
        return _done(time=datetime.now().astimezone().isoformat(timespec="seconds"))

    async def _route(self, visit: Visit) -> web.StreamResponse:
        topic = visit.request.query.get("topic", "")
        topics = ("/camera_pkg/display_mjpeg", "/sensor_fusion_pkg/overlay_msg")
        if topic not in topics:
            raise Malformed(f"There is no such stream: ask for topic={' or topic='.join(topics)}.")
        return await self._link.camera(visit.request, 0)


class _Part:
    """A form's file, read as a request's content is."""

    def __init__(self, part: BodyPartReader | None) -> None:
        self._part = part

    @property
    def filename(self) -> str | None:
        return self._part.filename if self._part is not None else None

    async def read(self, size: int) -> bytes:
        assert self._part is not None
        with _form():
            return await self._part.read_chunk(size)


async def _file_in(request: web.Request) -> BodyPartReader | None:
    """The first file of a form. Raises Malformed."""
    with _form():
        parts = await request.multipart()
        for _ in range(MOST_FIELDS):
            part = await parts.next()
            if not isinstance(part, BodyPartReader):
                break
            if part.filename is not None:
                return part
            await part.release()
    return None


@contextlib.contextmanager
def _form() -> Iterator[None]:
    """Whatever is wrong with a form is Malformed."""
    try:
        yield
    except (ValueError, LookupError, AssertionError, RuntimeError, HttpProcessingError) as error:
        raise Malformed("The upload is no whole form with a file.") from error


def signed_in(answer: Answer, cookie: str) -> web.Response:
    """The answer, with the session as the stock car's clients carry it."""
    response = web.Response(text=json.dumps(answer), content_type="application/json")
    response.set_cookie(STOCK_COOKIE, cookie, path="/", secure=True, httponly=True, samesite="Strict")
    return response


def _done(**more: object) -> dict[str, object]:
    return {"success": True, **more}


def failed(error: Exception) -> Answer:
    """What the stock car says when it does not do a thing; the reason is ours."""
    return {"success": False, "reason": sentence(error)}


async def _object(visit: Visit) -> dict[str, object]:
    try:
        body = json.loads(await visit.request.read() or b"{}")
    except (ValueError, RecursionError) as error:
        raise Malformed("The body is no valid JSON.") from error
    if not isinstance(body, dict):
        raise Malformed("The body must be a JSON object.")
    return body


def _number(body: Mapping[str, object], key: str, low: float, high: float) -> float:
    value = body.get(key)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    # Not math.isnan: a whole number in JSON may be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise Malformed(f"{key} must be a number")
    if not low <= value <= high:
        raise Malformed(f"{key} out of range")
    return float(value)


def _choice(body: Mapping[str, object], key: str, choices: tuple[str, ...]) -> str:
    value = body.get(key)
    if not isinstance(value, str) or value not in choices:
        raise Malformed(f"{key} must be one of {', '.join(choices)}")
    return value


__all__ = ["REFUSALS", "StockApi", "Tokens", "failed", "signed_in"]
