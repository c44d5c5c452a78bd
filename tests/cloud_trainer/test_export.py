"""Packages out of the trainer: TensorFlow and OpenVINO answer as torch does, the car drives, and weights come back."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import openvino as ov
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_trainer.agent import Agent, Algorithm
from cloud_trainer.export import agent_of, freeze, thaw, write_package
from cloud_trainer.graph import GraphDef
from cloud_trainer.network import ARCHITECTURES, Architecture, Convolution, Head, PolicyNetwork
from drivers.signals import Frame, LidarScan, Observation
from inference.actions import ContinuousActions, DiscreteActions
from inference.features import feature
from inference.package import ModelPackage, PackageError, Sensor, read, unpack
from inference.policy import OpenVinoPolicy

Arrays: TypeAlias = Mapping[str, NDArray[np.float32]]
"""By the names of tensors."""

RANGES = ContinuousActions(steering_deg=(-30.0, 20.0), speed=(0.5, 2.5))
SEVEN = DiscreteActions(tuple((10.0 * angle, 0.5 + abs(angle)) for angle in range(-3, 4)))
FRONT, STEREO = Sensor.FRONT_FACING_CAMERA, Sensor.STEREO_CAMERAS


def agents() -> Iterator[tuple[str, Agent]]:
    for network in ARCHITECTURES:
        discrete = Agent(actions=SEVEN, network=network)
        continuous = replace(discrete, actions=RANGES)
        yield f"{network}", discrete
        yield f"{network}, continuous", continuous
        yield f"{network}, sac", replace(continuous, algorithm=Algorithm.SAC)
        yield f"{network}, stereo", replace(discrete, sensors=(STEREO,))
        yield f"{network}, lidar", replace(discrete, sensors=(FRONT, Sensor.LIDAR))
    sac = Agent(actions=RANGES, algorithm=Algorithm.SAC)
    yield "stereo and lidar, sac", replace(sac, sensors=(STEREO, Sensor.LIDAR))
    yield "sectors, sac", replace(sac, sensors=(Sensor.SECTOR_LIDAR, Sensor.LEFT_CAMERA))
    yield "lidar alone", Agent(sensors=(Sensor.LIDAR,), actions=SEVEN)
    yield "bands", Agent(sensors=(Sensor.DISCRETIZED_SECTOR_LIDAR, Sensor.OBSERVATION), actions=RANGES)


AGENTS = dict(agents())
TINY = Architecture("TINY", (Convolution(2, 8, 8), Convolution(3, 4, 2)), (5,), (4,))


def fill(policy: PolicyNetwork, seed: int = 5) -> PolicyNetwork:
    """Weights that let every one of them count, biases included, and keep the sizes of what goes through."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.to_empty(device="cpu").parameters():
            parameter.normal_(0, (2 / max(parameter[0].numel(), 100)) ** 0.5, generator=chance)
    return policy


def network(agent: Agent, seed: int = 5) -> PolicyNetwork:
    with torch.device("meta"):  # to fill the larger ones once is enough
        return fill(agent.policy(), seed)


def tiny(head: Head = Head.DISCRETE, seed: int = 5) -> PolicyNetwork:
    return fill(PolicyNetwork(TINY, {FRONT: 1}, 3, head), seed)


def answer(policy: PolicyNetwork, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """What a car should get."""
    with torch.inference_mode():
        head = policy({name: torch.from_numpy(values) for name, values in inputs.items()})
        if policy.kind is Head.DISCRETE:
            head = torch.softmax(head, 1)
        return np.asarray((torch.tanh(head) if policy.kind is Head.SQUASHED else head).numpy())


def state(policy: PolicyNetwork) -> dict[str, torch.Tensor]:
    return {name: weights.clone() for name, weights in policy.state_dict().items()}


def same(policy: PolicyNetwork, before: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(weights, before[name]) for name, weights in policy.state_dict().items())


def folder(path: Path, graph: bytes, agent: Agent) -> ModelPackage:
    """As `unpack` leaves a package, without the time that packing takes."""
    (path / "model.pb").write_bytes(graph)
    (path / "model_metadata.json").write_text(json.dumps(agent.metadata()))
    return read(path, "ours")


# What TensorFlow and OpenVINO say

TENSORFLOW = """
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

options = tf.compat.v1.ConfigProto()
options.graph_options.rewrite_options.disable_meta_optimizer = True  # the graph as it is, and in a quarter of the time
for line in sys.stdin:
    folder, output, *names = line.rstrip().split("|")
    graph = tf.compat.v1.GraphDef.FromString(Path(folder, "model.pb").read_bytes())
    with np.load(Path(folder, "inputs.npz")) as inputs, tf.Graph().as_default():
        tf.import_graph_def(graph, name="")
        with tf.compat.v1.Session(config=options) as session:
            answers = session.run(output, {name: inputs[f"arr_{place}"] for place, name in enumerate(names)})
    np.save(Path(folder, "answers.npy"), answers)
    print("done", flush=True)
"""
"""TensorFlow in a process of its own, which the other libraries here need not get on with: a line for each graph."""

Runner: TypeAlias = Callable[[Path, Arrays, str], NDArray[np.float32]]


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("there is no TensorFlow for this system or this Python")
    log = tmp_path_factory.mktemp("tensorflow") / "log"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, "-c", TENSORFLOW],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            text=True,
            bufsize=1,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        ask, reply = process.stdin, process.stdout

        def run(path: Path, inputs: Arrays, output: str) -> NDArray[np.float32]:
            np.savez(path / "inputs.npz", *inputs.values())
            ask.write("|".join((str(path), output, *inputs)) + "\n")
            assert reply.readline() == "done\n", log.read_text()
            return np.asarray(np.load(path / "answers.npy"))

        yield run
        ask.close()


