"""TensorFlow's checkpoints without TensorFlow: tensors by their names, in the two files of its V2 format, and `.meta`.

The index is a sorted table as LevelDB writes them: blocks of keys and values, a block that finds those by their last
keys, and a footer that finds this one. Under the empty key it keeps a BundleHeaderProto, under each tensor's name a
BundleEntryProto: the type, the shape and the place of its numbers in the data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cloud_trainer.graph import DT_FLOAT, DT_INT32, GraphDef
from inference.package import PackageError

Tensor: TypeAlias = NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64]

LARGEST_INDEX: Final = 1 << 20
"""Bytes. A policy's has a few thousand."""
LONGEST_NAME: Final = 4096
MOST_DIMENSIONS: Final = 16
DT_STRING: Final = 7
DT_INT64: Final = 9
_NUMBERS: Final[dict[int, np.dtype[Any]]] = {
    DT_FLOAT: np.dtype("<f4"),
    DT_INT32: np.dtype("<i4"),
    DT_INT64: np.dtype("<i8"),
}
_MAGIC: Final = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER: Final = 48


def write_bundle(tensors: Mapping[str, NDArray[np.float32]]) -> tuple[bytes, bytes]:
    """The contents of `.index` and `.data-00000-of-00001`. Equal tensors give equal bytes."""
    rows = [(b"", _number(1, 1) + _part(3, _number(1, 1)))]  # one data file, version 1
    parts: list[bytes] = []
    offset = 0
    for name, tensor in sorted((name.encode(), tensor) for name, tensor in tensors.items()):
        numbers = tensor.astype(_NUMBERS[DT_FLOAT]).tobytes()
        shape = b"".join(_part(2, _number(1, size)) for size in tensor.shape)
        place = _number(4, offset) + _number(5, len(numbers))
        rows.append((name, _number(1, DT_FLOAT) + _part(2, shape) + place + _fixed(6, _checksum(numbers))))
        parts.append(numbers)
        offset += len(numbers)
    index = bytearray()
    tensors_at = _append(index, rows)
    statistics_at = _append(index, [])
    blocks_at = _append(index, [(rows[-1][0], tensors_at)])
    index += (statistics_at + blocks_at).ljust(_FOOTER - len(_MAGIC), b"\0") + _MAGIC
    return bytes(index), b"".join(parts)


def read_bundle(index: bytes, data: bytes) -> dict[str, Tensor]:
    """The tensors of float32, int32 and int64, read-only; those of other types, and parts of tensors, are left out.

    Raises PackageError where the two files are not what they should be, or the tensors lie in more than one data file.
    """
    tensors: dict[str, Tensor] = {}
    rows = _rows(index)
    key, value = next(rows, (b"?", b""))
    numbers, parts = _message(value)
    if key:
        raise _damaged()
    if numbers.get(1) != 1:
        raise PackageError(f"The checkpoint has {numbers.get(1, 0)} data files, and only one that has one can be read.")
    if numbers.get(2):
        raise PackageError("The checkpoint was written by a machine of the other byte order.")
    left = len(data)
    for key, value in rows:
        numbers, parts = _message(value)
        kind = _NUMBERS.get(numbers.get(1, 0))
        if kind is None or 7 in parts or key.startswith(b"\0"):
            continue
        name, shape = _text(key), _shape(parts.get(2, []))
        offset, size = numbers.get(4, 0), numbers.get(5, 0)
        left -= size  # together no more than there is: no two in the same place
        if numbers.get(3) or offset + size > len(data) or left < 0 or size != prod(shape) * kind.itemsize:
            raise PackageError(f"The checkpoint's index and its data do not go together at {name}.")
        content = memoryview(data)[offset : offset + size]
        if _checksum(content) != numbers.get(6):
            raise PackageError(f"The checkpoint's data are damaged at {name}.")
        try:
            tensors[name] = np.frombuffer(content, kind).reshape(shape)
        except ValueError as error:  # nothing, in more dimensions than there are
            raise _damaged() from error
    return tensors


def meta_graph(graph: bytes, variables: Sequence[str]) -> bytes:
    """The contents of `.meta`: the frozen graph, but with those of its constants as variables, and operations that save
    and restore them.

    TensorFlow's import_meta_graph makes of it the saver that restores what write_bundle wrote.
    """
    message = GraphDef.FromString(graph)
    for node in message.node:
        if node.name in variables:
            node.op = "VariableV2"
            node.attr["shape"].shape.CopyFrom(node.attr["value"].tensor.tensor_shape)
            del node.attr["value"]

    def add(op: str, *inputs: str, name: str | None = None, **types: int | list[int]) -> Any:
        node = message.node.add(name=f"save/{name or op}", op=op, input=inputs)
        for key, kind in types.items():
            if isinstance(kind, int):
                node.attr[key].type = kind
            else:
                node.attr[key].list.type.extend(kind)
        return node

    for name, texts in (("Const", ["model"]), ("names", variables), ("slices", [""] * len(variables))):
        tensor = add("Const", name=name, dtype=DT_STRING).attr["value"].tensor
        tensor.dtype = DT_STRING
        tensor.tensor_shape.SetInParent()
        if name != "Const":
            tensor.tensor_shape.dim.add(size=len(texts))
        tensor.string_val.extend(text.encode() for text in texts)
    where, floats = ("save/Const", "save/names", "save/slices"), [DT_FLOAT] * len(variables)
    add("SaveV2", *where, *variables, dtypes=floats)
    add("Identity", "save/Const", "^save/SaveV2", T=DT_STRING)
    add("RestoreV2", *where, dtypes=floats)
    assignments = [
        add("Assign", name, f"save/RestoreV2:{place}", name=f"Assign_{place}", T=DT_FLOAT).name
        for place, name in enumerate(variables)
    ]
    add("NoOp", *(f"^{name}" for name in assignments), name="restore_all")
    saver = _part(1, b"save/Const:0") + _part(2, b"save/Identity:0") + _part(3, b"save/restore_all") + _number(7, 2)
    return _part(2, message.SerializeToString(deterministic=True)) + _part(3, saver)


