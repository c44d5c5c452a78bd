"""The console in a real browser, in front of the simulator as a real process."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from calibration import store as calibration_store
from calibration.calibration import Calibration, Channel, pulse_of
from drivers.signals import ActuatorCommand
from sim_stub.wires import Tape
from tests.browser import CHROMIUM, QUIET
from tests.webui.visits import PASSWORD
from vehicle.state import VehicleState

ROOT = Path(__file__).parents[2]
AXE = ROOT / "webui" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
STOCK = ROOT.parent / "shared" / "data"
PAGES = ("", "models", "calibration", "calibration/steering", "calibration/speed", "settings", "logs")
ANY_CERTIFICATE = ssl.create_default_context()
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


class Simulator:
    """`python -m sim_stub`, with its console, for as long as the context lasts; and a program that has unlocked it."""

    def __init__(self, state: Path, *options: str) -> None:
        (state / "known").write_text(PASSWORD)
        command = [sys.executable, "-m", "sim_stub", "--state", str(state), "--password-file", str(state / "known")]
        self.process = subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert "the console is at" in said
        self.address = said.split()[-1]
        self.folder = state
        self.tape = Tape(state / "wires")
        self._cookie = self._token = ""

    @property
    def port(self) -> str:
        return self.address.rstrip("/").rpartition(":")[2]

    def _send(self, method: str, path: str, wish: object = None) -> Any:
        headers = {"Cookie": self._cookie, "X-CSRF-Token": self._token}
        body = None if wish is None else json.dumps(wish).encode()
        request = urllib.request.Request(f"{self.address}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=20, context=ANY_CERTIFICATE) as answer:
            if cookie := answer.headers.get("Set-Cookie"):
                self._cookie = cookie.partition(";")[0]
            return json.loads(answer.read())

    def ask(self, method: str, path: str, wish: object = None) -> Any:
        if not self._token:
            self._token = self._send("POST", "api/v1/login", {"password": PASSWORD, "name": "A program"})["csrf"]
        return self._send(method, f"api/v1/{path}", wish)

    def state(self) -> VehicleState:
        return VehicleState.from_json(json.dumps(self.ask("GET", "state")))

    def pulses(self) -> ActuatorCommand:
        latest = self.tape.latest()
        assert latest is not None
        return latest.command

    def at_rest(self) -> bool:
        return self.pulses() == self.rest

    @property
    def rest(self) -> ActuatorCommand:
        kept = calibration_store.load(self.folder / "calibration.json").calibration
        return ActuatorCommand(kept.steering.mid_ns, kept.throttle.mid_ns)

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "that took too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextlib.contextmanager
def simulator_of(installed: Path, folder: Path, *options: str) -> Iterator[Simulator]:
    state = shutil.copytree(installed, folder / "state", symlinks=True)
    with Simulator(state, "--port", "0", *options) as simulator:
        until(lambda: simulator.state().engaged)
        yield simulator


@pytest.fixture(scope="module")
def simulator(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator_of(installed, tmp_path_factory.mktemp("page")) as simulator:
        yield simulator


@contextlib.contextmanager
def visit(
    browser: Browser,
    simulator: Simulator,
    *,
    name: str = "Anna",
    theme: Any = "dark",
    width: int = 1280,
    mild: str = "",
) -> Iterator[Page]:
    """Somebody who has unlocked the car. What the browser complains about, or asks of others, is a failure."""
    complaints: list[str] = []
    addresses: list[str] = []
    context = browser.new_context(
        ignore_https_errors=True, color_scheme=theme, viewport={"width": width, "height": 900}, accept_downloads=True
    )
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    try:
        page.goto(simulator.address)
        unlock(page, name)
        yield page
    finally:
        page.close()
        context.close()
    assert [text for text in complaints if not mild or mild not in text] == []
    own = (simulator.address, simulator.address.replace("https", "wss"), "data:", "blob:")
    assert all(address.startswith(own) for address in addresses)


def unlock(page: Page, name: str = "Anna", password: str = PASSWORD) -> None:
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_label("Your name, if you like").fill(name)
    page.get_by_role("button", name="Unlock").click()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


@pytest.fixture
def page(browser: Browser, simulator: Simulator) -> Iterator[Page]:
    """The control page of a car that drives by its model, and Anna in front of it, who has the wheel."""
    with visit(browser, simulator) as page:
        simulator.ask("POST", "stop", {})
        page.get_by_role("button", name="Take the wheel").click()
        if simulator.state().mode.value != "autonomous":
            page.get_by_role("radio", name="Autonomous").click()  # the car's word, not the click, checks it
            until(lambda: simulator.state().mode.value == "autonomous")
        expect(page.locator("#max-speed")).to_be_enabled()
        page.locator("#max-speed").fill("100")
        until(lambda: simulator.state().max_speed == 1.0)
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#doing")).to_have_text("Driving")
        yield page


# Watching -----------------------------------------------------------------------------------------------------------


def test_the_camera_shows_a_moving_picture_until_it_is_switched_off(page: Page) -> None:
    camera = page.get_by_role("img", name="What the car sees")
    until(lambda: camera.evaluate("image => image.naturalWidth") == 160)
    before = camera.screenshot()
    until(lambda: camera.screenshot() != before)
    page.get_by_label("Video stream").uncheck()
    expect(page.locator("#camera img:not([src])")).to_have_count(1)
    expect(page.get_by_text("The video stream is off")).to_be_visible()


def test_the_car_moves_on_the_map_and_its_figures_with_it(page: Page) -> None:
    expect(page.locator("#map-name")).to_have_text("re:Invent 2018")
    place, speed = page.locator("#map .car"), page.locator("#speed .value b")
    seen = {place.get_attribute("transform")}
    while len(seen) < 5:
        expect(place).not_to_have_attribute("transform", str(place.get_attribute("transform")))
        seen.add(place.get_attribute("transform"))
    until(lambda: float(speed.inner_text()) > 0.3)
    until(lambda: "L" in (page.locator("#latency .line").get_attribute("d") or ""))
    expect(page.locator("#events li").last).to_contain_text("Loaded the model sample.")


def test_the_page_is_ready_in_half_a_second(page: Page) -> None:
    page.reload()
    expect(page.locator("#map .car")).to_have_attribute("visibility", "visible")
    script = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    times = []
    for _ in range(3):
        page.reload()
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        times.append(page.evaluate(script))
    assert min(times) < 500


def test_the_first_load_is_small(simulator: Simulator) -> None:
    dist = ROOT / "webui" / "frontend" / "dist"
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in dist.iterdir()}
    assert {"index.html", "app.js", "style.css"} <= sizes.keys()
    assert sum(sizes.values()) < 80 << 10


# Driving by the model -----------------------------------------------------------------------------------------------


def test_stop_stops_and_start_starts(page: Page, simulator: Simulator) -> None:
    page.get_by_role("button", name="Stop").click()
    until(lambda: not simulator.state().engaged and simulator.at_rest(), 1.0)
    expect(page.locator("#doing")).to_have_text("Stopped")
    page.get_by_role("button", name="Start").click()
    until(lambda: simulator.state().engaged)
    expect(page.locator("#doing")).to_have_text("Driving")
    expect(page.get_by_role("button", name="Start")).to_be_disabled()


def test_escape_stops_wherever_one_is(page: Page, simulator: Simulator) -> None:
    page.get_by_role("slider", name="Maximum speed").focus()
    page.keyboard.press("Escape")
    until(lambda: not simulator.state().engaged, 1.0)


def test_the_slider_sets_the_maximum_speed_in_fine_and_coarse_steps(page: Page, simulator: Simulator) -> None:
    slider = page.get_by_role("slider", name="Maximum speed")
    slider.fill("60")
    until(lambda: simulator.state().max_speed == 0.6)
    slider.press("ArrowLeft")
    until(lambda: simulator.state().max_speed == 0.59)
    page.get_by_role("button", name="Maximum speed: less by 10").click()
    until(lambda: simulator.state().max_speed == 0.49)
    page.get_by_role("button", name="Maximum speed: more by 1", exact=True).click()
    until(lambda: simulator.state().max_speed == 0.5)


def test_a_package_is_uploaded_loaded_and_drives_three_laps(browser: Browser, installed: Path, tmp_path: Path) -> None:
    archives = sorted(STOCK.rglob("*.tar.gz")) if STOCK.is_dir() else []
    stock = next((path for path in archives if "sample" in path.name.lower()), None)
    archive = shutil.copy(stock or ROOT / "vehicle" / "sample.tar.gz", tmp_path / "downloaded.tar.gz")
    with simulator_of(installed, tmp_path) as simulator, visit(browser, simulator) as page:
        page.get_by_role("link", name="Models").click()
        page.get_by_label("Model archives").set_input_files(archive)
        row = page.get_by_role("listitem").filter(has_text="downloaded").last
        expect(row).to_contain_text("Ready", timeout=30_000)
        row.get_by_role("button", name="Details of downloaded").click()
        expect(row.get_by_role("img")).to_be_visible()
        page.get_by_role("link", name="Control").click()
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("combobox", name="Model").select_option("downloaded")
        page.get_by_role("button", name="Load").click()
        until(lambda: simulator.state().model == "downloaded", 30)
        assert not simulator.state().engaged
        page.locator("#max-speed").fill("100")
        page.get_by_role("button", name="Start").click()
        before = page.locator("#laps li").count()
        until(lambda: page.locator("#laps li").count() >= before + 3, 50)
        page.get_by_role("button", name="Stop").click()
        until(simulator.at_rest, 1.0)
        page.get_by_role("link", name="Models").click()
        page.get_by_label("Mark sample").check()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("listitem").filter(has_text="sample")).to_have_count(0)
        assert [model["name"] for model in simulator.ask("GET", "models")] == ["downloaded"]


def test_what_is_no_model_is_refused_in_a_sentence_and_a_known_name_is_asked_about(
    browser: Browser, simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "notes.tar.gz").write_bytes(b"no archive")
    shutil.copy(ROOT / "vehicle" / "sample.tar.gz", tmp_path / "sample.tar.gz")
    with visit(browser, simulator, mild="Failed to load resource") as page:
        page.get_by_role("link", name="Models").click()
        files = [tmp_path / "notes.tar.gz", tmp_path / "sample.tar.gz"]
        page.get_by_label("Model archives").set_input_files(files)
        uploads = page.get_by_role("region", name="Uploads").get_by_role("listitem")
        expect(uploads.filter(has_text="notes").get_by_role("status")).to_contain_text("archive")
        known = uploads.filter(has_text="sample")
        expect(known).to_contain_text("A model of this name is on the car already.")
        known.get_by_role("button", name="Replace").click()
        expect(known).to_contain_text("Installed.", timeout=20_000)


def test_what_is_dropped_on_the_page_is_uploaded(browser: Browser, simulator: Simulator) -> None:
    with visit(browser, simulator, mild="Failed to load resource") as page:
        page.get_by_role("link", name="Models").click()
        expect(page.get_by_role("heading", name="sample")).to_be_visible()
        dropped = page.evaluate_handle(
            """() => {
              const brought = new DataTransfer();
              for (const name of ["one.tar.gz", "two.tar.gz"]) brought.items.add(new File(["no archive"], name));
              return brought;
            }"""
        )
        page.get_by_text("Drop model archives").dispatch_event("drop", {"dataTransfer": dropped})
        uploads = page.get_by_role("region", name="Uploads").get_by_role("listitem")
        expect(uploads).to_have_count(2)
        for name in ("one", "two"):
            expect(uploads.filter(has_text=name).get_by_role("status")).to_contain_text("This is no .tar.gz archive")


# Driving by hand ----------------------------------------------------------------------------------------------------


@pytest.fixture
def manual(page: Page, simulator: Simulator) -> Page:
    """The page of a car that is started in manual mode."""
    page.get_by_role("radio", name="Manual").click()
    until(lambda: simulator.state().mode.value == "manual")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#doing")).to_have_text("Driving by hand")
    return page


def press_pad(page: Page, across: float, up: float) -> None:
    """Hold the pad at that place, -1..1 from its middle: right, up."""
    box = page.locator("#pad").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * (1 + across) / 2, box["y"] + box["height"] * (1 - up) / 2)
    page.mouse.down()


def test_the_pad_moves_the_pulses_and_letting_go_is_neutral(manual: Page, simulator: Simulator) -> None:
    manual.locator("#pad").scroll_into_view_if_needed()
    press_pad(manual, -0.7, 0.8)
    rest = simulator.rest
    until(lambda: simulator.pulses().steering_ns > rest.steering_ns + 100_000)
    assert simulator.pulses().throttle_ns < rest.throttle_ns - 50_000, "forward is the shorter pulse"
    manual.mouse.up()
    until(simulator.at_rest, 0.5)
    assert simulator.state().engaged


def test_keys_drive_and_space_stops(manual: Page, simulator: Simulator) -> None:
    manual.locator("#pad").focus()
    manual.keyboard.down("ArrowUp")
    manual.keyboard.down("KeyD")
    until(lambda: simulator.pulses().steering_ns < simulator.rest.steering_ns - 100_000)
    manual.keyboard.press("Space")
    until(lambda: simulator.at_rest() and not simulator.state().engaged, 1.0)


def test_a_lost_link_is_neutral_within_half_a_second(manual: Page, simulator: Simulator) -> None:
    manual.locator("#pad").scroll_into_view_if_needed()
    press_pad(manual, 0.5, 0.9)
    until(lambda: not simulator.at_rest())
    with manual.expect_event("close"):
        manual.close()
    until(simulator.at_rest, 0.5)
    until(lambda: not simulator.state().engaged, 2.0)


def test_a_page_that_freezes_is_neutral_within_half_a_second(manual: Page, simulator: Simulator) -> None:
    manual.locator("#pad").scroll_into_view_if_needed()
    press_pad(manual, 0.5, 0.9)
    until(lambda: not simulator.at_rest())
    manual.evaluate("setTimeout(() => { const end = Date.now() + 1500; while (Date.now() < end); }, 0)")
    until(simulator.at_rest, 1.0)
    manual.mouse.up()


def test_a_hidden_page_lets_go(manual: Page, simulator: Simulator) -> None:
    manual.locator("#pad").scroll_into_view_if_needed()
    press_pad(manual, 0.5, 0.9)
    until(lambda: not simulator.at_rest())
    manual.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", { value: true, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    until(simulator.at_rest, 0.5)
    manual.mouse.up()


def test_a_gamepad_drives(manual: Page, simulator: Simulator) -> None:
    hold = """([steer, trigger]) => {
      const button = (value) => ({ value, pressed: value > 0, touched: value > 0 });
      const buttons = Array.from({ length: 17 }, (_, at) => button(at === 7 ? trigger : 0));
      navigator.getGamepads = () => [{ mapping: "standard", axes: [steer, 0, 0, 0], buttons }];
    }"""
    rest = simulator.rest
    manual.evaluate(hold, [-1, 0.8])
    until(lambda: simulator.pulses().steering_ns > rest.steering_ns + 100_000)
    assert simulator.pulses().throttle_ns < rest.throttle_ns - 50_000
    manual.evaluate(hold, [0, 0])
    until(simulator.at_rest, 0.5)


def test_two_people_and_one_wheel(page: Page, browser: Browser, simulator: Simulator) -> None:
    with visit(browser, simulator, name="Ben") as ben:
        expect(ben.locator("#driver, #wheel").first).to_contain_text("Anna")
        expect(ben.locator("#max-speed")).to_be_disabled()
        ben.get_by_role("button", name="Ask for the wheel").click()
        expect(page.get_by_text("Ben asks for the wheel")).to_be_visible()
        page.get_by_role("button", name="Hand over").click()
        expect(ben.locator("#max-speed")).to_be_enabled()
        expect(page.locator("#max-speed")).to_be_disabled()
        page.get_by_role("button", name="Stop").click()
        until(lambda: not simulator.state().engaged, 1.0)


# Calibration --------------------------------------------------------------------------------------------------------

MINUS = "\N{MINUS SIGN}"
TRUTH = Calibration(
    Channel(pulse_of("steering", -24), pulse_of("steering", 3), pulse_of("steering", 26), 1),
    Channel(pulse_of("throttle", -40), pulse_of("throttle", -6), pulse_of("throttle", 30), 1),
)


def turn(page: Page, slider: str, simulator: Simulator, wire: str, wanted_ns: int) -> None:
    """Move a slider by its arrow keys until the pulse is the one at which the car's true wheels do what is wanted."""
    place = page.get_by_role("slider", name=slider)
    place.focus()
    # Where wheels would spin, they stand until the slider is moved.
    place.press("ArrowRight")
    place.press("ArrowLeft")
    for _ in range(100):
        sign = -1 if wire == "throttle" and page.get_by_role("heading", name="Stopped").count() else 1
        wish = pulse_of(wire, sign * float(place.input_value()))
        until(lambda wish=wish: getattr(simulator.pulses(), f"{wire}_ns") == wish)  # type: ignore[misc]
        if wish == wanted_ns:
            return
        place.press("ArrowRight" if sign * (wanted_ns - wish) > 0 else "ArrowLeft")
    raise AssertionError("the slider does not come there")