def openvino(path: Path, inputs: Arrays, output: str) -> NDArray[np.float32]:
    core = ov.Core()
    model = core.read_model(path / "model.pb")
    names = [port.get_any_name() for port in model.inputs]
    assert output in model.output().get_names()
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled([inputs[name] for name in names])[0], np.float32)


def seen(agent: Agent) -> tuple[dict[str, NDArray[np.float32]], Arrays, str]:
    """Three of what the agent may see: by sensor, and by the stock's names of tensors; and that of its answer."""
    rng = np.random.default_rng(1)
    sensors = {
        sensor.value: rng.uniform(0, 1, (3, size)).astype(np.float32)
        if sensor.is_lidar
        else np.kron(rng.integers(0, 256, (3, 6, 8, size)), np.ones((1, 20, 20, 1))).astype(np.float32)
        for sensor, size in network(replace(agent, network="compact")).inputs.items()
    }
    if agent.algorithm is Algorithm.SAC:
        scope, output = "main_level/agent/policy/online", "network_0/sac_policy_head_0/policy"
    else:
        scope, output = "main_level/agent/main/online", "network_1/ppo_head_0/policy"
    named = {f"{scope}/network_0/{name}/{name}:0": values for name, values in sensors.items()}
    return sensors, named, f"{scope}/{output}:0"


@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_tensorflow_and_openvino_answer_what_the_network_answers(
    agent: Agent, tensorflow: Runner, tmp_path: Path
) -> None:
    policy = network(agent)
    sensors, inputs, output = seen(agent)
    expected = answer(policy, sensors)
    assert np.ptp(expected, axis=0).max() > 0.02  # or agreement would mean little
    (tmp_path / "model.pb").write_bytes(freeze(policy))
    try:
        for run in (tensorflow, openvino):
            answers = run(tmp_path, inputs, output)
            assert answers.shape == (3, agent.actions.outputs)
            np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-4)
    finally:
        (tmp_path / "model.pb").unlink()  # the largest has 230 MB


# What the graph looks like

STOCK = [
    "FRONT_FACING_CAMERA/Conv2d_0",
    "FRONT_FACING_CAMERA/Conv2d_2",
    "FRONT_FACING_CAMERA/Conv2d_4",
    "middleware_fc_embedder/Dense_0",
    "ppo_head_0/policy_fc",
]
"""What holds the weights of a real one."""


def test_the_weights_lie_where_the_stock_keeps_them() -> None:
    graph = GraphDef.FromString(freeze(network(Agent(network="3-layer"))))
    shapes = {
        node.name.removeprefix("main_level/agent/main/online/network_1/"): [
            dim.size for dim in node.attr["value"].tensor.tensor_shape.dim
        ]
        for node in graph.node
        if node.name.endswith(("/kernel", "/bias"))
    }
    assert list(shapes) == [f"{scope}/{part}" for scope in STOCK for part in ("kernel", "bias")]
    assert shapes["FRONT_FACING_CAMERA/Conv2d_2/kernel"] == [4, 4, 32, 64]
    assert shapes["middleware_fc_embedder/Dense_0/kernel"] == [11264, 512]


def test_the_graph_says_what_it_takes_and_lacks_no_node() -> None:
    nodes = GraphDef.FromString(freeze(network(AGENTS["stereo and lidar, sac"]))).node
    takes = {
        node.name.rpartition("/")[2]: [dim.size for dim in node.attr["shape"].shape.dim]
        for node in nodes
        if node.op == "Placeholder"
    }
    assert takes == {"LIDAR": [-1, 64], "STEREO_CAMERAS": [-1, 120, 160, 2]}
    known: set[str] = set()
    for node in nodes:  # each stands behind what it needs
        assert known.issuperset(node.input)
        assert node.name not in known
        known.add(node.name)


