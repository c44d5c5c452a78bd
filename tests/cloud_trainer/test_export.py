import tarfile
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from numpy.typing import NDArray

from cloud_trainer.export import INPUT_NAME, OUTPUT_NAME, GraphDef, describe, freeze, write_package
from cloud_trainer.network import COMPACT, SHALLOW, Architecture, PolicyNetwork, outputs
from inference.actions import ContinuousActions
from inference.package import Sensor, unpack
from sim_stub.env import commands

ACTIONS = ContinuousActions(steering_deg=(-30.0, 30.0), speed=(0.5, 2.5))


def network(architecture: Architecture, count: int, *, discrete: bool) -> PolicyNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return PolicyNetwork(architecture, count, discrete=discrete)


def run(graph: Path, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    core = ov.Core()
    compiled = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled(pictures)[compiled.output(0)], np.float32)


@pytest.mark.parametrize(("discrete", "count"), [(False, 2), (True, 7)])
@pytest.mark.parametrize("architecture", [COMPACT, SHALLOW], ids=["compact", "shallow"])
def test_the_graph_answers_what_the_network_answers(
    architecture: Architecture, discrete: bool, count: int, tmp_path: Path
) -> None:
    policy = network(architecture, count, discrete=discrete)
    pictures = np.random.default_rng(1).uniform(0, 255, (3, 120, 160, 1)).astype(np.float32)
    with torch.inference_mode():
        expected = policy(torch.from_numpy(pictures.transpose(0, 3, 1, 2)))
        expected = torch.softmax(expected, 1) if discrete else expected
    (tmp_path / "model.pb").write_bytes(freeze(policy))
    answer = run(tmp_path / "model.pb", pictures)
    assert answer.shape == (3, count)
    np.testing.assert_allclose(answer, expected.numpy(), rtol=0, atol=1e-4)


def test_the_graph_has_the_stock_names_and_says_what_it_takes() -> None:
    nodes = GraphDef.FromString(freeze(network(COMPACT, 2, discrete=False))).node
    assert (nodes[0].op, nodes[0].name) == ("Placeholder", INPUT_NAME)
    assert [size.size for size in nodes[0].attr["shape"].shape.dim] == [-1, 120, 160, 1]
    assert nodes[-1].name == OUTPUT_NAME
    known = {node.name for node in nodes}
    assert len(known) == len(nodes)
    assert all(source in known for node in nodes for source in node.input)


def test_the_graph_keeps_fields_that_the_schema_does_not_name() -> None:
    stranger = b"\x12\x04\x22\x02hi"  # field 2 of a GraphDef, its function library
    assert GraphDef.FromString(stranger).SerializeToString() == stranger


def test_equal_contents_make_equal_packages(tmp_path: Path) -> None:
    graph = freeze(network(COMPACT, 2, discrete=False))
    assert graph == freeze(network(COMPACT, 2, discrete=False))
    for name in ("one.tar.gz", "other.tar.gz"):
        write_package(tmp_path / name, graph, describe(COMPACT, ACTIONS))
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "other.tar.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar.gz", "other.tar.gz"]
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        assert archive.getnames() == ["agent/model.pb", "model_metadata.json"]


def test_the_car_reads_the_package(tmp_path: Path) -> None:
    graph = freeze(network(COMPACT, 2, discrete=False))
    write_package(tmp_path / "ours.tar.gz", graph, describe(COMPACT, ACTIONS))
    (tmp_path / "folder").mkdir()
    package = unpack(tmp_path / "ours.tar.gz", tmp_path / "folder")
    assert package.graph.read_bytes() == graph
    assert package.sensors == (Sensor.FRONT_FACING_CAMERA,)
    assert package.metadata.action_space == ACTIONS


def test_a_package_replaces_the_old_one_or_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "ours.tar.gz"
    path.write_bytes(b"old")
    write_package(path, b"graph", {"version": "5"})
    assert path.read_bytes() != b"old"
    with pytest.raises(OSError, match="nowhere"):
        write_package(tmp_path / "nowhere" / "ours.tar.gz", b"graph", {})


def test_outputs_and_commands_are_each_others_inverse() -> None:
    wanted = np.array([[-1.0, 1.0], [0.0, 0.0], [0.25, -1.0]], np.float32)
    asked = commands(ACTIONS, wanted)
    np.testing.assert_allclose(asked[:2], [[np.deg2rad(-30), 2.5], [0.0, 1.5]], atol=1e-12)
    np.testing.assert_allclose(outputs(ACTIONS, asked), wanted, atol=1e-6)
    np.testing.assert_array_equal(commands(ACTIONS, 3 * wanted)[0], asked[0])
