"""TensorFlow's checkpoints: TensorFlow and we read what the other writes, and whatever is damaged is refused."""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cloud_trainer.bundle import LARGEST_INDEX, read_bundle, write_bundle
from inference.package import PackageError

FLOATS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
TENSORS: Mapping[str, NDArray[np.float32]] = {
    "scalar": np.array(0.5, np.float32),
    "nothing": np.zeros((0, 3), np.float32),
    "strange": np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
    "turned": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "naïve/名": np.ones(2, np.float32),
    **{f"main_level/agent/{place}/kernel": np.full((2, place + 1), place, np.float32) for place in range(40)},
}


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Bit for bit."""
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def both(prefix: Path) -> tuple[bytes, bytes]:
    index, data = (Path(f"{prefix}.{part}") for part in ("index", "data-00000-of-00001"))
    return index.read_bytes(), data.read_bytes()


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), FLOATS, max_size=20))
@settings(deadline=None)
def test_we_read_what_we_write(tensors: dict[str, NDArray[np.float32]]) -> None:
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("\0")}
    files = write_bundle(tensors)
    assert files == write_bundle(dict(reversed(tensors.items())))
    found = read_bundle(*files)
    assert list(found) == sorted(tensors, key=str.encode)
    assert all(
        same(found[name], np.ascontiguousarray(tensor).reshape(tensor.shape)) for name, tensor in tensors.items()
    )


# What TensorFlow says

TENSORFLOW = """
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

folder = Path(sys.argv[1])
chance = np.random.default_rng(1)
ours = tf.train.load_checkpoint(str(folder / "ours"))
names = sorted(ours.get_variable_to_shape_map())
np.savez(folder / "ours.npz", *(ours.get_tensor(name) for name in names))
(folder / "names").write_text("\\n".join(names))

with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    kernels = [chance.normal(size=(place, 3)).astype(np.float32) for place in range(1, 60)]
    held = {f"online/{place}/kernel": value for place, value in enumerate(kernels)}
    held |= {"global_step": np.int64(1 << 40), "count": np.int32(-5), "double": np.float64(0.1)}
    for name, value in held.items():
        tf.compat.v1.get_variable(name, initializer=value)
    tf.compat.v1.get_variable("text", initializer="hello")
    split = tf.compat.v1.fixed_size_partitioner(2)
    tf.compat.v1.get_variable("parted", shape=(4, 3), initializer=tf.zeros_initializer(), partitioner=split)
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver().save(session, str(folder / "saver"))
np.savez(folder / "saver.npz", **held)

step, layer = tf.Variable(7, dtype=tf.int64), tf.Variable([[1.5, -2.5]])
tf.train.Checkpoint(step=step, layer=layer).write(str(folder / "objects"))

names = [chance.bytes(40).hex() for _ in range(6000)]
numbers = [tf.constant(np.float32(place)) for place in range(6000)]
tf.raw_ops.SaveV2(prefix=str(folder / "many"), tensor_names=names, shape_and_slices=[""] * 6000, tensors=numbers)
(folder / "many.names").write_text("\\n".join(names))

parts = [str(folder / f"part-{place}") for place in range(2)]
for part in parts:
    tf.raw_ops.SaveV2(prefix=part, tensor_names=[part], shape_and_slices=[""], tensors=[tf.constant(1.0)])
tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(folder / "shards"))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In it TensorFlow has read our checkpoint and written its own."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("there is no TensorFlow for this system or this Python")
    folder = tmp_path_factory.mktemp("tensorflow")
    index, data = write_bundle(TENSORS)
    (folder / "ours.index").write_bytes(index)
    (folder / "ours.data-00000-of-00001").write_bytes(data)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, "-c", TENSORFLOW, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return folder


def test_tensorflow_reads_what_we_write(folder: Path) -> None:
    names = (folder / "names").read_text().split("\n")
    assert set(names) == set(TENSORS)
    with np.load(folder / "ours.npz") as read:
        for name, tensor in zip(names, read.values(), strict=True):
            assert same(tensor, np.ascontiguousarray(TENSORS[name]).reshape(TENSORS[name].shape)), name