# The table


def _append(index: bytearray, rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Put a block behind the others; returns the handle by which it is found.

    Every key is written whole: readers need not know that they could share their beginnings.
    """
    entries = (_varint(0) + _varint(len(key)) + _varint(len(value)) + key + value for key, value in rows)
    block = b"".join(entries) + struct.pack("<2I", 0, 1)  # one key to begin at, the first
    handle = _varint(len(index)) + _varint(len(block))
    block += b"\0"  # not packed
    index += block + struct.pack("<I", _checksum(block))
    return handle


def _rows(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The table's keys and values, in their order."""
    if len(index) > LARGEST_INDEX:
        raise PackageError(f"The checkpoint's index is larger than {LARGEST_INDEX} bytes.")
    if len(index) < _FOOTER or not index.endswith(_MAGIC):
        raise PackageError("The checkpoint's index is not one of TensorFlow's version 2, or not whole.")
    footer = _Reader(index[-_FOOTER:])
    _handle(footer)
    last, end = None, 0
    for _, handle in _block(index, *_handle(footer)):
        offset, size = _handle(_Reader(handle))
        if offset < end:  # or a small file could hold the same block a million times
            raise _damaged()
        end = offset + size
        for key, value in _block(index, offset, size):
            if last is not None and key <= last:
                raise _damaged()
            yield key, value
            last = key


def _handle(reader: _Reader) -> tuple[int, int]:
    """Where a block begins, and its size."""
    return reader.varint(), reader.varint()


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size + 1
    block, checksum = index[offset:end], index[end : end + 4]
    if end + 4 > len(index) or int.from_bytes(checksum, "little") != _checksum(block):
        raise _damaged()
    if block[-1]:
        raise PackageError("The checkpoint's index is compressed, as TensorFlow writes none.")
    restarts = 4 * (int.from_bytes(block[-5:-1], "little") + 1)
    reader = _Reader(block[: max(len(block) - 1 - restarts, 0)])
    key = b""
    while reader.left:
        shared, fresh, length = reader.varint(), reader.varint(), reader.varint()
        if shared > len(key) or shared + fresh > LONGEST_NAME:
            raise _damaged()
        key = key[:shared] + reader.take(fresh)
        yield key, reader.take(length)


class _Reader:
    """Reads bytes from their beginning; raises PackageError where there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _damaged()
        self._at += count
        return self._data[self._at - count : self._at]

    def varint(self) -> int:
        number = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise _damaged()


# Protocol buffers


def _message(data: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """The fields of a message that are numbers, of which the last counts, and those that are not."""
    numbers: dict[int, int] = {}
    parts: dict[int, list[bytes]] = {}
    reader = _Reader(data)
    while reader.left:
        field, wire = divmod(reader.varint(), 8)
        if wire == 0:
            numbers[field] = reader.varint()
        elif wire == 2:
            parts.setdefault(field, []).append(reader.take(reader.varint()))
        elif wire in (1, 5):
            numbers[field] = int.from_bytes(reader.take(8 if wire == 1 else 4), "little")
        else:
            raise _damaged()
    return numbers, parts


def _shape(parts: Sequence[bytes]) -> tuple[int, ...]:
    """What a TensorShapeProto says; none is a scalar's."""
    sizes = _message(parts[-1])[1].get(2, []) if parts else []
    if len(sizes) > MOST_DIMENSIONS:
        raise _damaged()
    return tuple(_message(size)[0].get(1, 0) for size in sizes)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _part(field: int, part: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(part)) + part


def _fixed(field: int, number: int) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<I", number)


# Checksums


def _table() -> NDArray[np.uint32]:
    """The remainders of single bytes in CRC-32C, after Castagnoli, whose polynomial is this, lowest power last."""
    rests = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        rests = np.where(rests & 1, rests >> 1 ^ np.uint32(0x82F63B78), rests >> 1)
    return rests


_RESTS: Final = _table()


@njit(cache=True, nogil=True)
def _rest(data: NDArray[np.uint8]) -> np.uint32:
    rest = np.uint32(0xFFFFFFFF)
    for byte in data:
        rest = _RESTS[(rest ^ byte) & np.uint32(0xFF)] ^ (rest >> np.uint32(8))
    return rest


def _checksum(data: bytes | memoryview) -> int:
    """CRC-32C as LevelDB keeps it, turned and moved: that of data with their own checksum behind them tells nothing."""
    crc = int(_rest(np.frombuffer(data, np.uint8))) ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise _damaged() from error


def _damaged() -> PackageError:
    return PackageError("The checkpoint's index is damaged.")
