"""The calibration file: read and written as the stock car does, and never lost, whatever stands in it."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.calibration import DEFAULT, LONGEST_NS, SHORTEST_NS, Calibration, Channel
from calibration.store import LARGEST_FILE, load, save

STOCK = """{
   "Calibration" : {
      "Motor" : {
         "max" : 1603500,
         "mid" : 1446000,
         "min" : 1311000,
         "polarity" : -1
      },
      "Servo" : {
         "max" : 1690000,
         "mid" : 1440000,
         "min" : 1210000,
         "polarity" : 1
      },
      "version" : 1
   }
}
"""
TRIMMED = Calibration(Channel(1_210_000, 1_440_000, 1_690_000, 1), DEFAULT.throttle)


def stock(wire: str = "Servo", **figures: Any) -> str:
    data = json.loads(STOCK)
    data["Calibration"][wire] |= figures
    return json.dumps(data)


def without(*keys: str) -> str:
    data = json.loads(STOCK)
    table = data
    for key in keys[:-1]:
        table = table[key]
    del table[keys[-1]]
    return json.dumps(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calibration.json"


def test_the_stock_file_is_read(path: Path) -> None:
    path.write_text(STOCK)
    assert load(path).calibration == TRIMMED
    assert load(path).fault is None
    assert path.read_text() == STOCK


def test_a_file_older_than_its_version_key_is_read(path: Path) -> None:
    path.write_text(without("Calibration", "version"))
    assert load(path).calibration == TRIMMED


def test_it_is_written_in_the_stock_form(path: Path) -> None:
    save(path, TRIMMED)
    assert path.read_text() == STOCK.replace('" :', '":')
    assert load(path).calibration == TRIMMED
    assert load(path).fault is None


@given(
    st.lists(st.integers(SHORTEST_NS, LONGEST_NS), min_size=6, max_size=6, unique=True),
    st.sampled_from([1, -1]),
    st.sampled_from([1, -1]),
)
def test_what_is_saved_is_what_is_loaded(figures: list[int], one: int, other: int) -> None:
    (low, mid, high), (least, rest, most) = sorted(figures[:3]), sorted(figures[3:])
    calibration = Calibration(Channel(low, mid, high, one), Channel(least, rest, most, other))
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder, "c.json"), calibration)
        assert load(Path(folder, "c.json")).calibration == calibration


def test_saving_replaces_the_file_and_leaves_nothing_else(path: Path) -> None:
    save(path, DEFAULT)
    save(path, TRIMMED)
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert load(path).calibration == TRIMMED


def test_no_file_is_no_fault(path: Path) -> None:
    remembered = load(path)
    assert remembered.calibration == DEFAULT
    assert remembered.fault is None
    assert not path.exists()


BROKEN = {
    "empty": "",
    "cut": STOCK[:100],
    "binary": "\x00\xff\xfe" * 50,
    "a number": "7",
    "a list": "[1, 2]",
    "a text": '"Calibration"',
    "null": "null",
    "no Calibration": without("Calibration"),
    "no Servo": without("Calibration", "Servo"),
    "no Motor": without("Calibration", "Motor"),
    "no mid": without("Calibration", "Servo", "mid"),
    "no polarity": without("Calibration", "Motor", "polarity"),
    "Calibration a list": '{"Calibration": []}',
    "Servo a list": '{"Calibration": {"Servo": [], "Motor": {}}}',
    "min above mid": stock(min=1_500_000),
    "mid equals max": stock(mid=1_690_000),
    "mid a text": stock(mid="1440000"),
    "mid a fraction": stock(mid=1440000.5),
    "mid true": stock(mid=True),
    "mid null": stock(mid=None),
    "mid NaN": stock("Motor", mid=float("nan")),
    "mid Infinity": stock("Motor", mid=float("inf")),
    "mid of 4000 digits": stock().replace("1440000", "1" * 4000),
    "mid of 9000 digits": stock().replace("1440000", "1" * 9000),
    "polarity 2": stock("Motor", polarity=2),
    "polarity true": stock("Motor", polarity=True),
    "out of every servo's reach": stock(max=9_000_000),
    "huge": STOCK + " " * LARGEST_FILE,
    "deep": "[" * 20_000 + "]" * 20_000,
    "deep in a figure": stock(mid=0).replace(" 0,", "[" * 700 + "]" * 700 + ","),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gives_the_default_a_fault_and_is_kept(path: Path, text: str) -> None:
    path.write_text(text, "latin-1")
    broken = path.read_bytes()
    remembered = load(path)
    assert remembered.calibration == DEFAULT
    assert remembered.fault is not None
    assert remembered.fault.endswith("; calibrate the car anew.")
    assert len(remembered.fault) < 500
    (aside,) = path.parent.iterdir()
    assert aside != path
    assert str(aside) in remembered.fault
    assert aside.read_bytes() == broken


def test_two_broken_files_are_both_kept(path: Path) -> None:
    for text in (b"one", b"two"):
        path.write_bytes(text)
        load(path)
    assert sorted(file.read_bytes() for file in path.parent.iterdir()) == [b"one", b"two"]


def test_after_a_fault_the_car_is_calibrated_anew(path: Path) -> None:
    path.write_bytes(b"broken")
    load(path)
    save(path, TRIMMED)
    assert load(path).calibration == TRIMMED
    assert load(path).fault is None


def test_a_folder_in_its_place_is_a_fault_and_stays(path: Path) -> None:
    path.mkdir()
    remembered = load(path)
    assert remembered.calibration == DEFAULT
    assert remembered.fault is not None
    assert "cannot be read" in remembered.fault
    assert path.is_dir()


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=20).map(lambda middle: STOCK.encode()[:90] + middle)))
def test_arbitrary_bytes_never_raise_and_are_never_lost(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calibration.json")
        path.write_bytes(data)
        remembered = load(path)
        assert remembered.calibration == DEFAULT
        assert remembered.fault is not None
        assert [file.read_bytes() for file in Path(folder).iterdir()] == [data]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["min", "mid", "max", "polarity"]), inner),
        max_leaves=5,
    )
)
def test_no_value_of_a_wire_raises(wire: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calibration.json")
        path.write_text(json.dumps({"Calibration": {"Servo": wire, "Motor": wire}}))
        assert load(path).calibration == DEFAULT
        assert not path.exists()
