"""Small networks and packages for tests: every one averages its pictures and multiplies by a few weights."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int | str, ...]

CAMERA = "main_level/agent/main/online/network_0/observation/observation"
WEIGHTS = np.array([[0.5, 2.0, 1.0]], np.float32)
"""Three answers from one channel: the second is the largest for whatever is not black."""


def onnx(
    weights: NDArray[np.float32] = WEIGHTS, inputs: Mapping[str, Shape] | None = None, depth: int = 0, wide: int = 0
) -> bytes:
    """An ONNX model, written by the published numbers of its fields; -1 and names are sizes that stay open.

    A picture, of any order of axes, is averaged to its channels; all inputs, in order, form one row that `weights`
    turns into the answers. In between stand `depth` layers, and the sum of `wide` ones that loading must lay out.
    """
    inputs = inputs or {CAMERA: ("batch", 120, 160, 1)}
    nodes, rows = [], []
    for place, (name, shape) in enumerate(inputs.items()):
        rows.append(name)
        if len(shape) == 4:
            rows[-1] = f"mean{place}"
            axes = (1, 2) if shape[3] in (1, 2) else (2, 3)
            nodes.append(_node("ReduceMean", [name], rows[-1], _attribute("axes", axes), _attribute("keepdims", 0)))
    nodes.append(_node("Concat", rows, "row0", _attribute("axis", 1)))
    nodes += [_node("Relu", [f"row{layer}"], f"row{layer + 1}") for layer in range(depth)]
    nodes.append(_node("MatMul", [f"row{depth}", "weights"], "answers" if not wide else "sums"))
    if wide:
        nodes.append(_node("ConstantOfShape", ["size"], "many"))
        nodes.append(_node("ReduceSum", ["many"], "sum", _attribute("keepdims", 0)))
        nodes.append(_node("Add", ["sums", "sum"], "answers"))
    graph = [
        *(_field(1, node) for node in nodes),
        _field(2, b"small"),
        _field(5, _onnx_tensor("weights", weights)),
        *([_field(5, _onnx_tensor("size", np.array([wide])))] if wide else []),
        *(_field(11, _value(name, shape)) for name, shape in inputs.items()),
        _field(12, _value("answers", ("batch", weights.shape[1]))),
    ]
    return _field(1, 8) + _field(7, b"".join(graph)) + _field(8, _field(2, 13))


def frozen(weights: NDArray[np.float32] = WEIGHTS, name: str = CAMERA) -> bytes:
    """The same network of one camera as a frozen TensorFlow graph, as the stock packages hold it."""
    answers = "main_level/agent/main/online/network_1/ppo_head_0/policy"
    return b"".join(
        _field(1, node)
        for node in (
            _tf_node(name, "Placeholder", dtype=_field(6, 1), shape=_field(7, _sizes((-1, 120, 160, 1)))),
            _tf_node("axes", "Const", dtype=_field(6, 3), value=_field(8, _tf_tensor(np.array([1, 2], np.int32), 3))),
            _tf_node("mean", "Mean", name, "axes", T=_field(6, 1), Tidx=_field(6, 3)),
            _tf_node("weights", "Const", dtype=_field(6, 1), value=_field(8, _tf_tensor(weights, 1))),
            _tf_node(answers, "MatMul", "mean", "weights", T=_field(6, 1)),
        )
    )


def metadata(actions: int = 3, **more: object) -> bytes:
    """The description of a discrete model of so many actions, each a little more to the left and a little faster."""
    space = [{"steering_angle": place - 1, "speed": 1 + place} for place in range(actions)]
    return json.dumps({"action_space": space} | more).encode()


def archive(files: Mapping[str, bytes], packed: bool = True) -> bytes:
    """A `.tar.gz`, or a `.tar`, of plain files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(content.getvalue(), 1) if packed else content.getvalue()


def package(path: Path, graph: bytes | None = None, described: bytes | None = None, **others: bytes) -> Path:
    """An archive at `path` as the stock console exports one, with an ONNX network unless told otherwise."""
    files = {"agent/model.onnx": onnx() if graph is None else graph}
    files["model_metadata.json"] = metadata() if described is None else described
    path.write_bytes(archive(files | others))
    return path


def _field(number: int, value: int | bytes) -> bytes:
    """One field of a protobuf message: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value & (1 << 64) - 1)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    small, rest = value & 0x7F, value >> 7
    return bytes([small | 0x80]) + _varint(rest) if rest else bytes([small])


def _node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    wires = [_field(1, name.encode()) for name in inputs] + [_field(2, output.encode()), _field(4, kind.encode())]
    return b"".join(wires) + b"".join(_field(5, attribute) for attribute in attributes)


def _attribute(name: str, value: int | tuple[int, ...]) -> bytes:
    if isinstance(value, int):
        return _field(1, name.encode()) + _field(3, value) + _field(20, 2)
    return _field(1, name.encode()) + b"".join(_field(8, item) for item in value) + _field(20, 7)


def _onnx_tensor(name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    sizes = b"".join(_field(1, size) for size in values.shape)
    kind = 1 if values.dtype == np.float32 else 7
    return sizes + _field(2, kind) + _field(8, name.encode()) + _field(9, values.tobytes())


def _value(name: str, shape: Shape) -> bytes:
    sizes = [_field(2, size.encode()) if isinstance(size, str) else _field(1, size) for size in shape]
    form = _field(1, 1) + _field(2, b"".join(_field(1, size) for size in sizes))
    return _field(1, name.encode()) + _field(2, _field(1, form))


def _tf_node(name: str, kind: str, *inputs: str, **attributes: bytes) -> bytes:
    parts = [_field(1, name.encode()), _field(2, kind.encode()), *(_field(3, wire.encode()) for wire in inputs)]
    parts += [_field(5, _field(1, key.encode()) + _field(2, value)) for key, value in attributes.items()]
    return b"".join(parts)


def _tf_tensor(values: NDArray[np.float32] | NDArray[np.int32], kind: int) -> bytes:
    return _field(1, kind) + _field(2, _sizes(values.shape)) + _field(4, values.tobytes())


def _sizes(shape: tuple[int, ...]) -> bytes:
    return b"".join(_field(2, _field(1, size)) for size in shape)
