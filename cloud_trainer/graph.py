"""Frozen TensorFlow graphs without TensorFlow: nodes are written one by one, and constants read by their names."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from inference.package import PackageError

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


class GraphWriter:
    """A graph under construction; every method that adds a node returns its name."""

    def __init__(self) -> None:
        self._message = GraphDef()

    def add(self, name: str, op: str, *inputs: str, **attributes: bool | int | bytes | tuple[int, ...]) -> str:
        """An int is a data type or, as `N`, a count; a tuple is a list of numbers or, as `shape`, a shape."""
        node = self._message.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            attribute = node.attr[key]
            match value:
                case bool():
                    attribute.b = value
                case int() if key == "N":
                    attribute.i = value
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

    def serialized(self) -> bytes:
        """Equal nodes give equal bytes."""
        data: bytes = self._message.SerializeToString(deterministic=True)
        return data


class FrozenGraph:
    """A graph that somebody made; only its constants are looked at."""

    def __init__(self, data: bytes) -> None:
        """Raises PackageError."""
        try:
            nodes = GraphDef.FromString(data).node
        except DecodeError as error:
            raise PackageError("The model is damaged, or no TensorFlow graph.") from error
        self._tensors = {node.name: node.attr["value"].tensor for node in nodes if node.op == "Const"}

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Of that constant, as it claims; None where there is none."""
        tensor = self._tensors.get(name)
        return None if tensor is None else tuple(dim.size for dim in tensor.tensor_shape.dim)

    def floats(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A copy of that constant. Raises PackageError where it is not there, of another shape, or not finite."""
        if self.shape(name) is None:
            raise PackageError(f"The model has no {name}: it is a network of another kind.")
        if self.shape(name) != shape:
            raise PackageError(f"{name} of the model has shape {self.shape(name)} and should have {shape}.")
        tensor = self._tensors[name]
        content, values = tensor.tensor_content, tensor.float_val
        wanted = prod(shape)
        if tensor.dtype != DT_FLOAT:
            raise PackageError(f"{name} of the model is not made of float32 numbers.")
        if len(content) not in (0, 4 * wanted) or len(values) > wanted:
            raise PackageError(f"{name} of the model holds other than the {wanted} numbers of its shape.")
        if content:
            numbers = np.frombuffer(content, "<f4").astype(np.float32)
        else:  # the last one stands for all that follow, and nothing for zeros
            numbers = np.full(wanted, values[-1] if values else 0.0, np.float32)
            numbers[: len(values)] = values
        if not np.isfinite(numbers).all():
            raise PackageError(f"{name} of the model holds numbers that are not finite.")
        return numbers.reshape(shape)
