"""Strangers' packages: what is taken from them, what is refused, and that nothing else ever reaches the disk."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import string
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.actions import ContinuousActions, DiscreteActions
from inference.package import (
    LARGEST_METADATA,
    LIDAR_DEFAULTS,
    METADATA,
    MOST_FILES,
    LidarConfig,
    Metadata,
    PackageError,
    Sensor,
    name_of,
    parse_metadata,
    read,
    unpack,
)
from tests.inference.making import archive, metadata, package

GRAPH = b"a graph that nobody reads here"
GOOD = {"agent/model.pb": GRAPH, METADATA: metadata()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The empty folder that a package is unpacked into."""
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def refusal(tmp_path: Path, folder: Path) -> Callable[[Path], str]:
    """Why a source is refused: one sentence; nothing but our own names is written, and nothing outside."""

    def refused(source: Path) -> str:
        outside = {path for path in tmp_path.rglob("*") if folder not in (path, *path.parents)}
        with pytest.raises(PackageError) as error:
            unpack(source, folder)
        assert outside == {path for path in tmp_path.rglob("*") if folder not in (path, *path.parents)}
        assert all(only_ours(path) for path in folder.rglob("*"))
        return sentence(error.value)

    return refused


def sentence(error: PackageError) -> str:
    said = str(error)
    assert said.endswith(".")
    assert len(said) < 400
    assert said.isprintable()
    return said


def only_ours(path: Path) -> bool:
    return path.name in (METADATA, "model.pb", "model.onnx", "model.xml", "model.bin") or (
        path.name.startswith("part-") and path.is_file() and not path.is_symlink()
    )


# What is taken.


def test_the_stock_package_opens(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "My car.tar.gz"
    source.write_bytes(archive(GOOD | {"checkpoint/model.ckpt": b"x", "reward_function.py": b"raise SystemExit"}))
    taken = unpack(source, folder)
    assert (taken.name, taken.path, taken.graph) == ("My_car", folder, folder / "model.pb")
    assert files_of(folder) == {"model.pb": GRAPH, METADATA: GOOD[METADATA]}
    assert (taken.sensors, taken.cameras, taken.needs_lidar) == ((Sensor.OBSERVATION,), 1, False)
    assert taken.metadata.action_space == DiscreteActions(((-1, 1), (0, 2), (1, 3)))


@pytest.mark.parametrize("form", ["tar.gz", "tar", "a tar named tar.gz", "folder"])
def test_every_form_gives_the_same_package(tmp_path: Path, folder: Path, form: str) -> None:
    source = tmp_path / ("a.tar.gz" if "gz" in form else "a")
    if form == "folder":
        (source / "agent").mkdir(parents=True)
        for name, data in GOOD.items():
            (source / name).write_bytes(data)
    else:
        source.write_bytes(archive(GOOD, packed=form == "tar.gz"))
    taken = unpack(source, folder, "given")
    assert taken.name == "given"
    assert files_of(folder) == {"model.pb": GRAPH, METADATA: GOOD[METADATA]}
    assert read(folder, "given") == taken


MAC = {"agent/._model.pb": b"mac", f"._{METADATA}": b"mac", "._": b"mac"}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"deep/er/my net.pb": b"g"}, {"model.pb": b"g"}),
        ({"./model.pb": b"g"}, {"model.pb": b"g"}),
        ({"agent/model.onnx": b"g"}, {"model.onnx": b"g"}),
        ({"m.xml": b"x", "m.bin": b"b"}, {"model.xml": b"x", "model.bin": b"b"}),
        ({"a/m.bin": b"b", "a/m.xml": b"x", "m.bin": b"other"}, {"model.xml": b"x", "model.bin": b"b"}),
        ({"m.pb": b"g", "m.xml": b"x", "m.bin": b"b"}, {"model.pb": b"g"}),
        ({"m.pb": b"g", "m.xml": b"no weights"}, {"model.pb": b"g"}),
        ({"m.pb": b"g", "m.onnx": b"o"}, {"model.pb": b"g"}),
        (MAC | {"agent/model.pb": b"g"}, {"model.pb": b"g"}),
        ({"m.pb": b"g", "checkpoint": b"c", "0_Step-0.ckpt.index": b"i", "weights.bin": b"w"}, {"model.pb": b"g"}),
        ({"m.pb": b"g", "old/" + METADATA: b"not even JSON"}, {"model.pb": b"g"}),
    ],
)
def test_only_one_graph_and_its_metadata_are_kept(
    tmp_path: Path, folder: Path, files: dict[str, bytes], left: dict[str, bytes]
) -> None:
    source = tmp_path / "a.tar.gz"
    source.write_bytes(archive(files | {METADATA: metadata()}))
    unpack(source, folder)
    assert files_of(folder) == left | {METADATA: metadata()}