def test_we_read_what_its_saver_writes(folder: Path) -> None:
    found = read_bundle(*both(folder / "saver"))
    with np.load(folder / "saver.npz") as held:
        expected = {name: held[name] for name in held if name != "double"}
    assert found.keys() == expected.keys()
    assert all(same(found[name], tensor) for name, tensor in expected.items())


def test_we_read_what_its_newer_checkpoints_hold(folder: Path) -> None:
    found = read_bundle(*both(folder / "objects"))
    assert found["step/.ATTRIBUTES/VARIABLE_VALUE"] == 7
    assert found["layer/.ATTRIBUTES/VARIABLE_VALUE"].tolist() == [[1.5, -2.5]]


def test_we_read_tables_of_several_blocks(folder: Path) -> None:
    found = read_bundle(*both(folder / "many"))
    expected = {name: float(place) for place, name in enumerate((folder / "many.names").read_text().split("\n"))}
    assert {name: tensor.item() for name, tensor in found.items()} == expected


def test_several_data_files_are_refused(folder: Path) -> None:
    index = (folder / "shards.index").read_bytes()
    with pytest.raises(PackageError, match="The checkpoint has 2 data files"):
        read_bundle(index, b"")


# Damage


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def checksum(data: bytes) -> bytes:
    """By the book: bit by bit."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ 0x82F63B78 * (rest & 1)
    crc = rest ^ 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def block(content: bytes, kind: int = 0) -> bytes:
    whole = content + bytes([kind])
    return whole + checksum(whole)


def entries(*rows: tuple[bytes, bytes]) -> bytes:
    """The content of a block."""
    parts = [b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in rows]
    return b"".join(parts) + struct.pack("<2I", 0, 1)


def table(blocks: Sequence[bytes], found: bytes | None = None) -> bytes:
    """An index of these blocks' contents; `found` instead of the block that finds them."""
    index, handles = b"", []
    for content in blocks:
        handles.append(varint(len(index)) + varint(len(content)))
        index += block(content)
    last = found or entries(*((bytes([255, place]), handle) for place, handle in enumerate(handles)))
    footer = b"\0\0" + varint(len(index)) + varint(len(last))
    return index + block(last) + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


HEADER = (b"", b"\x08\x01")


def entry(
    dtype: int = 1,
    shape: Sequence[int] = (2,),
    offset: int = 0,
    size: int = 8,
    shard: int = 0,
    crc: bytes | None = None,
) -> bytes:
    sizes = b"".join(b"\x12" + varint(len(varint(each)) + 1) + b"\x08" + varint(each) for each in shape)
    whole = b"\x08" + varint(dtype) + b"\x12" + varint(len(sizes)) + sizes + b"\x18" + varint(shard)
    return whole + b"\x20" + varint(offset) + b"\x28" + varint(size) + b"\x35" + (crc or checksum(DATA[:8]))


DATA = struct.pack("<4f", 1, 2, 3, 4)


def one(value: bytes) -> bytes:
    return table([entries(HEADER, (b"a", value))])


