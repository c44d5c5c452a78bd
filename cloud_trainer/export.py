"""Out of the trainer: a policy network becomes a frozen TensorFlow graph, and the graph a package for the car."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

from cloud_trainer.network import Architecture, PolicyNetwork
from drivers.disk import write_atomically
from inference.actions import ContinuousActions
from inference.features import HEIGHT, WIDTH
from inference.package import METADATA, Sensor

SENSOR: Final = Sensor.FRONT_FACING_CAMERA.value
INPUT_NAME: Final = f"main_level/agent/main/online/network_0/{SENSOR}/{SENSOR}"
OUTPUT_NAME: Final = "main_level/agent/main/online/network_1/ppo_head_0/policy"
TOWER: Final = "main_level/agent/main/online/network_1"

DT_FLOAT: Final = 1
DT_INT32: Final = 3

_SCHEMA: Final = """
GraphDef: node 1 *NodeDef, versions 4 VersionDef, version 3 int32
NodeDef: name 1 string, op 2 string, input 3 *string, device 4 string, attr 5 {}AttrValue
AttrValue: list 1 ListValue, s 2 bytes, i 3 int64, f 4 float, b 5 bool, type 6 int32, shape 7 TensorShapeProto, \
tensor 8 TensorProto
ListValue: s 2 *bytes, i 3 *int64, f 4 *float, b 5 *bool, type 6 *int32, shape 7 *TensorShapeProto, \
tensor 8 *TensorProto
TensorProto: dtype 1 int32, tensor_shape 2 TensorShapeProto, version_number 3 int32, tensor_content 4 bytes, \
float_val 5 *float, double_val 6 *double, int_val 7 *int32, string_val 8 *bytes, int64_val 10 *int64, bool_val 11 *bool
TensorShapeProto: dim 2 *Dim, unknown_rank 3 bool
Dim: size 1 int64, name 2 string
VersionDef: producer 1 int32, min_consumer 2 int32, bad_consumers 3 *int32
"""
"""The part of TensorFlow's public graph format that policies use: field, number, type; `*` repeats, `{}` maps names.

Enumerations are written as int32, which is the same on the wire; fields not named here survive reading and writing.
"""


def _graph_messages() -> Any:
    """The GraphDef class. Its fields are made at run time, so no type checker can know them."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="frozen_graph.proto", package="frozen", syntax="proto3")
    for line in _SCHEMA.strip().splitlines():
        name, _, fields = line.partition(": ")
        message = file.message_type.add(name=name)
        for words in map(str.split, fields.split(", ")):
            entry = message.field.add(name=words[0], number=int(words[1]), label=field.LABEL_OPTIONAL)
            kind = words[2].lstrip("*{}")
            if words[2].startswith("*"):
                entry.label = field.LABEL_REPEATED
            if words[2].startswith("{}"):
                entry.label = field.LABEL_REPEATED
                entry.type, entry.type_name = field.TYPE_MESSAGE, f".frozen.{name}.{words[0].title()}Entry"
                pair = message.nested_type.add(name=f"{words[0].title()}Entry")
                pair.options.map_entry = True
                pair.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
                entry = pair.field.add(name="value", number=2, label=field.LABEL_OPTIONAL)
            if kind[0].isupper():
                entry.type, entry.type_name = field.TYPE_MESSAGE, f".frozen.{kind}"
            else:
                entry.type = field.Type.Value(f"TYPE_{kind.upper()}")
        if name == "AttrValue":
            message.oneof_decl.add(name="value")
            for entry in message.field:
                entry.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("frozen.GraphDef"))


GraphDef: Final = _graph_messages()
"""The protobuf message class of a TensorFlow graph: `GraphDef.FromString(data)` reads one, stock ones included."""


