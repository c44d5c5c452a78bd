"""The OpenVINO policy on networks small enough to work out by hand: which input gets what, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from drivers.signals import Frame, LidarScan, Observation
from inference.actions import OutputError
from inference.features import SensorMissing
from inference.package import METADATA, ModelPackage, PackageError, read
from inference.policy import OpenVinoPolicy
from tests.inference.making import CAMERA, WEIGHTS, Shape, frozen, metadata, onnx

Make = Callable[..., ModelPackage]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A package as it lies on the car after it was unpacked, of a graph and metadata."""

    def made(graph: bytes, kind: str = "onnx", actions: int = 3, **more: object) -> ModelPackage:
        (tmp_path / f"model.{kind}").write_bytes(graph)
        (tmp_path / METADATA).write_bytes(metadata(actions, **more))
        return read(tmp_path, "small")

    return made


def seen(*levels: int, scan: float | None = None) -> Observation:
    """Plain grey pictures, and a scan that sees the same distance everywhere."""
    frames = tuple(Frame(0.0, np.full((120, 160, 3), level, np.uint8)) for level in levels)
    return Observation(0.0, frames, None if scan is None else LidarScan(0.0, np.full(360, scan, np.float32)))


@pytest.mark.parametrize("kind", ["onnx", "pb"])
def test_a_network_of_one_camera_decides(make: Make, kind: str) -> None:
    policy = OpenVinoPolicy(make(onnx() if kind == "onnx" else frozen(), kind))
    assert policy.infer(seen(100)) == pytest.approx([50, 200, 100])
    assert policy.infer(seen(10)) == pytest.approx([5, 20, 10])
    action = policy.decide(seen(10))
    assert action.steering == 0
    assert action.throttle == pytest.approx(-1.2 * (2 / 3) ** 2 + 2.2 * (2 / 3))


def test_what_was_answered_before_is_not_overwritten_by_the_next_answer(make: Make) -> None:
    policy = OpenVinoPolicy(make(onnx()))
    first = policy.infer(seen(100))
    policy.infer(seen(0))
    assert first == pytest.approx([50, 200, 100])


def test_an_intermediate_representation_answers_the_same(make: Make, tmp_path: Path) -> None:
    (tmp_path / "source.onnx").write_bytes(onnx())
    ov.save_model(ov.Core().read_model(tmp_path / "source.onnx"), tmp_path / "model.xml")
    package = make((tmp_path / "model.xml").read_bytes(), "xml")
    assert package.graph == tmp_path / "model.xml"
    assert OpenVinoPolicy(package).infer(seen(100)) == pytest.approx([50, 200, 100])


@pytest.mark.parametrize(
    "shape",
    [("batch", 1, 120, 160), (1, 1, 120, 160), ("batch", 120, 160, 1), (4, 120, 160, 1), ("batch", 24, 32, 1)],
    ids=str,
)
def test_every_order_of_axes_size_and_batch_sees_the_picture(make: Make, shape: Shape) -> None:
    policy = OpenVinoPolicy(make(onnx(inputs={"x": shape})))
    assert policy.infer(seen(100)) == pytest.approx([50, 200, 100])


@pytest.mark.parametrize("shape", [("batch", 2, 120, 160), ("batch", 120, 160, 2)], ids=str)
def test_two_cameras_are_told_apart_in_either_order_of_axes(make: Make, shape: Shape) -> None:
    left_and_right = np.eye(2, dtype=np.float32)
    policy = OpenVinoPolicy(make(onnx(left_and_right, {"x": shape}), actions=2, sensor=["STEREO_CAMERAS"]))
    assert policy.infer(seen(10, 20)) == pytest.approx([10, 20])


STEREO = "main_level/agent/main/online/network_0/STEREO_CAMERAS/STEREO_CAMERAS"
LASER = "main_level/agent/main/online/network_0/LIDAR/LIDAR"