def test_a_table_made_by_hand_is_read() -> None:
    assert checksum(b"123456789") == struct.pack("<I", (0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8 & 0xFFFFFFFF)
    assert read_bundle(one(entry()), DATA)["a"].tolist() == [1, 2]
    apart = [entries(HEADER, (b"a", entry())), entries((b"b", entry(offset=8, crc=checksum(DATA[8:]))))]
    assert {name: tensor.tolist() for name, tensor in read_bundle(table(apart), DATA).items()} == {
        "a": [1, 2],
        "b": [3, 4],
    }


def test_what_is_of_no_use_is_left_out() -> None:
    part = entry() + b"\x3a\x00"
    rows = [HEADER, (b"\0part", entry()), (b"parted", part), (b"text", entry(dtype=7, size=99))]
    assert read_bundle(table([entries(*rows)]), DATA) == {}


SHARED = b"\0\0\2\x08\x01" + b"\1\1\0a" + struct.pack("<2I", 0, 1)
LONG = entries(HEADER, (b"a" * 4097, entry()))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"", "not one of TensorFlow's version 2, or not whole"),
        (one(entry())[:-1], "not one of TensorFlow's version 2, or not whole"),
        (b"\0" * LARGEST_INDEX + one(entry()), "larger than 1048576 bytes"),
        (table([]), "index is damaged"),
        (table([entries((b"a", entry()))]), "index is damaged"),
        (table([entries(HEADER, (b"b", entry()), (b"a", entry()))]), "index is damaged"),
        (table([entries(HEADER), entries(HEADER)]), "index is damaged"),
        (table([entries(HEADER)], entries((b"a", b"\0\x0d"), (b"b", b"\0\x0d"))), "index is damaged"),
        (table([entries(HEADER)], entries((b"a", b"\0\xff\xff\xff\xff\x7f"))), "index is damaged"),
        (table([entries(HEADER)], entries((b"a", b"\xff" * 11))), "index is damaged"),
        (table([SHARED]), "index is damaged"),
        (table([LONG]), "index is damaged"),
        (table([b"\xff\xff\xff\xff"]), "index is damaged"),
        (table([b""]), "index is damaged"),
        (table([entries(HEADER, (b"\xff", entry()))]), "index is damaged"),
        (table([entries(HEADER, (b"a", b"\x0b"))]), "index is damaged"),
        (one(entry(shape=[1] * 17)), "index is damaged"),
        (one(entry(shape=[0, 1 << 62, 1 << 62], size=0, crc=checksum(b""))), "index is damaged"),
        (table([entries((b"", b"\x08\x03"))]), "has 3 data files"),
        (table([entries((b"", b""))]), "has 0 data files"),
        (table([entries((b"", b"\x08\x01\x10\x01"))]), "other byte order"),
        (one(entry(offset=9)), "do not go together at a"),
        (one(entry(offset=1 << 62)), "do not go together at a"),
        (one(entry(shape=[1 << 62], size=1 << 64)), "do not go together at a"),
        (one(entry(shape=[3])), "do not go together at a"),
        (one(entry(shape=[1 << 63])), "do not go together at a"),
        (one(entry(shard=1)), "do not go together at a"),
        (table([entries(HEADER, *((bytes([key]), entry()) for key in range(65, 68)))]), "do not go together at C"),
        (one(entry(crc=b"\0\0\0\0")), "data are damaged at a"),
    ],
)
def test_whatever_is_wrong_is_refused_in_a_sentence(index: bytes, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        read_bundle(index, DATA)


def test_compressed_blocks_are_refused() -> None:
    content, found = entries(HEADER), entries((b"z", b"\0" + varint(len(entries(HEADER)))))
    index = block(content, kind=1)
    footer = b"\0\0" + varint(len(index)) + varint(len(found))
    with pytest.raises(PackageError, match="index is compressed"):
        read_bundle(index + block(found) + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"), b"")


FILES = write_bundle({name: TENSORS[name] for name in ("scalar", "strange", "turned")})


@given(st.data())
@settings(deadline=None)
def test_damage_is_refused_or_does_no_harm(data: st.DataObject) -> None:
    files = list(FILES)
    which = data.draw(st.integers(0, 1))
    whole = bytearray(files[which])
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=3, unique=True)):
            whole[place] ^= data.draw(st.integers(1, 255))
    files[which] = bytes(whole)
    try:
        found = read_bundle(*files)
    except PackageError:
        return
    assert which == 0
    assert all(same(tensor, read_bundle(*FILES)[name]) for name, tensor in found.items())


@given(st.binary(max_size=200), st.binary(max_size=100))
@settings(deadline=None)
def test_nothing_is_anything_but_refused(content: bytes, data: bytes) -> None:
    for index in (content, table([content]), table([entries(HEADER)], content or b"\0"), one(content)):
        try:
            read_bundle(index, data)
        except PackageError:
            continue