def test_a_name_within_the_archive_never_becomes_a_path(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "a.tar"
    source.write_bytes(archive({"\x1b[2J\n;rm -rf $HOME\udcff/‮.pb": GRAPH, METADATA: metadata()}, packed=False))
    unpack(source, folder)
    assert sorted(files_of(folder)) == ["model.pb", METADATA]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Sample_single_cam.tar.gz", "Sample_single_cam"),
        ("my model 7.tar.gz", "my_model_7"),
        ("v1.2.final.tar", "v1"),
        ("folder", "folder"),
        ("Rännwagen Nr 1.tar.gz", "Rannwagen_Nr_1"),
        ("賽車.tar.gz", "model"),
        (".hidden", "model"),
        ("...", "model"),
        ("..", "model"),
        (".", "model"),
        ("", "model"),
        ("a/../../etc/passwd", "passwd"),
        ("-rf.tar.gz", "rf"),
        ("a\\..\\b:c|d\n\x00e.tar.gz", "a"),
        ("a\n\x00b.tar", "a_b"),
        ("x" * 200 + ".tar.gz", "x" * 64),
        ("<script>.tar.gz", "script"),
    ],
)
def test_a_package_is_named_after_its_file(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


@given(st.text())
def test_every_name_is_a_plain_one(text: str) -> None:
    name = name_of(Path(text))
    assert set(name) <= set(string.ascii_letters + string.digits + "_-")
    assert 0 < len(name) <= 64
    assert name_of(Path(name)) == name


def test_the_digest_tells_packages_apart_and_not_their_wrapping(tmp_path: Path) -> None:
    def digest(files: dict[str, bytes], packed: bool = True) -> str:
        source, target = tmp_path / "a", Path(tempfile.mkdtemp(dir=tmp_path))
        source.write_bytes(archive(files, packed))
        return unpack(source, target).digest

    known = digest(GOOD)
    assert known == digest(GOOD, packed=False) == digest({"other.pb": GRAPH, METADATA: metadata(), "x": b"y"})
    ir = {"m.xml": b"x", "m.bin": b"b", METADATA: metadata()}
    others = [GOOD | {"agent/model.pb": b"g"}, GOOD | {METADATA: metadata(4)}, ir, ir | {"m.bin": b"c"}]
    assert len({known, *map(digest, others)}) == 5


# What is refused.


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({METADATA: metadata()}, "holds no model"),
        ({METADATA: metadata(), "model.tflite": b"t"}, "holds no model"),
        ({METADATA: metadata(), "._model.pb": b"t"}, "holds no model"),
        ({METADATA: metadata(), "model.PB": b"t"}, "holds no model"),
        ({METADATA: metadata(), "a.pb": b"1", "b/a.pb": b"2"}, r"several models \('a.pb', 'b/a.pb'\)"),
        ({METADATA: metadata(), "a.onnx": b"1", "b.onnx": b"2"}, "several models"),
        ({METADATA: metadata(), "a.pb": b"1", "b\n\udc80.pb": b"2"}, "several models"),
        ({METADATA: metadata(), "a.xml": b"1"}, "'a.xml' comes without its weights"),
        ({METADATA: metadata(), "a.xml": b"1", "b.bin": b"2"}, "without its weights"),
        ({"model.pb": GRAPH}, "no model_metadata.json"),
        ({"model.pb": GRAPH, METADATA: b""}, "not valid JSON"),
        ({"model.pb": GRAPH, METADATA: b" " * (LARGEST_METADATA + 1)}, "larger than"),
        (GOOD | {"/etc/cron.d/a.pb": b"1"}, "outside its own folder"),
        (GOOD | {"../a.pb": b"1"}, "outside its own folder"),
        (GOOD | {"a/../../../b.txt": b"1"}, "outside its own folder"),
        ({f"../../{METADATA}": metadata(), "a.pb": b"1"}, "outside its own folder"),
        (GOOD | {"./agent/model.pb": b"1"}, "twice"),
        (GOOD | {f"{n}": b"" for n in range(MOST_FILES)}, "more than 1000 files"),
    ],
)
def test_files_that_make_no_package_are_refused(
    tmp_path: Path, refusal: Callable[[Path], str], files: dict[str, bytes], said: str
) -> None:
    source = tmp_path / "a.tar.gz"
    source.write_bytes(archive(files))
    assert re.search(said, refusal(source))


