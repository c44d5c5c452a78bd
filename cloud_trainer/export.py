"""Out of the trainer and back: a policy network becomes the package that a car installs, and a package a network."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import nn

from cloud_trainer.agent import Agent, Algorithm
from cloud_trainer.graph import DT_FLOAT, DT_INT32, FrozenGraph, GraphWriter
from cloud_trainer.network import ARCHITECTURES, Head, PolicyNetwork, left_over
from drivers.disk import write_atomically
from inference.features import HEIGHT, WIDTH
from inference.package import METADATA, ModelPackage, PackageError, Sensor

Layer: TypeAlias = nn.Conv2d | nn.Linear


class _Names(NamedTuple):
    """What the stock calls the parts of a network, and the operation by which its head answers."""

    inputs: str
    tower: str
    head: str
    layer: str
    operation: str


_PPO: Final = "main_level/agent/main/online"
_SAC: Final = "main_level/agent/policy/online"
_NAMES: Final = {
    Head.DISCRETE: _Names(f"{_PPO}/network_0", f"{_PPO}/network_1", "ppo_head_0", "policy_fc", "Softmax"),
    Head.CONTINUOUS: _Names(f"{_PPO}/network_0", f"{_PPO}/network_1", "ppo_head_0", "policy_mean", "Identity"),
    Head.SQUASHED: _Names(f"{_SAC}/network_0", f"{_SAC}/network_0", "sac_policy_head_0", "policy_mean", "Tanh"),
}


def freeze(network: PolicyNetwork) -> bytes:
    """The network as a frozen TensorFlow GraphDef whose nodes are named as in the stock's, for the stock's converters.

    In, for each sensor: `main_level/agent/main/online/network_0/<SENSOR>/<SENSOR>`, float32[?, 120, 160, cameras],
    grey levels 0..255, or float32[?, values].
    Out: `main_level/agent/main/online/network_1/ppo_head_0/policy`, float32[?, outputs]: the probabilities of a
    discrete policy, the mean of a continuous one.

    A squashed policy, SAC's: `main_level/agent/policy/online/network_0/<SENSOR>/<SENSOR>` and
    `.../network_0/sac_policy_head_0/policy`, the tanh of its mean. The stock leaves the tanh out, and the car clips the
    mean instead, which is not what was trained; what tanh gives, that clipping leaves as it is.

    Equal weights give equal bytes.
    """
    names, graph = _NAMES[network.kind], GraphWriter()
    parts = [_branch(graph, network, sensor, size) for sensor, size in network.inputs.items()]
    last = parts[0]
    if len(parts) > 1:
        axis = graph.constant(f"{names.tower}/merger/axis", np.array(1, np.int32))
        last = graph.add(f"{names.tower}/merger", "ConcatV2", *parts, axis, N=len(parts), T=DT_FLOAT, Tidx=DT_INT32)
    last = _chain(graph, _middleware(network), last)
    last = _layer(graph, *_head(network), last)
    graph.add(f"{names.tower}/{names.head}/policy", names.operation, last, T=DT_FLOAT)
    return graph.serialized()


def thaw(graph: bytes, network: PolicyNetwork) -> None:
    """Put the weights of a frozen graph, ours or the stock's, into the network.

    Raises PackageError where they are not those of such a network; it then stays as it was.
    """
    frozen = FrozenGraph(graph)
    fresh = []
    for scope, layer in _layers(network):
        weight, bias = layer.parameters()
        kernel = frozen.floats(f"{scope}/kernel", _kernel_shape(layer))
        fresh.append((weight, kernel.transpose(np.argsort(_axes(layer)))))
        fresh.append((bias, frozen.floats(f"{scope}/bias", tuple(bias.shape))))
    with torch.no_grad():
        for parameter, numbers in fresh:
            parameter.copy_(torch.from_numpy(numbers))


def agent_of(package: ModelPackage) -> Agent:
    """What the package was trained as; the shapes in its graph tell the network.

    Raises PackageError where it cannot be trained further, and OSError.
    """
    if package.graph.suffix != ".pb":
        raise PackageError(
            f"{package.name} cannot be trained further: that takes a TensorFlow graph, .pb, and its model is kept as "
            f"{package.graph.suffix}."
        )
    frozen, said = FrozenGraph(package.graph.read_bytes()), package.metadata
    for name in ARCHITECTURES:
        agent = Agent(said.sensors, said.action_space, name, Algorithm(said.algorithm), said.version, said.lidar)
        with torch.device("meta"):  # shapes without weights
            network = agent.policy()
        if all(frozen.shape(f"{scope}/kernel") == _kernel_shape(layer) for scope, layer in _layers(network)):
            return agent
    raise PackageError(
        f"{package.name} cannot be trained further: with its sensors and actions, its network is none of "
        f"{', '.join(ARCHITECTURES)}."
    )


def _layers(network: PolicyNetwork) -> Iterator[tuple[str, Layer]]:
    """All its layers, by the scopes that hold their weights."""
    for sensor in network.inputs:
        yield from _sensing(network, sensor)
    yield from _middleware(network)
    yield _head(network)


def _sensing(network: PolicyNetwork, sensor: Sensor) -> list[tuple[str, Layer]]:
    return _numbered(f"{_NAMES[network.kind].tower}/{sensor}", network.branches[sensor])


def _middleware(network: PolicyNetwork) -> list[tuple[str, Layer]]:
    return _numbered(f"{_NAMES[network.kind].tower}/middleware_fc_embedder", network.middleware)


def _head(network: PolicyNetwork) -> tuple[str, Layer]:
    names = _NAMES[network.kind]
    return f"{names.tower}/{names.head}/{names.layer}", network.head


def _numbered(scope: str, part: nn.Module) -> list[tuple[str, Layer]]:
    """The stock counts the activation behind each layer, too."""
    layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [
        (f"{scope}/{'Conv2d' if isinstance(layer, nn.Conv2d) else 'Dense'}_{2 * place}", layer)
        for place, layer in enumerate(layers)
    ]


def _axes(layer: Layer) -> tuple[int, ...]:
    """Torch's axes of a weight, in TensorFlow's order: [height, width, in, out] or [in, out]."""
    return (2, 3, 1, 0) if isinstance(layer, nn.Conv2d) else (1, 0)


def _kernel_shape(layer: Layer) -> tuple[int, ...]:
    return tuple(layer.weight.shape[axis] for axis in _axes(layer))


def _branch(graph: GraphWriter, network: PolicyNetwork, sensor: Sensor, size: int) -> str:
    names, layers = _NAMES[network.kind], _sensing(network, sensor)
    scope = f"{names.tower}/{sensor}"
    shape = (size,) if sensor.is_lidar else (HEIGHT, WIDTH, size)
    last = graph.add(f"{names.inputs}/{sensor}/{sensor}", "Placeholder", dtype=DT_FLOAT, shape=(-1, *shape))
    if sensor.is_lidar:
        return _chain(graph, layers, last)
    white = graph.constant(f"{scope}/truediv/y", np.array(255.0, np.float32))
    last = graph.add(f"{scope}/truediv", "RealDiv", last, white, T=DT_FLOAT)
    convolutions = network.architecture.convolutions_for(size)
    last = _chain(graph, layers[: len(convolutions)], last)
    depth, height, width = left_over(convolutions)
    if dense := layers[len(convolutions) :]:
        last = _chain(graph, dense, _reshape(graph, f"{scope}/places", last, depth))
        depth = dense[-1][1].weight.shape[0]
    return _reshape(graph, f"{scope}/Flatten/flatten", last, height * width * depth)


def _reshape(graph: GraphWriter, scope: str, last: str, columns: int) -> str:
    shape = graph.constant(f"{scope}/Reshape/shape", np.array([-1, columns], np.int32))
    return graph.add(f"{scope}/Reshape", "Reshape", last, shape, T=DT_FLOAT, Tshape=DT_INT32)


def _chain(graph: GraphWriter, layers: Iterable[tuple[str, Layer]], last: str) -> str:
    for scope, layer in layers:
        last = graph.add(f"{scope}/Relu", "Relu", _layer(graph, scope, layer, last), T=DT_FLOAT)
    return last


def _layer(graph: GraphWriter, scope: str, layer: Layer, last: str) -> str:
    weight, bias = (np.asarray(each.detach().cpu().numpy(), np.float32) for each in layer.parameters())
    kernel = graph.constant(f"{scope}/kernel", weight.transpose(_axes(layer)))
    if isinstance(layer, nn.Conv2d):
        strides = (1, layer.stride[0], layer.stride[1], 1)
        form = {"padding": b"VALID", "data_format": b"NHWC"}
        last = graph.add(f"{scope}/Conv2D", "Conv2D", last, kernel, T=DT_FLOAT, strides=strides, **form)
    else:
        last = graph.add(f"{scope}/MatMul", "MatMul", last, kernel, T=DT_FLOAT, transpose_a=False, transpose_b=False)
    vector = graph.constant(f"{scope}/bias", bias)
    return graph.add(f"{scope}/BiasAdd", "BiasAdd", last, vector, T=DT_FLOAT, data_format=b"NHWC")


def write_package(path: Path, graph: bytes, metadata: Mapping[str, object]) -> None:
    """Write the .tar.gz that a car installs: `agent/model.pb` and `model_metadata.json`.

    Equal contents give equal bytes. The file at `path` is replaced whole or, on OSError, left as it was.
    """
    text = json.dumps(metadata, indent=2) + "\n"
    write_atomically(path, _pack((("agent/model.pb", graph), (METADATA, text.encode("utf-8")))))


def _pack(files: Sequence[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data in files:
            entry = tarfile.TarInfo(name)  # time, owner and group are zero
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
