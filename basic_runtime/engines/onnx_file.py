"""Reads ONNX files as far as a bundle's integer graphs need it, without the onnx package.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), the bytes those of
Protocol Buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
FLOAT = 1
_DTYPES: dict[int, Any] = {FLOAT: np.float32, 3: np.int8, 5: np.int16, 7: np.int64, 10: np.float16}
"""TensorProto.DataType -> dtype, of those that these graphs use."""
_EXTERNAL = 1
_DOMAINS = ("", "ai.onnx")


_MAX_CHANNELS = 1 << 16


class UnreadableError(ValueError):
    """The file is no ONNX graph, or one with parts that this reader does not know."""


@dataclass(frozen=True)
class Node:
    """One operation: `attributes` are integers, floats, text, or tuples of integers."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """`inputs`: channels of each, 0 where the file does not state them; `constants`: the stored tensors."""

    inputs: dict[str, int]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: dict[str, NDArray[Any]]


def read_graph(path: Path, external_data: Path) -> Graph:
    """Read an ONNX file whose external tensors lie in a folder; they stay on disk until they are looked at.

    Raises UnreadableError, and OSError for a file that cannot be opened.
    """
    try:
        for number, value in _fields(memoryview(path.read_bytes())):
            if number == 7:
                return _graph(value, external_data)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        raise UnreadableError(f"{path}: {error or type(error).__name__}") from error
    raise UnreadableError(f"{path}: holds no graph")


def _graph(data: memoryview, external_data: Path) -> Graph:
    nodes: list[Node] = []
    constants: dict[str, NDArray[Any]] = {}
    inputs: dict[str, int] = {}
    outputs: list[str] = []
    files: dict[str, NDArray[np.uint8]] = {}
    for number, value in _fields(data):
        if number == 1:
            nodes.append(_node(value))
        elif number == 5:
            name, tensor = _tensor(value, external_data, files)
            constants[name] = tensor
        elif number == 11:
            name, channels = _value_info(value)
            inputs[name] = channels
        elif number == 12:
            outputs.append(_value_info(value)[0])
    return Graph(inputs, tuple(outputs), tuple(nodes), constants)


def _node(data: memoryview) -> Node:
    inputs, outputs, kind, attributes = [], [], "", {}
    for number, value in _fields(data):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            kind = _text(value)
        elif number == 5:
            name, attribute = _attribute(value)
            attributes[name] = attribute
        elif number == 7 and _text(value) not in _DOMAINS:
            raise UnreadableError(f"an operation of {_text(value)}")
    return Node(kind, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: memoryview) -> tuple[str, Any]:
    name, found, integers = "", None, []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            (found,) = struct.unpack("<f", value)
        elif number == 3:
            found = _signed(value)
        elif number == 4:
            found = _text(value)
        elif number == 8:
            integers += [value] if isinstance(value, int) else list(_varints(value))
    return name, tuple(_signed(value) for value in integers) if integers else found


def _tensor(data: memoryview, external_data: Path, files: dict[str, NDArray[np.uint8]]) -> tuple[str, NDArray[Any]]:
    name, shape, kind = "", [], 0
    raw: memoryview | NDArray[np.uint8] = memoryview(b"")
    place: dict[str, str] = {}
    external = False
    for number, value in _fields(data):
        if number == 1:
            shape += [value] if isinstance(value, int) else list(_varints(value))
        elif number == 2:
            kind = value
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = value
        elif number == 13:
            entry = dict(_fields(value))
            place[_text(entry[1])] = _text(entry[2])
        elif number == 14:
            external = value == _EXTERNAL
    if kind not in _DTYPES:
        raise UnreadableError(f"tensor {name} has a type that is not read here")
    if external:
        location = place["location"]
        if Path(location).name != location:
            raise UnreadableError(f"tensor {name} lies outside of the bundle")
        if location not in files:
            files[location] = np.memmap(external_data / location, np.uint8, "r")
        start = int(place.get("offset", "0"))
        raw = files[location][start : start + int(place["length"])]
    # In the file itself, tensors begin at any byte.
    return name, np.require(np.frombuffer(raw, _DTYPES[kind]).reshape(shape), requirements="A")


def _value_info(data: memoryview) -> tuple[str, int]:
    """The name of an input or output, and its channels."""
    fields = dict(_fields(data))
    name = _text(fields[1])
    shape = dict(_fields(dict(_fields(fields[2]))[1])).get(2, memoryview(b""))
    sides = [dict(_fields(side)).get(1, 0) for number, side in _fields(shape) if number == 1]
    channels = sides[1] if len(sides) == 4 else 0
    if channels > _MAX_CHANNELS:
        raise UnreadableError(f"{name} has {channels} channels")
    return name, channels


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: integers, bytes, or four or eight bytes."""
    position, end = 0, len(data)
    while position < end:
        key = data[position]
        position += 1
        if key > 127:
            key, position = _varint(data, position - 1)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size = data[position]
            position += 1
            if size > 127:
                size, position = _varint(data, position - 1)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise UnreadableError(f"a field of kind {kind}")
        if size > end - position:
            raise UnreadableError("cut short")
        yield key >> 3, data[position : position + size]
        position += size


def _varints(data: memoryview) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift >= 70:  # of 64 bits
            raise UnreadableError("a number without end")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: memoryview) -> str:
    return str(value, "utf-8")