def freeze(network: PolicyNetwork) -> bytes:
    """The network as a frozen TensorFlow GraphDef with the stock names of input and output.

    In: INPUT_NAME, float32[?, 120, 160, channels], grey levels 0..255.
    Out: OUTPUT_NAME, float32[?, outputs]: the probabilities of a discrete policy, the raw mean of a continuous one.
    Equal weights give equal bytes.
    """
    weights = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in network.state_dict().items()}
    graph = _Graph()
    graph.add(INPUT_NAME, "Placeholder", dtype=DT_FLOAT, shape=(-1, HEIGHT, WIDTH, network.channels))
    full_scale = graph.constant("rescale/y", np.array(255.0, np.float32))
    last = graph.add(f"{TOWER}/{SENSOR}/rescale", "RealDiv", INPUT_NAME, full_scale, T=DT_FLOAT)
    for index, layer in enumerate(network.architecture.convolutions):
        name = f"{TOWER}/{SENSOR}/Conv2d_{index}"
        kernel = graph.constant(f"{name}/kernel", weights[f"convolutions.{index}.weight"].transpose(2, 3, 1, 0))
        strides = (1, layer.stride, layer.stride, 1)
        same = {"padding": b"VALID", "data_format": b"NHWC"}
        last = graph.add(f"{name}/Conv2D", "Conv2D", last, kernel, T=DT_FLOAT, strides=strides, **same)
        last = graph.add_bias(f"{name}/BiasAdd", last, weights[f"convolutions.{index}.bias"])
        last = graph.add(f"{name}/Relu", "Relu", last, T=DT_FLOAT)
    depth, height, width = network.architecture.features()
    flat = graph.constant(f"{TOWER}/flatten/shape", np.array([-1, depth * height * width], np.int32))
    last = graph.add(f"{TOWER}/flatten/Reshape", "Reshape", last, flat, T=DT_FLOAT, Tshape=DT_INT32)
    for index, size in enumerate(network.architecture.dense):
        matrix = weights[f"dense.{index}.weight"]
        if index == 0:  # the graph flattens height, width, channels; torch flattened channels, height, width
            matrix = matrix.reshape(size, depth, height, width).transpose(0, 2, 3, 1).reshape(size, -1)
        last = graph.multiply(f"{TOWER}/Dense_{index}", last, matrix)
        last = graph.add_bias(f"{TOWER}/Dense_{index}/BiasAdd", last, weights[f"dense.{index}.bias"])
        last = graph.add(f"{TOWER}/Dense_{index}/Relu", "Relu", last, T=DT_FLOAT)
    last = graph.multiply(f"{TOWER}/ppo_head_0/policy_fc", last, weights["head.weight"])
    if network.discrete:
        last = graph.add_bias(f"{TOWER}/ppo_head_0/policy_fc/BiasAdd", last, weights["head.bias"])
        graph.add(OUTPUT_NAME, "Softmax", last, T=DT_FLOAT)
    else:
        graph.add_bias(OUTPUT_NAME, last, weights["head.bias"])
    return graph.serialized()


class _Graph:
    """A GraphDef under construction; every method that adds a node returns its name."""

    def __init__(self) -> None:
        self._message = GraphDef()

    def add(self, name: str, op: str, *inputs: str, **attributes: bool | int | bytes | tuple[int, ...]) -> str:
        """An int is a data type; a tuple is a list of numbers or, as `shape`, a shape."""
        node = self._message.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            attribute = node.attr[key]
            match value:
                case bool():
                    attribute.b = value
                case int():
                    attribute.type = value
                case bytes():
                    attribute.s = value
                case tuple() if key == "shape":
                    for size in value:
                        attribute.shape.dim.add(size=size)
                case tuple():
                    attribute.list.i.extend(value)
        return name

    def constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int32]) -> str:
        node = self._message.node.add(name=name, op="Const")
        kind = DT_INT32 if value.dtype == np.int32 else DT_FLOAT
        node.attr["dtype"].type = kind
        tensor = node.attr["value"].tensor
        tensor.dtype = kind
        tensor.tensor_shape.SetInParent()
        for size in value.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = value.astype(value.dtype.newbyteorder("<")).tobytes()
        return name

    def multiply(self, name: str, last: str, weight: NDArray[np.float32]) -> str:
        """A dense layer without its bias; `weight` is torch's [out, in]."""
        kernel = self.constant(f"{name}/kernel", weight.T)
        return self.add(f"{name}/MatMul", "MatMul", last, kernel, T=DT_FLOAT, transpose_a=False, transpose_b=False)

    def add_bias(self, name: str, last: str, bias: NDArray[np.float32]) -> str:
        vector = self.constant(f"{name}/bias", bias)
        return self.add(name, "BiasAdd", last, vector, T=DT_FLOAT, data_format=b"NHWC")

    def serialized(self) -> bytes:
        data: bytes = self._message.SerializeToString(deterministic=True)
        return data


def describe(architecture: Architecture, actions: ContinuousActions) -> dict[str, object]:
    """The contents of model_metadata.json for a policy with these outputs, trained to drive by the front camera."""
    return {
        "action_space": {
            name: {"high": high, "low": low}
            for name, (low, high) in (("steering_angle", actions.steering_deg), ("speed", actions.speed))
        },
        "action_space_type": "continuous",
        "neural_network": architecture.stock_name,
        "sensor": [SENSOR],
        "training_algorithm": "clipped_ppo",
        "version": "5",
    }


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
