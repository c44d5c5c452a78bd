"""The snapshot that the world gets: the same on both sides of JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.signals import Action
from vehicle.gate import DriveMode
from vehicle.gauges import Gauges
from vehicle.mailbox import Mailbox
from vehicle.state import LONGEST_STATUS, Latencies, Rates, Spread, VehicleState, faults_of, status_line

numbers = st.floats(allow_nan=False, allow_infinity=False)
spreads = st.builds(Spread, numbers, numbers)
texts = st.none() | st.text(max_size=20)
sentences = st.lists(st.text(max_size=20), max_size=3).map(tuple)
states = st.builds(
    VehicleState,
    t=numbers,
    mode=st.sampled_from(DriveMode),
    engaged=st.booleans(),
    applied=st.builds(Action, numbers, numbers),
    max_speed=numbers,
    frames=st.integers(0),
    model=texts,
    loading=texts,
    rates=st.builds(Rates, numbers, numbers),
    latencies=st.builds(Latencies, spreads, spreads, spreads),
    realtime=st.booleans(),
    battery=st.none() | numbers,
    network=sentences,
    faults=sentences,
    stopped_because=texts,
)


@given(states)
def test_a_snapshot_goes_there_and_back(state: VehicleState) -> None:
    assert VehicleState.from_json(state.to_json()) == state


def test_the_snapshot_is_plain_json() -> None:
    state = VehicleState(
        t=1.5, mode=DriveMode.MANUAL, applied=Action(0.25, -1), battery=0.5, network=("10.0.0.1",), faults=("A fault.",)
    )
    nothing = {"p50": 0.0, "p99": 0.0}
    assert json.loads(state.to_json()) == {
        "t": 1.5,
        "mode": "manual",
        "engaged": False,
        "applied": {"steering": 0.25, "throttle": -1},
        "max_speed": 0.0,
        "frames": 0,
        "model": None,
        "loading": None,
        "rates": {"camera": 0.0, "inference": 0.0},
        "latencies": {"inference_ms": nothing, "frame_to_pulse_ms": nothing, "tick_late_ms": nothing},
        "realtime": False,
        "battery": 0.5,
        "network": ["10.0.0.1"],
        "faults": ["A fault."],
        "stopped_because": None,
    }


def altered(**data: object) -> str:
    return json.dumps(json.loads(VehicleState(t=0.0).to_json()) | data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        altered(mode="fast"),
        altered(mode=None),
        altered(applied=None),
        altered(applied={"steering": 0}),
        altered(applied={"steering": 0, "throttle": 0, "more": 1}),
        altered(rates=[1, 2]),
        altered(latencies=3),
        altered(latencies=["a"]),
        altered(latencies={"inference_ms": 3}),
        altered(latencies={"other_ms": {}}),
        altered(network=3),
        altered(faults=None),
        altered(unknown=1),
    ],
)
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        VehicleState.from_json(text)


@pytest.mark.parametrize(
    ("samples", "p50", "p99"),
    [
        ([], 0, 0),
        ([7], 7, 7),
        ([2, 1], 2, 2),
        ([3, 1, 2], 2, 3),
        (range(100), 50, 99),
        (range(99, -1, -1), 50, 99),
        (range(200), 100, 198),
        (range(1000), 500, 990),
        ([0.0] * 98 + [5.0] * 2, 0, 5),
    ],
)
def test_a_spread_is_the_median_and_the_99th_percentile(samples: list[float], p50: float, p99: float) -> None:
    assert Spread.of(samples) == Spread(p50, p99)


@given(st.lists(numbers, min_size=1))
def test_a_spread_lies_among_its_samples_in_order(samples: list[float]) -> None:
    spread = Spread.of(iter(samples))
    assert spread.p50 in samples
    assert spread.p99 in samples
    assert spread.p50 <= spread.p99
    assert sum(sample <= spread.p50 for sample in samples) >= len(samples) / 2
    assert sum(sample <= spread.p99 for sample in samples) >= len(samples) * 0.99


def test_events_of_one_moment_have_no_rate() -> None:
    mailbox = Mailbox.create()
    gauges = Gauges(mailbox)
    for _ in range(2):
        gauges.decided(1.0, 0.01)
    assert gauges.rates(1.5).inference == 0.0
    gauges.decided(1.1, 0.01)
    assert gauges.rates(1.5).inference == pytest.approx(20.0)
    mailbox.close()


def test_the_status_line_tells_what_the_car_does_and_its_faults() -> None:
    faults = {"camera": "The camera is not found; plug it in.", "LiDAR": "The port is /dev/x: denied."}
    line = status_line("Stands; no model", faults)
    assert (
        line == "Stands; no model | camera: The camera is not found; plug it in. | LiDAR: The port is /dev/x: denied."
    )
    assert faults_of(line) == faults
    assert faults_of(status_line("Drives; model Swift", {})) == {}
    assert faults_of("") == {}


@given(st.dictionaries(st.sampled_from(["camera", "camera 2", "drive", "Wi-Fi"]), st.text()), st.text())
def test_no_text_of_a_fault_tells_the_service_manager_more_than_a_status(faults: dict[str, str], doing: str) -> None:
    line = status_line(doing, faults)
    assert line == "" or line.isprintable()
    assert len(line.encode()) <= LONGEST_STATUS
    assert faults_of(line).keys() <= faults.keys()


def test_a_very_long_status_is_cut_between_two_letters() -> None:
    line = status_line("Stands", {"drive": "é" * LONGEST_STATUS})
    assert LONGEST_STATUS - 2 < len(line.encode()) <= LONGEST_STATUS
    assert faults_of(line)["drive"].strip("é") == ""