def test_both_wizards_find_the_trim_of_the_car(browser: Browser, installed: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_bytes(calibration_store.serialise(TRUTH))
    with (
        simulator_of(installed, tmp_path, "--truth", str(tmp_path / "truth.json")) as simulator,
        visit(browser, simulator) as page,
    ):
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("link", name="Calibration").click()
        page.get_by_role("link", name="Calibrate steering").click()
        page.get_by_role("button", name="Next").click()
        turn(page, "Centre value", simulator, "steering", TRUTH.steering.mid_ns)
        page.get_by_role("button", name="Next").click()
        turn(page, "Maximum left value", simulator, "steering", TRUTH.steering.max_ns)
        page.get_by_role("button", name="Next").click()
        turn(page, "Maximum right value", simulator, "steering", TRUTH.steering.min_ns)
        page.get_by_role("button", name="Done").click()
        expect(page.locator("#steering dd")).to_have_text(["3", "26", f"{MINUS}24"])
        until(simulator.at_rest, 1.0)

        page.get_by_role("link", name="Calibrate speed").click()
        page.get_by_role("button", name="Next").click()
        # The stock trim counts forward as the shorter pulse, and this slider with it.
        turn(page, "Stopped value", simulator, "throttle", TRUTH.throttle.mid_ns)
        page.get_by_role("button", name="Next").click()
        page.get_by_role("switch", name="Reverse direction").check()
        page.get_by_role("button", name="Next").click()
        turn(page, "Maximum forward value", simulator, "throttle", TRUTH.throttle.max_ns)
        page.get_by_role("button", name="Next").click()
        turn(page, "Maximum backward value", simulator, "throttle", TRUTH.throttle.min_ns)
        page.get_by_role("button", name="Done").click()
        expect(page.locator("#throttle dd")).to_have_text([f"{MINUS}6", "30", f"{MINUS}40"])
        until(simulator.at_rest, 1.0)
        assert simulator.state().mode.value == "autonomous"
        assert not simulator.state().engaged
    assert calibration_store.load(simulator.folder / "calibration.json").calibration == TRUTH


def test_cancel_stores_nothing_and_leaving_puts_the_wheels_to_rest(page: Page, simulator: Simulator) -> None:
    before = simulator.ask("GET", "calibration")
    page.get_by_role("button", name="Stop").click()
    for leaving in ("Cancel", "Control"):
        page.goto(f"{simulator.address}#/calibration/steering")
        page.get_by_role("button", name="Next").click()
        place = page.get_by_role("slider", name="Centre value")
        place.fill("20")
        until(lambda: simulator.pulses().steering_ns == pulse_of("steering", 20))
        page.get_by_text(leaving, exact=True).click()
        until(simulator.at_rest, 0.5)
        until(lambda: simulator.state().mode.value == "autonomous")
    assert simulator.ask("GET", "calibration") == before


# Settings, logs and the door ----------------------------------------------------------------------------------------


def test_the_first_password_must_be_changed_and_the_new_one_opens(
    browser: Browser, installed: Path, tmp_path: Path
) -> None:
    state = shutil.copytree(installed, tmp_path / "state", symlinks=True)
    command = [sys.executable, "-m", "sim_stub", "--state", str(state), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline().split(" is ")[1].split(";")[0]
        address = process.stdout.readline().split()[-1]
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(address)
        page.get_by_label("Password", exact=True).fill("not this one")
        page.get_by_role("button", name="Unlock").click()
        expect(page.get_by_role("alert")).to_contain_text("This is not the car's password.")
        page.get_by_label("Password", exact=True).fill(first)
        page.get_by_role("button", name="Unlock").click()
        page.get_by_label("New password", exact=True).fill("password1")
        page.get_by_label("The new password again").fill("password1")
        page.get_by_role("button", name="Change password").click()
        expect(page.get_by_role("alert")).to_contain_text("one of the first that others would try")
        page.get_by_label("New password", exact=True).fill("seven blue teapots")
        page.get_by_label("The new password again").fill("seven blue teapots")
        page.get_by_role("button", name="Change password").click()
        expect(page.get_by_text(".local").first).to_be_visible()
        page.get_by_role("button", name="Go to the car").click()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Password", exact=True).fill("seven blue teapots")
        page.get_by_role("button", name="Unlock").click()
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        context.close()
        process.terminate()


def test_the_tail_light_and_the_facts_are_on_the_settings_page(page: Page, simulator: Simulator) -> None:
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.get_by_role("radio", name="Marigold").check()
    page.get_by_role("button", name="Save").click()
    until(lambda: simulator.ask("GET", "light")["green"] == 130)
    expect(page.get_by_text("simulated car")).to_be_visible()
    check_up = page.get_by_role("region", name="Check-up")
    check_up.get_by_role("button", name="Look").click()
    expect(check_up.get_by_role("listitem").filter(has_text="OpenVINO")).to_contain_text("Well", timeout=20_000)
    expect(page.get_by_text(simulator.ask("GET", "about")["openvino"], exact=True)).to_be_visible()


def test_logs_are_live_filtered_and_downloaded(page: Page, simulator: Simulator) -> None:
    page.get_by_role("link", name="Logs").click()
    entries = page.locator("main").get_by_role("listitem")
    expect(entries.filter(has_text="Started: autonomous.").first).to_be_visible()
    simulator.ask("POST", "stop", {})
    expect(entries.filter(has_text="Stopped.").last).to_be_visible(timeout=8_000)
    page.get_by_label("Text").fill("Loaded the model")
    expect(entries.filter(has_text="Stopped.")).to_have_count(0)
    expect(entries.filter(has_text="Loaded the model").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert "Loaded the model sample." in Path(download.value.path()).read_text("utf-8")
    page.get_by_role("radio", name="System").check()
    expect(page.locator("main")).to_contain_text("journal")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [360, 820, 1280])
def test_every_page_is_accessible_fits_and_keeps_stop_in_reach(
    browser: Browser, simulator: Simulator, theme: str, width: int
) -> None:
    with visit(browser, simulator, theme=theme, width=width) as page:
        # A colour that is still changing has no contrast to be measured.
        page.emulate_media(reduced_motion="reduce")
        page.evaluate(AXE.read_text("utf-8"))
        for place in PAGES:
            page.goto(f"{simulator.address}#/{place}")
            expect(page.get_by_role("heading", level=1).or_(page.locator("#camera")).first).to_be_visible()
            for button in page.get_by_role("button", name="Next").all():
                expect(button).to_be_enabled()
            found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], place
            assert page.evaluate("document.documentElement.scrollWidth") <= width, place
            stop = page.get_by_role("button", name="Stop").bounding_box()
            assert stop is not None
            assert stop["height"] >= 44
            assert 0 <= stop["y"] <= 900 - stop["height"]


def test_the_page_tells_why_the_car_stopped_and_when_the_link_is_lost(
    browser: Browser, installed: Path, tmp_path: Path
) -> None:
    state = shutil.copytree(installed, tmp_path / "state", symlinks=True)
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    with Simulator(state, "--port", "0", "--fault", "camera@1") as simulator:
        page.goto(simulator.address)
        unlock(page)
        alarm = page.get_by_role("alert").filter(has_text="The car has stopped itself.")
        expect(alarm).to_contain_text("No picture came for 0.5 s; check the camera.", timeout=15_000)
        expect(alarm).to_contain_text("The camera sends no picture; check its plug.")
        page.get_by_role("button", name="Start").click()
        refusal = page.get_by_role("alert").filter(has_not_text="The car has stopped itself.")
        expect(refusal.filter(has_text="The camera sends no picture; check its plug.")).to_be_visible()

    lost = page.get_by_text("The link to the car is lost; trying again.")
    expect(lost).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("alert").filter(has_text="The stop has not reached the car")).to_be_visible()
    # Until it gives up, it would stop the next car: rightly so.
    expect(page.get_by_role("alert").filter(has_text="The stop did not reach the car")).to_be_visible(timeout=30_000)

    with Simulator(state, "--port", simulator.port):
        # A restart ends all sessions: the way back leads over the password.
        unlock_field = page.get_by_label("Password", exact=True)
        expect(unlock_field).to_be_visible(timeout=20_000)
        unlock(page)
        expect(page.locator("#doing")).to_have_text("Driving", timeout=15_000)
        context.close()
