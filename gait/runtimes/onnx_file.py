"""An ONNX file, looked at before a vendor opens it.

A graph may name other files to read its weights from, and some vendors follow such names anywhere.
The structure of the file is walked here with no more than protobuf's wire format
(https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx, `onnx.proto`):
no weight is read, so it takes milliseconds, and no package is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gait.errors import CheckpointError

_MOST_BYTES = 2**31 - 1  # protobuf itself ends here
_DEEPEST = 32  # graphs within graphs; real ones have two or three

# Numbers of fields in onnx.proto.
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_TENSOR, _GRAPH_INPUT = 5, 11
_INPUT_AXES = (2, 1, 2, 1)  # from ValueInfoProto by type, tensor_type and shape
_NODE_OPERATOR, _TENSOR_NAME = 4, 8
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14  # the second is 0 for "in here"
_NUMBERS = 2**29  # protobuf's fields are below; a reader that cuts bits off would see another one

# Where messages lie that hold tensors, by the kind of message: field -> kind.
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
}

_Field = tuple[int, int | memoryview]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A graph that holds all it needs.

    Attributes:
        name: Of the file, for messages.
        content: Its bytes.
        metadata: What its author wrote into it.
        inputs: Name and shape of each, as `gait.runtimes.session.Port` has them; an axis without
            a name is called as the input and its place.
    """

    name: str
    content: bytes
    metadata: Mapping[str, str]
    inputs: Mapping[str, tuple[int | str, ...]]


def read_onnx(onnx: Path | bytes) -> OnnxFile:
    """Return a graph whose bytes have the structure of ONNX and that names no other file.

    Whether its operators make sense is for the vendor to say.

    Args:
        onnx: A file, or its content.

    Raises:
        CheckpointError: It cannot be read, is no ONNX graph, is cut off, or keeps weights or
            compiled code in another file.
    """
    name = str(onnx) if isinstance(onnx, Path) else "graph"
    content = onnx if isinstance(onnx, bytes) else _read(onnx)
    try:
        _walk(memoryview(content), "model", _DEEPEST)
        metadata = _metadata(memoryview(content))
        inputs = _inputs(memoryview(content))
    except _Malformed as error:
        raise CheckpointError(
            f"{name}: expected an ONNX file, got {error}; it is damaged, or something else"
        ) from error
    except _Elsewhere as error:
        raise CheckpointError(
            f"{name}: keeps {error} in another file, which is refused: such a name can lead to any "
            "file of this machine; export the model into one file"
        ) from error
    return OnnxFile(Path(name).name, content, metadata, inputs)


class _Malformed(Exception):
    """Bytes that are not what onnx.proto describes."""


class _Elsewhere(Exception):
    """A part of the graph that lies in another file; the message says what."""


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{path}: expected at most 2 GB, as ONNX files have")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def _walk(message: memoryview, kind: str, depth: int) -> None:
    if depth == 0:
        raise _Malformed(f"graphs within graphs more than {_DEEPEST} deep")
    if kind == "tensor":
        _check_tensor(message)
        return
    if kind == "node":
        _check_node(message)
    inside = _INSIDE[kind]
    has_graph = False
    for number, value in _fields(message):
        if number in inside:
            _walk(_as_bytes(value), inside[number], depth - 1)
        has_graph |= number == _MODEL_GRAPH
    if kind == "model" and not has_graph:
        raise _Malformed("a file without a graph")


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value != 0):
            raise _Elsewhere("weights")


def _check_node(node: memoryview) -> None:
    for number, value in _fields(node):
        # ONNX Runtime's node for an engine of a vendor, which may name the engine's file.
        if number == _NODE_OPERATOR and _as_bytes(value).tobytes() == b"EPContext":
            raise _Elsewhere("compiled code")


def _metadata(model: memoryview) -> dict[str, str]:
    found = {}
    for entry in _messages(model, _MODEL_METADATA):
        pair = dict(_fields(entry))
        found[_text(pair.get(1, b""))] = _text(pair.get(2, b""))
    return found


def _inputs(model: memoryview) -> dict[str, tuple[int | str, ...]]:
    """Return what the graph takes: its inputs without those that are weights."""
    found: dict[str, tuple[int | str, ...]] = {}
    weights = set()
    for graph in _messages(model, _MODEL_GRAPH):
        for tensor in _messages(graph, _GRAPH_TENSOR):
            weights |= {_text(name) for name in _messages(tensor, _TENSOR_NAME)}
        for entry in _messages(graph, _GRAPH_INPUT):
            name = "".join(_text(name) for name in _messages(entry, 1))
            axes = enumerate(_messages(entry, *_INPUT_AXES))
            found[name] = tuple(_axis(axis, f"{name}[{i}]") for i, axis in axes)
    return {name: shape for name, shape in found.items() if name not in weights}


def _axis(dimension: memoryview, nameless: str) -> int | str:
    length = nameless
    for number, value in _fields(dimension):
        if number == 1 and isinstance(value, int):
            return value
        if number == 2 and _as_bytes(value):
            length = _text(value)
    return length


def _messages(message: memoryview, *path: int) -> Iterator[memoryview]:
    """Yield what lies at a path of fields, every time it is there."""
    for number, value in _fields(message):
        if number == path[0]:
            inner = _as_bytes(value)
            if len(path) == 1:
                yield inner
            else:
                yield from _messages(inner, *path[1:])


def _text(value: int | memoryview | bytes) -> str:
    if isinstance(value, int):
        raise _Malformed("a number where a text belongs")
    try:
        return str(bytes(value), "utf-8")
    except UnicodeDecodeError as error:
        raise _Malformed("a text that is none") from error


def _as_bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _Malformed("a number where a message belongs")
    return value


def _fields(message: memoryview) -> Iterator[_Field]:
    """Yield the number and value of each field; a memoryview for those with a length."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value & 0xFFFFFFFFFFFFFFFF
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _Malformed("bytes of another format")
        if not 0 < number < _NUMBERS:
            raise _Malformed("bytes of another format")
        if position + length > end:
            raise _Malformed("a file that ends too early")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number at `position` and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _Malformed("a file that ends too early")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _Malformed("bytes of another format")
