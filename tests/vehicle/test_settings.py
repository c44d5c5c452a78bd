"""One TOML file: every setting is read, checked, and named when it is wrong."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.rig import Options
from vehicle.settings import Car, Console, Drive, Inference, Settings, SettingsError, load, parse

EVERYTHING = """
[car]
rig = "drivers.deepracer:open_rig"
state = "/tmp/here"
[devices]
left_camera = "platform-usb-0:1"
right_camera = "platform-usb-0:2"
lidar = "/dev/ttyUSB1"
gauge = "ina219@0x45"
[drive]
rate_hz = 20
max_speed = 0.75
[inference]
device = "GPU"
[console]
host = "0.0.0.0"
port = 443
redirect = 80
upload_mb = 50
"""


def test_every_setting_is_read(tmp_path: Path) -> None:
    (tmp_path / "car.toml").write_text(EVERYTHING)
    assert load(tmp_path / "car.toml") == Settings(
        Car("drivers.deepracer:open_rig", "/tmp/here"),
        Options("platform-usb-0:1", "platform-usb-0:2", "/dev/ttyUSB1", "ina219@0x45"),
        Drive(20.0, 0.75),
        Inference("GPU"),
        Console("0.0.0.0", 443, 80, 50),
    )


def test_this_test_knows_every_setting() -> None:
    known = {name: set(table) for name, table in tomllib.loads(EVERYTHING).items()}
    there = parse(EVERYTHING)
    assert known == {s.name: {entry.name for entry in fields(getattr(there, s.name))} for s in fields(Settings)}


@pytest.mark.parametrize("text", ["", "# nothing\n", "[car]\n[drive]\n[inference]\n[console]\n"])
def test_what_is_left_out_has_its_default(text: str) -> None:
    assert parse(text) == Settings()
    assert Settings().drive == Drive(rate_hz=10, max_speed=0.5)
    assert Settings().console == Console("127.0.0.1", 8443, 0, 200)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("drive.rate_hz = 5", 5.0),
        ("drive.rate_hz = 60.0", 60.0),
        ("drive.max_speed = 0", 0.0),
        ("drive.max_speed = 1", 1.0),
        ("console.port = 0", 0),
        ("console.port = 65535", 65535),
        ('inference.device = "AUTO"', "AUTO"),
    ],
)
def test_the_ends_of_a_range_belong_to_it(line: str, value: object) -> None:
    section, name = line.split(" ")[0].split(".")
    read = getattr(getattr(parse(line), section), name)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[drvie]", "There is no setting drvie; did you mean drive?"),
        ("rate_hz = 10", "There is no setting rate_hz; did you mean "),
        ("drive.rate = 10", "There is no setting drive.rate; did you mean drive.rate_hz?"),
        ("drive.maxspeed = 1", "There is no setting drive.maxspeed; did you mean drive.max_speed?"),
        ("drive.__class__ = 1", "There is no setting drive.__class__; did you mean "),
        ('"" = 1', "There is no setting ; did you mean "),
        ("console.prot = 1", "There is no setting console.prot; did you mean console.port?"),
        ("car = 3", "car must be a table: write [car] and its settings below it."),
        ("[[drive]]", "drive must be a table: write [drive] and its settings below it."),
        ("car.rig = 1", "car.rig must be of type str, not 1."),
        ('drive.rate_hz = "10"', "drive.rate_hz must be of type float, not '10'."),
        ("drive.rate_hz = true", "drive.rate_hz must be of type float, not True."),
        ("drive.rate_hz = [10]", "drive.rate_hz must be of type float, not [10]."),
        ("drive.rate_hz = 4.99", "drive.rate_hz must lie in 5..60, not 4.99."),
        ("drive.rate_hz = 61", "drive.rate_hz must lie in 5..60, not 61."),
        ("drive.rate_hz = nan", "drive.rate_hz must lie in 5..60, not nan."),
        ("drive.rate_hz = inf", "drive.rate_hz must lie in 5..60, not inf."),
        ("drive.max_speed = -0.1", "drive.max_speed must lie in 0..1, not -0.1."),
        ("drive.max_speed = 1.1", "drive.max_speed must lie in 0..1, not 1.1."),
        ("console.port = 80.0", "console.port must be of type int, not 80.0."),
        ("console.port = true", "console.port must be of type int, not True."),
        ("console.port = -1", "console.port must lie in 0..65535, not -1."),
        ("console.port = 65536", "console.port must lie in 0..65535, not 65536."),
        ('inference.device = "cpu"', "inference.device must be one of CPU, GPU, AUTO, not 'cpu'."),
        ("inference.device = 1979-05-27", "inference.device must be of type str, not datetime.date(1979, 5, 27)."),
        ("drive.rate_hz = 1" + "0" * 400, "drive.rate_hz must lie in 5..60, not 1"),
        ("drive.rate_hz = 1" + "0" * 9000, "It is no valid TOML"),
        ("drive.rate_hz = " + "[" * 5000, "It is no valid TOML"),
        ("drive.rate_hz =", "It is no valid TOML"),
        ("[drive]\n[drive]", "It is no valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_may_be(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse(text)
    assert str(error.value).startswith(said)
    assert len(str(error.value)) < 300
    (tmp_path / "car.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        load(tmp_path / "car.toml")
    assert str(error.value).startswith(f"{tmp_path / 'car.toml'}: {said}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"There is no settings file {tmp_path / 'none.toml'}"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"car.rig = '\x00'"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "car.toml").write_bytes(data)
    with pytest.raises(SettingsError, match=r"car\.toml: "):
        load(tmp_path / "car.toml")
    with pytest.raises(SettingsError, match=str(tmp_path)):
        load(tmp_path)


def sentence(error: SettingsError) -> None:
    assert str(error).endswith((".", "?"))


def understood_or_refused(text: str) -> None:
    try:
        read = parse(text)
    except SettingsError as error:
        sentence(error)
    else:
        assert 5 <= read.drive.rate_hz <= 60
        assert 0 <= read.drive.max_speed <= 1
        assert read.inference.device in ("CPU", "GPU", "AUTO")
        assert 0 <= read.console.port <= 65535


lines = st.builds(
    "{}.{} = {}".format,
    st.sampled_from(["car", "drive", "inference", "console", "x"]),
    st.sampled_from(["rig", "state", "rate_hz", "max_speed", "device", "host", "port", "y"]),
    st.sampled_from(['"CPU"', "true", "[]", "{}", "nan", "07:32:00", "'''x'''"]) | st.integers() | st.floats(),
)


@given(st.one_of(st.text(), st.lists(lines, max_size=4).map("\n".join)))
def test_arbitrary_text_is_settings_or_refused(text: str) -> None:
    understood_or_refused(text)


@given(st.integers(0, len(EVERYTHING) - 1), st.characters())
def test_one_wrong_character_is_settings_or_refused(place: int, other: Any) -> None:
    understood_or_refused(EVERYTHING[:place] + other + EVERYTHING[place + 1 :])