def test_sensors_stand_side_by_side_by_name_as_the_stock_puts_them() -> None:
    one = network(replace(AGENTS["compact, lidar"], sensors=(FRONT, Sensor.LIDAR)))
    other = network(replace(AGENTS["compact, lidar"], sensors=(Sensor.LIDAR, FRONT)))
    assert freeze(one) == freeze(other)
    merger = next(node for node in GraphDef.FromString(freeze(one)).node if node.op == "ConcatV2")
    assert [name.split("/")[5] for name in merger.input[:2]] == ["FRONT_FACING_CAMERA", "LIDAR"]


def test_the_graph_keeps_fields_that_the_schema_does_not_name() -> None:
    stranger = b"\x12\x04\x22\x02hi"  # field 2 of a GraphDef, its function library
    assert GraphDef.FromString(stranger).SerializeToString() == stranger


# Packages

DRIVERS = ["compact", "compact, continuous", "compact, sac", "compact, stereo", "compact, lidar", "sectors, sac"]


@pytest.mark.parametrize("name", DRIVERS)
def test_the_car_drives_with_the_package(name: str, tmp_path: Path) -> None:
    agent, policy, rng = AGENTS[name], network(AGENTS[name]), np.random.default_rng(2)
    write_package(tmp_path / "ours.tar.gz", freeze(policy), agent.metadata())
    (tmp_path / "folder").mkdir()
    package = unpack(tmp_path / "ours.tar.gz", tmp_path / "folder")
    assert set(package.sensors) == set(agent.sensors)
    assert package.metadata.action_space == agent.actions
    frames = tuple(Frame(0.0, rng.integers(0, 256, (120, 160, 3), np.uint8)) for _ in range(package.cameras))
    observation = Observation(0.0, frames, LidarScan(0.0, rng.uniform(0.1, 2, 360).astype(np.float32)))
    inputs = {sensor.value: feature(sensor, observation, agent.lidar_config) for sensor in agent.sensors}
    expected, car = answer(policy, inputs)[0], OpenVinoPolicy(package)
    np.testing.assert_allclose(car.infer(observation), expected, rtol=0, atol=1e-4)
    assert car.decide(observation).steering == pytest.approx(agent.actions.action(expected).steering, abs=1e-3)
    if agent.head is Head.SQUASHED:
        assert abs(expected).max() < 1


def test_equal_contents_make_equal_packages(tmp_path: Path) -> None:
    graph = freeze(tiny())
    assert graph == freeze(tiny())
    for name in ("one.tar.gz", "other.tar.gz"):
        write_package(tmp_path / name, graph, Agent().metadata())
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "other.tar.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar.gz", "other.tar.gz"]
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        assert archive.getnames() == ["agent/model.pb", "model_metadata.json"]


def test_a_package_replaces_the_old_one_or_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "ours.tar.gz"
    path.write_bytes(b"old")
    write_package(path, b"graph", {"version": "5"})
    assert path.read_bytes() != b"old"
    with pytest.raises(OSError, match="nowhere"):
        write_package(tmp_path / "nowhere" / "ours.tar.gz", b"graph", {})


# And back


@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_a_package_tells_its_agent_and_gives_its_weights_back(agent: Agent, tmp_path: Path) -> None:
    policy = network(agent)
    package = folder(tmp_path, freeze(policy), agent)
    try:
        found = agent_of(package)
        assert found == replace(agent, lidar=agent.lidar_config)
        assert found.metadata() == agent.metadata()
        other = network(found, seed=6)
        thaw(package.graph.read_bytes(), other)
        assert same(other, state(policy))
    finally:
        package.graph.unlink()


@pytest.mark.parametrize("head", Head)
def test_what_was_thawed_freezes_to_the_same_bytes(head: Head) -> None:
    graph, other = freeze(tiny(head)), tiny(head, seed=6)
    thaw(graph, other)
    assert freeze(other) == graph


Change: TypeAlias = Callable[[Any], None]
"""Of a TensorProto."""


def changed(scope: str, change: Change) -> bytes:
    graph = GraphDef.FromString(freeze(tiny()))
    change(next(node for node in graph.node if node.name.endswith(scope)).attr["value"].tensor)
    data: bytes = graph.SerializeToString()
    return data


def as_floats(tensor: Any) -> None:
    tensor.float_val.extend(np.frombuffer(tensor.tensor_content, "<f4"))
    tensor.tensor_content = b""