@pytest.mark.parametrize("sensors", [["STEREO_CAMERAS", "LIDAR"], ["LIDAR", "STEREO_CAMERAS"]], ids=str)
@pytest.mark.parametrize("laser_first", [True, False])
def test_inputs_are_fed_by_name_whatever_their_order(make: Make, sensors: list[str], laser_first: bool) -> None:
    pictures: dict[str, Shape] = {STEREO: ("batch", 120, 160, 2)}
    scan: dict[str, Shape] = {LASER: ("batch", 64)}
    three = np.zeros((66, 3), np.float32)  # left, right, the scan's first value
    places = (64, 65, 0) if laser_first else (0, 1, 2)
    three[places, range(3)] = 1
    graph = onnx(three, scan | pictures if laser_first else pictures | scan)
    policy = OpenVinoPolicy(make(graph, sensor=sensors))
    assert policy.infer(seen(10, 20, scan=0.25)) == pytest.approx([10, 20, 0.25])


def test_names_need_only_contain_the_sensor(make: Make) -> None:
    inputs: dict[str, Shape] = {"x_SECTOR_LIDAR_0": ("batch", 8), "in-FRONT_FACING_CAMERA": ("batch", 120, 160, 1)}
    policy = OpenVinoPolicy(
        make(onnx(np.ones((9, 1), np.float32), inputs), actions=1, sensor=["FRONT_FACING_CAMERA", "SECTOR_LIDAR"])
    )
    assert policy.infer(seen(10, scan=0.2)) == pytest.approx([18])
    assert policy.infer(seen(10, scan=3)) == pytest.approx([10])


def test_a_continuous_model_steers_by_its_means(make: Make) -> None:
    space = {"steering_angle": {"low": -30, "high": 30}, "speed": {"low": 0, "high": 2}}
    graph = onnx(np.array([[0.005, -0.01]], np.float32))
    policy = OpenVinoPolicy(make(graph, action_space_type="continuous", action_space=space))
    action = policy.decide(seen(100))
    assert (action.steering, action.throttle) == pytest.approx((0.5, 0), abs=1e-6)


def camera(*shape: int | str) -> bytes:
    return onnx(inputs={CAMERA: shape})


@pytest.mark.parametrize(
    ("graph", "more", "said"),
    [
        (onnx(), {"actions": 4}, "answers with shape .*, but its action space has 4 values"),
        (onnx(), {"actions": 2}, "answers with shape .*, but its action space has 2 values"),
        (onnx(np.ones((1, 1), np.float32)), {}, "answers with shape"),
        (onnx(), {"sensor": ["STEREO_CAMERAS"]}, "which STEREO_CAMERAS never has"),
        (onnx(), {"sensor": ["LIDAR"]}, "which LIDAR never has"),
        (onnx(inputs={"x": ("batch", 64)}, weights=np.ones((64, 3), np.float32)), {}, "which observation never has"),
        (onnx(np.ones((3, 3), np.float32), {"x": ("batch", 3, 120, 160)}), {}, "which observation never has"),
        (camera("batch", "height", "width", 1), {}, "float32 of a fixed shape"),
        (camera("batch", 4096, 4096, 1), {}, "which observation never has"),
        (onnx(), {"sensor": ["LIDAR", "observation"]}, "sensors that its model has no input for"),
        (
            onnx(np.ones((65, 3), np.float32), {"a": ("batch", 64), CAMERA: ("batch", 120, 160, 1)}),
            {"sensor": ["LIDAR", "observation"]},
            "Input a of small belongs to none of its sensors",
        ),
        (
            onnx(np.ones((2, 3), np.float32), {"observation": ("batch", 9, 9, 1), "observation2": ("batch", 9, 9, 1)}),
            {},
            "sensors that its model has no input for",
        ),
    ],
)
def test_a_network_that_does_not_fit_its_metadata_is_refused(
    make: Make, graph: bytes, more: dict[str, int], said: str
) -> None:
    with pytest.raises(PackageError, match=said) as error:
        OpenVinoPolicy(make(graph, **more))
    assert str(error.value).endswith(".")