def hostile(kind: bytes = tarfile.REGTYPE, name: str = "agent/model.pb", size: int = 0, **more: Any) -> bytes:
    """A good archive with one more member in front, of which only the head is there."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    for key, value in more.items():
        setattr(member, key, value)
    return member.tobuf(tarfile.PAX_FORMAT) + archive(GOOD, packed=False)


def squeezed(size: int) -> bytes:
    """A few bytes that become `size` zeros."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=1) as packed:
        packed.write(hostile(name="zeros.pb", size=size)[:512])
        for _ in range(size >> 20):
            packed.write(bytes(1 << 20))
    return content.getvalue()


FORGED = {
    "symbolic link": (hostile(tarfile.SYMTYPE, linkname="/etc/passwd"), "link or a device"),
    "symbolic link of a folder": (hostile(tarfile.SYMTYPE, name="agent", linkname=".."), "link or a device"),
    "hard link": (hostile(tarfile.LNKTYPE, linkname=METADATA), "link or a device"),
    "character device": (hostile(tarfile.CHRTYPE), "link or a device"),
    "block device": (hostile(tarfile.BLKTYPE), "link or a device"),
    "fifo": (hostile(tarfile.FIFOTYPE), "link or a device"),
    "sparse": (hostile(tarfile.GNUTYPE_SPARSE), "link or a device"),
    "sparse, the new way": (
        hostile(pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1099511627776"}),
        "link or a device",
    ),
    "nonsense sparse": (hostile(pax_headers={"GNU.sparse.map": "many"}), "no complete"),
    "name with a zero": (hostile(pax_headers={"path": "a\0b.pb"}), "outside its own folder"),
    "2 GiB that are not there": (hostile(name="big.pb", size=2 << 30), "no complete"),
    "an exbibyte": (hostile(name="big.pb", size=1 << 60), "no complete"),
    "less than nothing": (hostile(name="big.pb", size=-512), "no complete"),
    "metadata of 2 GiB": (hostile(name=METADATA, size=2 << 30), "larger than"),
    "endless extended heads": (hostile(pax_headers={"comment": "x"})[:1024] * 2000, "no complete"),
    "bomb": (squeezed(8 << 20), "unpacks to more than"),
    "bomb in metadata": (gzip.compress(archive({METADATA: bytes(8 << 20)}, packed=False)), "larger than"),
    "bomb of folders": (
        gzip.compress(hostile(tarfile.DIRTYPE, name="d" * 90)[:512] * 20_000),
        "more than (1000 files|. MiB)",
    ),
    "empty": (b"", "no complete"),
    "one byte": (b"\x1f", "no complete"),
    "only a magic number": (b"\x1f\x8b", "no complete"),
    "zip": (b"PK\x03\x04" + bytes(600), "no complete"),
    "no members": (bytes(10240), "holds no model"),
    "not a tar": (b"# a text\n" * 200, "no complete"),
    "gzip of not a tar": (gzip.compress(b"# a text\n" * 200), "no complete"),
    "gzip in gzip": (gzip.compress(archive(GOOD)), "no complete"),
    "cut tar": (archive(GOOD, packed=False)[:700], "no complete"),
    "cut gzip": (archive(GOOD)[:-20], "no complete"),
    "cut in gzip's checksum": (archive(GOOD)[:-6], "no complete"),
    "wrong checksum": (archive(GOOD)[:-8] + bytes(8), "no complete"),
    "something after the end": (archive(GOOD) + b"something", "no complete"),
}


@pytest.mark.parametrize(("data", "said"), FORGED.values(), ids=FORGED)
def test_forged_and_broken_archives_are_refused(
    tmp_path: Path, refusal: Callable[[Path], str], data: bytes, said: str
) -> None:
    source = tmp_path / "a.tar.gz"
    source.write_bytes(data)
    assert re.search(said, refusal(source))


@pytest.mark.parametrize("place", range(400, 2000, 200))
def test_a_download_with_one_wrong_bit_is_refused(tmp_path: Path, refusal: Callable[[Path], str], place: int) -> None:
    source = tmp_path / "a.tar.gz"
    data = bytearray(archive({"model.pb": random.Random(7).randbytes(2000), METADATA: metadata()}))
    data[place] ^= 1
    source.write_bytes(data)
    assert "no complete .tar or .tar.gz archive" in refusal(source)


def linked(source: Path) -> None:
    (source / "agent").symlink_to("/etc")


def linked_graph(source: Path) -> None:
    (source / "model.pb").symlink_to("/etc/hostname")


def dangling(source: Path) -> None:
    (source / "notes").symlink_to("nowhere")


def piped(source: Path) -> None:
    os.mkfifo(source / "model.pb")


def sparse(source: Path) -> None:
    (source / "model.pb").touch()
    os.truncate(source / "model.pb", (1 << 30) + 1)


def crowded(source: Path) -> None:
    for number in range(MOST_FILES + 1):
        (source / str(number)).touch()


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (linked, "'agent' is a link or a device"),
        (linked_graph, "'model.pb' is a link or a device"),
        (dangling, "'notes' is a link or a device"),
        (piped, "'model.pb' is a link or a device"),
        (sparse, "larger than 1 GiB"),
        (crowded, "more than 1000 files"),
        (lambda source: None, "no model_metadata.json|holds no model"),
    ],
    ids=["linked folder", "linked graph", "dangling link", "fifo", "1 GiB and a byte", "crowd", "nothing"],
)
def test_folders_that_hold_no_plain_package_are_refused(
    tmp_path: Path, refusal: Callable[[Path], str], prepare: Callable[[Path], None], said: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    prepare(source)
    assert re.search(said, refusal(source))


def test_a_source_that_is_not_there_is_refused(tmp_path: Path, refusal: Callable[[Path], str]) -> None:
    assert refusal(tmp_path / "none.tar.gz") == f"There is no file {tmp_path / 'none.tar.gz'}."


def test_a_folder_that_is_taken_is_an_error_of_the_disk(tmp_path: Path, folder: Path) -> None:
    source = package(tmp_path / "a.tar.gz")
    (folder / "part-0").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        unpack(source, folder)
    assert files_of(folder) == {"part-0": b"mine"}


# What the metadata says.

DISCRETE = [{"steering_angle": 30, "speed": 0.8, "index": 7}, {"steering_angle": -15.5, "speed": 0}]
CONTINUOUS: dict[str, dict[str, object]] = {
    "steering_angle": {"high": 30, "low": -20},
    "speed": {"high": 4, "low": 0.5},
}
LIDAR = {
    "num_values": 32,
    "min_angle": -90,
    "max_angle": 90,
    "min_distance": 0.1,
    "max_distance": 3,
    "clipping_distance": 2.5,
    "num_sectors": 4,
}
OLDEST = Metadata(
    sensors=(Sensor.OBSERVATION,),
    action_space=DiscreteActions(((30, 0.8), (-15.5, 0))),
    algorithm="clipped_ppo",
    network="DEEP_CONVOLUTIONAL_NETWORK_SHALLOW",
    version="",
    lidar=None,
)


def described(**data: object) -> bytes:
    return json.dumps({"action_space": DISCRETE} | data).encode()


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        (described(), OLDEST),
        (b"\xef\xbb\xbf" + described(), OLDEST),
        (described(unknown=[1], index=3), OLDEST),
        (described(version=4), replace(OLDEST, version="4")),
        (described(version="5"), replace(OLDEST, version="5")),
        (described(version=None, neural_network=3), OLDEST),
        (described(neural_network="DEEP"), replace(OLDEST, network="DEEP")),
        (described(training_algorithm="sac"), replace(OLDEST, algorithm="sac")),
        (described(action_space_type="discrete"), OLDEST),
        (
            described(action_space_type="continuous", action_space=CONTINUOUS),
            replace(OLDEST, action_space=ContinuousActions((-20, 30), (0.5, 4))),
        ),
        (described(sensor=["STEREO_CAMERAS"]), replace(OLDEST, sensors=(Sensor.STEREO_CAMERAS,))),
        (described(sensor=["LEFT_CAMERA", "LEFT_CAMERA"]), replace(OLDEST, sensors=(Sensor.LEFT_CAMERA,))),
        (described(lidar_config=LIDAR), OLDEST),
        (described(lidar_config="nonsense that nobody needs"), OLDEST),
        (
            described(sensor=["LIDAR", "FRONT_FACING_CAMERA"]),
            replace(
                OLDEST,
                sensors=(Sensor.LIDAR, Sensor.FRONT_FACING_CAMERA),
                lidar=LidarConfig(64, -150, 150, 0.15, 0.5, 1.0, 64),
            ),
        ),
        (
            described(sensor=["SECTOR_LIDAR"]),
            replace(OLDEST, sensors=(Sensor.SECTOR_LIDAR,), lidar=LidarConfig(64, -150, 150, 0.15, 0.5, 0.5, 8)),
        ),
        (
            described(sensor=["DISCRETIZED_SECTOR_LIDAR"]),
            replace(
                OLDEST,
                sensors=(Sensor.DISCRETIZED_SECTOR_LIDAR,),
                lidar=LIDAR_DEFAULTS[Sensor.DISCRETIZED_SECTOR_LIDAR],
            ),
        ),
        (
            described(sensor=["LIDAR"], lidar_config=LIDAR | {"unknown": "x"}),
            replace(OLDEST, sensors=(Sensor.LIDAR,), lidar=LidarConfig(32, -90, 90, 0.1, 3, 2.5, 4)),
        ),
        (
            described(sensor=["LIDAR"], lidar_config=LIDAR | {"num_values": 32.0}),
            replace(OLDEST, sensors=(Sensor.LIDAR,), lidar=LidarConfig(32, -90, 90, 0.1, 3, 2.5, 4)),
        ),
    ],
)
def test_metadata_is_read_with_the_stock_defaults(text: bytes, metadata: Metadata) -> None:
    assert parse_metadata(text) == metadata