def last_repeated(tensor: Any) -> None:
    as_floats(tensor)
    del tensor.float_val[2:]


def left_out(tensor: Any) -> None:
    tensor.tensor_content = b""


def test_weights_may_be_written_one_by_one_and_the_last_repeated() -> None:
    policy = tiny(seed=6)
    thaw(changed("Dense_0/kernel", as_floats), policy)
    assert same(policy, state(tiny()))
    thaw(changed("policy_fc/bias", last_repeated), policy)
    bias = tiny().head.bias
    assert policy.head.bias.tolist() == [bias[0].item(), bias[1].item(), bias[1].item()]
    thaw(changed("policy_fc/bias", left_out), policy)
    assert policy.head.bias.tolist() == [0, 0, 0]


def poison(value: float) -> Change:
    def change(tensor: Any) -> None:
        as_floats(tensor)
        tensor.float_val[1] = value

    return change


def broader(tensor: Any) -> None:
    tensor.tensor_shape.dim[0].size = 1 << 40


def negative(tensor: Any) -> None:
    tensor.tensor_shape.dim[0].size = -3


def flat(tensor: Any) -> None:
    del tensor.tensor_shape.dim[:]


def shorter(tensor: Any) -> None:
    tensor.tensor_content = tensor.tensor_content[:-1]


def longer(tensor: Any) -> None:
    as_floats(tensor)
    tensor.float_val.append(0)


def double(tensor: Any) -> None:
    tensor.dtype = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broader, r"policy_fc/bias of the model has shape \(1099511627776,\) and should have \(3,\)\."),
        (negative, r"shape \(-3,\)"),
        (flat, r"shape \(\)"),
        (shorter, "holds other than the 3 numbers of its shape"),
        (longer, "holds other than the 3 numbers of its shape"),
        (double, "is not made of float32 numbers"),
        (poison(float("nan")), "holds numbers that are not finite"),
        (poison(float("inf")), "holds numbers that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_network_stays_as_it_was(change: Change, message: str) -> None:
    policy = tiny(seed=6)
    before = state(policy)
    with pytest.raises(PackageError, match=message):
        thaw(changed("policy_fc/bias", change), policy)
    assert same(policy, before)


def test_a_network_of_another_kind_is_refused() -> None:
    with pytest.raises(PackageError, match=r"The model has no \S+/ppo_head_0/policy_mean/kernel"):
        thaw(freeze(tiny()), tiny(Head.CONTINUOUS))
    with pytest.raises(PackageError, match=r"The model has no \S+/policy/online/network_0/\S+/Conv2d_0/kernel"):
        thaw(freeze(tiny()), tiny(Head.SQUASHED))
    with pytest.raises(PackageError, match=r"Conv2d_0/kernel of the model has shape \(8, 8, 1, 2\)"):
        thaw(freeze(tiny()), network(Agent()))
    with pytest.raises(PackageError, match="damaged, or no TensorFlow graph"):
        thaw(b"\xff" * 100, tiny())


@st.composite
def damage(draw: st.DrawFn) -> bytes:
    data = bytearray(freeze(tiny()))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data) - 1)) :]
    for place in draw(st.lists(st.integers(0, max(len(data) - 1, 0)), max_size=8)) if data else []:
        data[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(graph=st.binary(max_size=300) | damage())
def test_a_damaged_graph_is_refused_or_read_and_nothing_else(graph: bytes, tmp_path: Path) -> None:
    policy = tiny(seed=6)
    before = state(policy)
    try:
        thaw(graph, policy)
    except PackageError:
        assert same(policy, before)
    else:
        assert all(weights.isfinite().all() for weights in policy.parameters())
    with pytest.raises(PackageError):  # of no architecture that has a name
        agent_of(folder(tmp_path, graph, Agent()))


def test_only_networks_that_can_be_trained_are_told(tmp_path: Path) -> None:
    graph = freeze(network(Agent()))
    assert agent_of(folder(tmp_path, graph, Agent())).network == "compact"
    none = "ours cannot be trained further: with its sensors and actions, its network is none of compact, 3-layer"
    for other in (AGENTS["compact"], AGENTS["compact, sac"], AGENTS["compact, stereo"], AGENTS["lidar alone"]):
        with pytest.raises(PackageError, match=none):
            agent_of(folder(tmp_path, graph, other))
    with pytest.raises(PackageError, match="damaged"):
        agent_of(folder(tmp_path, b"\xff", Agent()))
    (tmp_path / "model.pb").rename(tmp_path / "model.onnx")
    with pytest.raises(PackageError, match=r"\.pb, and its model is kept as \.onnx\."):
        agent_of(read(tmp_path, "ours"))