def odd(shape: list[int] | None, kind: type = np.float32, rows: int = 1, answers: bool = True) -> ov.Model:
    """A network that answers zeros, whatever it is shown; no shape: any number of axes."""
    shown = op.parameter(ov.PartialShape.dynamic() if shape is None else shape, kind, name="x")
    answer = op.constant(np.zeros((rows, 3), np.float32))
    return ov.Model([answer, op.relu(shown)] if answers else [], [shown], "odd")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (odd(None), "cannot read"),
        (odd([]), "has shape .*, which observation never has"),
        (odd([-1, 0, 160, 1]), "has shape .*, which observation never has"),
        (odd([-1, 120, 160, 1], np.uint8), "must be float32"),
        (odd([-1, 120, 160, 1], rows=0), "answers with shape"),
        (odd([-1, 120, 160, 1], rows=2), "answers with shape"),
        (odd([-1, 120, 160, 1], answers=False), "answers nothing"),
    ],
    ids=["any axes", "no axes", "no rows of points", "bytes", "no answer", "two answers", "no output"],
)
def test_an_odd_network_is_refused(make: Make, tmp_path: Path, network: ov.Model, said: str) -> None:
    ov.save_model(network, tmp_path / "model.xml")
    with pytest.raises(PackageError, match=said):
        OpenVinoPolicy(make((tmp_path / "model.xml").read_bytes(), "xml"))


NO_TEXT = onnx().replace(CAMERA.encode(), b"\xff" * len(CAMERA))


@pytest.mark.parametrize("kind", ["onnx", "xml", "pb"])
@pytest.mark.parametrize("graph", [b"", b"garbage", bytes(1000), onnx()[:-20], b"<net/>", NO_TEXT])
def test_a_graph_that_cannot_be_read_is_refused_in_a_sentence(make: Make, graph: bytes, kind: str) -> None:
    with pytest.raises(PackageError) as error:
        OpenVinoPolicy(make(graph, kind))
    said = str(error.value)
    assert said.startswith("OpenVINO cannot read the model of small: ")
    assert said.endswith(".")
    assert "\n" not in said
    assert len(said) < 300


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_finite_stops_the_decision(make: Make, wrong: float) -> None:
    weights = WEIGHTS.copy()
    weights[0, 1] = wrong
    policy = OpenVinoPolicy(make(onnx(weights)))
    with pytest.raises(OutputError, match="not finite"):
        policy.decide(seen(1))


def test_a_scan_of_another_length_than_the_network_s_is_refused(make: Make) -> None:
    package = make(onnx(np.ones((32, 3), np.float32), {"LIDAR": ("batch", 32)}), sensor=["LIDAR"])
    with pytest.raises(OutputError, match=r"LIDAR gives shape \(1, 64\), the model takes \(1, 32\)"):
        OpenVinoPolicy(package).decide(seen(scan=1.0))


@pytest.mark.parametrize(
    ("sensors", "inputs", "observation"),
    [
        (["observation"], {"x": ("batch", 120, 160, 1)}, seen(scan=1.0)),
        (["STEREO_CAMERAS"], {"x": ("batch", 120, 160, 2)}, seen(1)),
        (["LIDAR"], {"x": ("batch", 64)}, seen(1)),
    ],
)
def test_a_missing_sensor_is_named(
    make: Make, sensors: list[str], inputs: dict[str, Shape], observation: Observation
) -> None:
    weights = np.ones((int(inputs["x"][-1]), 3), np.float32)
    policy = OpenVinoPolicy(make(onnx(weights, inputs), sensor=sensors))
    with pytest.raises(SensorMissing, match=sensors[0]):
        policy.decide(observation)


def test_what_was_compiled_is_kept_and_found_again(make: Make, tmp_path: Path) -> None:
    package, cache = make(onnx()), tmp_path / "cache"
    first = OpenVinoPolicy(package, cache=cache).infer(seen(100))
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert kept
    assert OpenVinoPolicy(package, cache=cache).infer(seen(100)) == pytest.approx(first)
    assert kept == {path: path.stat().st_mtime_ns for path in cache.iterdir()}


@pytest.mark.parametrize("length", [0, 7, 1000])
def test_a_damaged_cache_is_compiled_anew(make: Make, tmp_path: Path, length: int) -> None:
    package, cache = make(onnx()), tmp_path / "cache"
    OpenVinoPolicy(package, cache=cache)
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:length])
    assert OpenVinoPolicy(package, cache=cache).infer(seen(100)) == pytest.approx([50, 200, 100])