def test_one_model_s_lidar_does_not_leak_into_the_next() -> None:
    parse_metadata(described(sensor=["LIDAR"], lidar_config=LIDAR))
    assert parse_metadata(described(sensor=["LIDAR"])).lidar == LidarConfig()


def act(**figures: object) -> bytes:
    return described(action_space=[*DISCRETE, {"steering_angle": 0, "speed": 1} | figures])


def between(key: str, **ends: object) -> bytes:
    space = CONTINUOUS | {key: CONTINUOUS[key] | ends}
    return described(action_space_type="continuous", action_space=space)


def scanned(**figures: object) -> bytes:
    return described(sensor=["LIDAR"], lidar_config=LIDAR | figures)


DEEP = b"[" * 700 + b"]" * 700


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (described().replace(b"0.8", b"NaN"), "NaN is no number"),
        (described().replace(b"0.8", b"Infinity"), "Infinity is no number"),
        (described().replace(b"0.8", b"-Infinity"), "Infinity is no number"),
        (described().replace(b"0.8", b"1e999"), "speed of action 0 must be a number"),
        (described().replace(b"0.8", b"1" * 400), "speed of action 0 must be a number"),
        (described().replace(b"0.8", b"1" * 9000), "not valid JSON"),
        (described().replace(b"0.8", DEEP), "speed of action 0 must be a number"),
        (described(sensor=7).replace(b"7", DEEP), "sensor must be a list"),
        (described(training_algorithm=7).replace(b"7", DEEP), "training_algorithm must be"),
        (b"[]", "must hold a JSON object"),
        (b"3", "must hold a JSON object"),
        (b'"action_space"', "must hold a JSON object"),
        (b"null", "must hold a JSON object"),
        (b"{}", "has no action_space"),
        (described(action_space=[]), "list of at least one action"),
        (described(action_space=None), "list of at least one action"),
        (described(action_space=CONTINUOUS), "list of at least one action"),
        (described(action_space=[1]), "action 0 needs a steering_angle and a speed"),
        (described(action_space=[*DISCRETE, {"speed": 1}]), "action 2 needs a steering_angle and a speed"),
        (act(speed="1"), "speed of action 2 must be a number"),
        (act(speed=True), "speed of action 2 must be a number"),
        (act(speed=None), "speed of action 2 must be a number"),
        (act(steering_angle=[0]), "steering_angle of action 2 must be a number"),
        (act(steering_angle=1e300), "steering_angle of action 2 must be a number"),
        (act(speed=-0.1), "speeds must not be negative"),
        (described(action_space=[{"steering_angle": 0, "speed": 0}]), "above zero"),
        (described(action_space_type="continuous"), "continuous action_space is an object"),
        (described(action_space_type="continuous", action_space={}), "steering_angle of the action_space needs"),
        (between("speed", high=None), "high of speed must be a number"),
        (between("speed", low="0"), "low of speed must be a number"),
        (between("speed", low=False), "low of speed must be a number"),
        (between("speed", low=4), "low must be smaller than high for speed"),
        (between("speed", low=-1), "speeds must not be negative"),
        (between("steering_angle", low=30.5), "low must be smaller than high for steering_angle"),
        (
            described(action_space_type="continuous", action_space=CONTINUOUS | {"speed": 3}),
            "speed of the action_space",
        ),
        (described(action_space_type="Discrete"), "action_space_type must be discrete or continuous"),
        (described(action_space_type=["discrete"]), "action_space_type must be"),
        (described(action_space_type=None), "action_space_type must be"),
        (described(training_algorithm="dqn"), "training_algorithm must be clipped_ppo or sac, not 'dqn'"),
        (described(training_algorithm={}), "training_algorithm must be"),
        (described(sensor="observation"), "sensor must be a list"),
        (described(sensor=[]), "sensor must be a list"),
        (described(sensor=None), "sensor must be a list"),
        (described(sensor=[1]), "sensor must be a list"),
        (described(sensor=["RADAR"]), "sensor must be a list of observation, .*RADAR"),
        (described(sensor=["x" * 100_000]), "sensor must be a list"),
        (described(sensor=["observation", "STEREO_CAMERAS"]), "at most one camera"),
        (described(sensor=["LIDAR", "SECTOR_LIDAR"]), "at most one camera sensor and one LiDAR"),
        (described(sensor=["LIDAR"], lidar_config=[]), "lidar_config needs all of num_values"),
        (described(sensor=["LIDAR"], lidar_config={"num_values": 64}), "lidar_config needs all of num_values"),
        *(
            (described(sensor=["LIDAR"], lidar_config={k: v for k, v in LIDAR.items() if k != key}), f"needs.*{key}")
            for key in LIDAR
        ),
        *((scanned(**{key: "1"}), f"lidar_config.{key} must be a number") for key in LIDAR),
        *((scanned(**{key: True}), f"lidar_config.{key} must be a number") for key in LIDAR),
        (scanned(num_values=32.5), "num_values must be a whole number"),
        (scanned(num_values=0), "num_values must be 1..4096"),
        (scanned(num_values=-4), "num_values must be 1..4096"),
        (scanned(num_values=8192), "num_values must be 1..4096"),
        (scanned(num_sectors=0), "multiple of num_sectors"),
        (scanned(num_sectors=5), "multiple of num_sectors"),
        (scanned(num_sectors=64), "multiple of num_sectors"),
        (scanned(min_angle=91), "min_angle must not be larger"),
        (scanned(max_angle=361), "-360..360"),
        (scanned(min_distance=2.6), "min_distance must not be larger"),
        (scanned(min_distance=-0.1), "min_distance must not be"),
        (scanned(min_distance=0, max_distance=0), "at least 0.01 m"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(PackageError, match=said) as error:
        parse_metadata(text)
    sentence(error.value)


# What nobody thought of.


def survives(data: bytes) -> None:
    """Unpacking succeeds or raises PackageError, and writes our own names into the folder and nothing elsewhere."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        source, target = home / "a.tar.gz", home / "target"
        source.write_bytes(data)
        target.mkdir()
        try:
            assert unpack(source, target).path == target
        except PackageError as error:
            sentence(error)
        assert sorted(home.iterdir()) == [source, target]
        assert source.read_bytes() == data
        assert all(only_ours(path) for path in target.rglob("*"))


def altered(base: bytes) -> st.SearchStrategy[bytes]:
    """`base` with a few bytes changed, and perhaps cut."""

    def alter(changes: list[tuple[int, int]], end: int) -> bytes:
        data = bytearray(base)
        for place, value in changes:
            data[place] = value
        return bytes(data[:end])

    place = st.one_of(st.integers(0, len(base) - 1), st.integers(0, min(1600, len(base) - 1)))
    changes = st.lists(st.tuples(place, st.integers(0, 255)), max_size=5)
    return st.builds(alter, changes, st.one_of(st.just(len(base)), st.integers(0, len(base))))


EXTENDED = hostile(name="notes", pax_headers={"comment": "é", "GNU.sparse.map": "0,5", "size": "0"})
SEEDS = (archive(GOOD), archive(GOOD, packed=False), EXTENDED)


@given(st.one_of(st.binary(max_size=1000), st.binary(max_size=1000).map(gzip.compress)))
def test_arbitrary_bytes_are_no_package_and_no_harm(data: bytes) -> None:
    survives(data)


@given(st.one_of(*map(altered, SEEDS)))
def test_altered_archives_do_no_harm(data: bytes) -> None:
    survives(data)


names = st.text(st.sampled_from("./\\a_ é\0\n") | st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(st.lists(st.one_of(names, names.map(lambda name: name + "/m.pb"), st.just("../x.pb")), max_size=4))
def test_no_names_do_harm(members: list[str]) -> None:
    survives(archive(dict.fromkeys(members, b"content") | GOOD))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(list(Sensor)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("sensor", "action_space", "action_space_type", "training_algorithm", "lidar_config", "version")


@given(
    st.one_of(
        st.binary(max_size=200),
        altered(described(sensor=["LIDAR"], lidar_config=LIDAR)),
        st.dictionaries(st.sampled_from(KEYS), values).map(lambda data: described(**data)),
        st.tuples(st.sampled_from(list(LIDAR)), values).map(lambda pair: scanned(**dict([pair]))),
        st.tuples(st.sampled_from(["steering_angle", "speed"]), values).map(lambda pair: act(**dict([pair]))),
        values.map(lambda end: between("speed", high=end)),
    )
)
def test_arbitrary_metadata_is_understood_or_refused(text: bytes) -> None:
    try:
        space = parse_metadata(text).action_space
    except PackageError as error:
        sentence(error)
    else:
        assert space.outputs > 0
        assert 0 < space.top_speed <= 1e6
