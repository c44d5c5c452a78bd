"""The page in a real browser, in front of the simulator as a real process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from vehicle.state import VehicleState

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


class Simulator:
    """`python -m sim_stub`, with its console, for as long as the context lasts."""

    def __init__(self, state: Path, *options: str) -> None:
        command = [sys.executable, "-m", "sim_stub", "--state", str(state), *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert "the console is at" in said
        self.address = said.split()[-1]

    @property
    def port(self) -> str:
        return self.address.rstrip("/").rpartition(":")[2]

    def state(self) -> VehicleState:
        with urllib.request.urlopen(f"{self.address}api/state", timeout=5) as answer:
            return VehicleState.from_json(answer.read().decode())

    def ask(self, verb: str, **wish: object) -> None:
        order = urllib.request.Request(f"{self.address}api/{verb}", json.dumps(wish).encode(), method="POST")
        urllib.request.urlopen(order, timeout=20).close()

    def drive(self) -> None:
        """Drive from now on; a busy machine may have let the car stop itself."""
        if self.state().model is None:
            self.ask("model", name="sample")
        self.ask("max_speed", percent=100)
        self.ask("start")

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


@pytest.fixture(scope="module")
def simulator(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    state = shutil.copytree(installed, tmp_path_factory.mktemp("page") / "state", symlinks=True)
    with Simulator(state, "--port", "0") as simulator:
        until(lambda: simulator.state().model)
        yield simulator


@pytest.fixture(scope="module")
def open_page(browser: Browser, simulator: Simulator) -> Iterator[Page]:
    """What the browser complains about, or asks of others, is a failure."""
    complaints: list[str] = []
    addresses: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(simulator.address)
    expect(page.locator("#map .car")).to_have_attribute("visibility", "visible")
    yield page
    page.close()
    assert complaints == []
    assert all(address.startswith(simulator.address) for address in addresses)


@pytest.fixture
def page(open_page: Page, simulator: Simulator) -> Page:
    """The page of a car that drives."""
    simulator.drive()
    expect(open_page.get_by_role("status").first).to_have_text("Driving")
    return open_page


def test_the_camera_shows_a_moving_picture(page: Page) -> None:
    camera = page.get_by_role("img", name="What the car sees")
    until(lambda: camera.evaluate("image => image.naturalWidth") == 160)
    before = camera.screenshot()
    until(lambda: camera.screenshot() != before)


def test_the_car_moves_on_the_map_and_its_figures_with_it(page: Page, simulator: Simulator) -> None:
    expect(page.locator("#map-name")).to_have_text("re:Invent 2018")
    place, speed = page.locator("#map .car"), page.locator("#speed .value b")
    seen = {place.get_attribute("transform")}
    while len(seen) < 5:
        expect(place).not_to_have_attribute("transform", str(place.get_attribute("transform")))
        seen.add(place.get_attribute("transform"))
    until(lambda: float(speed.inner_text()) > 0.3)
    until(lambda: "L" in (page.locator("#latency .line").get_attribute("d") or ""))
    expect(page.locator("#events li").last).to_contain_text("Loaded the model sample.")


def test_stop_stops_and_start_starts(page: Page, simulator: Simulator) -> None:
    page.get_by_role("button", name="Stop").click()
    until(lambda: not simulator.state().engaged and simulator.state().applied.throttle == 0, 1.0)
    expect(page.get_by_role("status").first).to_have_text("Stopped")
    page.get_by_role("button", name="Start").click()
    until(lambda: simulator.state().engaged)
    expect(page.get_by_role("status").first).to_have_text("Driving")
    expect(page.get_by_role("button", name="Start")).to_be_disabled()


def test_escape_stops_wherever_one_is(page: Page, simulator: Simulator) -> None:
    page.get_by_role("slider", name="Maximum speed").focus()
    page.keyboard.press("Escape")
    until(lambda: not simulator.state().engaged, 1.0)


def test_the_slider_sets_the_maximum_speed(page: Page, simulator: Simulator) -> None:
    slider = page.get_by_role("slider", name="Maximum speed")
    expect(slider).to_have_value("100")
    slider.fill("60")
    until(lambda: simulator.state().max_speed == 0.6)
    slider.press("ArrowLeft")
    until(lambda: simulator.state().max_speed == 0.59)
    expect(page.locator("output")).to_have_text("59 %")
    simulator.ask("max_speed", percent=42)
    expect(slider).to_have_value("42")


def test_mode_and_model_are_chosen(page: Page, simulator: Simulator) -> None:
    page.get_by_role("radio", name="Manual").check()
    until(lambda: simulator.state().mode.value == "manual")
    expect(page.locator("#mode-note")).to_be_visible()
    page.get_by_role("radio", name="Autonomous").check()
    until(lambda: simulator.state().mode.value == "autonomous")
    before = page.locator("#events li").count()
    models = page.get_by_role("combobox", name="Model")
    expect(models).to_have_value("sample")
    models.dispatch_event("change")
    until(lambda: page.locator("#events li").count() > before)
    expect(page.locator("#events li").first).to_contain_text("Loaded the model sample.")


@pytest.mark.parametrize("width", [360, 820, 1280])
def test_no_width_scrolls_sideways_and_stop_is_always_in_reach(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert page.evaluate("scrollY") > 0
    stop = page.get_by_role("button", name="Stop").bounding_box()
    assert stop is not None
    assert stop["height"] >= 44
    assert stop["y"] >= 0
    assert stop["y"] + stop["height"] <= 640


def test_the_page_tells_why_the_car_stopped_and_when_the_link_is_lost(
    browser: Browser, installed: Path, tmp_path: Path
) -> None:
    state = shutil.copytree(installed, tmp_path / "state", symlinks=True)
    page = browser.new_page()
    with Simulator(state, "--port", "0", "--fault", "camera@1") as simulator:
        page.goto(simulator.address)
        alarm = page.get_by_role("alert").filter(has_text="The car has stopped itself.")
        expect(alarm).to_contain_text("No picture came for 0.5 s; check the camera.", timeout=15_000)
        expect(alarm).to_contain_text("The camera sends no picture; check its plug.")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert").filter(has_text="The car sees nothing")).to_be_visible()

    lost = page.get_by_text("The link to the car is lost; trying again.")
    expect(lost).to_be_visible()
    expect(page.locator("body")).to_have_class("trackside halted old")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("alert").filter(has_text="The stop has not reached the car")).to_be_visible()
    # Until it gives up, it would stop the next car: rightly so.
    expect(page.get_by_role("alert").filter(has_text="The stop did not reach the car")).to_be_visible(timeout=30_000)

    with Simulator(state, "--port", simulator.port):
        expect(lost).to_be_hidden(timeout=15_000)
        expect(page.get_by_role("status").first).to_have_text("Driving", timeout=15_000)
        page.close()
