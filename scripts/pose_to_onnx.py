"""Write the bundled person-mask network as ONNX: `pose_to_onnx.py IN.tflite OUT.onnx [GOLDEN.npz]`.

IN is `mediapipe/modules/pose_landmark/pose_landmark_full.tflite` of the PyPI package mediapipe
0.10.14 (BlazePose "full"). Kept are the mask and the presence score; landmarks and heat maps, which
nobody reads here, are left out with what only they need. The trained numbers are not changed: they
stay float16 in the file, as they are in IN, and the graph makes them float32.

GOLDEN receives what TensorFlow Lite answers to squares of `tests/data/street-*.jpg`; a test holds
OUT to it. Needs `pip install onnx ai-edge-litert opencv-python-headless`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OUTPUTS = {"mask": "Identity_2", "presence": "Identity_1"}  # our names, and those in IN
OPSET, IR_VERSION = 17, 8  # of 2022, so that no runtime in use is too old for them
SIDE = 256
NARROW = 8  # channels of the last, largest maps

STREET = Path(__file__).resolve().parent.parent / "tests" / "data"
SQUARES = (  # number of the picture, left, top; 128 pixels wide, twice enlarged they fill a crop
    (290, 308, 200),  # a walker in dark clothes
    (240, 590, 89),  # two shoulder to shoulder
    (240, 609, 89),  # the same, left of the middle
    (290, 356, 200),  # the walker at the edge
    (290, 420, 60),  # nobody
)


class Converter:
    """Translates a TensorFlow Lite graph, channels last, into ONNX nodes, channels first.

    The last, largest maps have 8 channels, and ONNX Runtime computes 16 at a time on processors
    with AVX-512. So the upper and the lower half of these maps become one of 16 channels, with as
    many rows of the other half as the convolutions reach over (`_rows`): the same numbers, and the
    whole network takes a fifth less time.

    Attributes:
        nodes: In an order in which they can run.
        weights: Arrays by name.
    """

    def __init__(self, tflite: bytes) -> None:
        model = schema.ModelT.InitFromPackedBuf(tflite, 0)
        self._graph = model.subgraphs[0]
        self._buffers = model.buffers
        self._kinds = [_operator_name(code) for code in model.operatorCodes]
        self._makers = {op.outputs[0]: op for op in self._graph.operators}
        self._pads: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._names: dict[int, str] = {self._graph.inputs[0]: "crops"}
        self._halved: set[int] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}

    def convert(self) -> None:
        """Add all that the outputs need."""
        indices = {self._graph.tensors[i].name.decode(): i for i in self._graph.outputs}
        self._names |= {indices[theirs]: ours for ours, theirs in OUTPUTS.items()}
        needed = self._needed([indices[theirs] for theirs in OUTPUTS.values()])
        for operator in self._graph.operators:
            if operator.outputs[0] in needed:
                self._translate(operator)

    def dequantize(self, operator: Any) -> None:
        """Add nothing: `_weights` does it where the weights are used."""

    def pad(self, operator: Any) -> None:
        """Leave it to the convolution that follows."""
        source, pads = operator.inputs
        _, (top, bottom), (left, right), _ = self._constant(pads).tolist()
        self._pads[operator.outputs[0]] = (source, (top, left, bottom, right))

    def conv(self, operator: Any) -> None:
        """Add a dense convolution; TensorFlow's weights are (out, H, W, in)."""
        kernel = self._constant(operator.inputs[1]).transpose(0, 3, 1, 2)
        if operator.inputs[0] in self._halved and len(kernel) == 1:
            self._last(operator, kernel)
        elif operator.inputs[0] in self._halved:
            rest = np.zeros_like(kernel)
            rows = [np.concatenate(row, axis=1) for row in ((kernel, rest), (rest, kernel))]
            self._conv(operator, np.concatenate(rows))
        else:
            self._conv(operator, kernel)

    def depthwise(self, operator: Any) -> None:
        """Add a convolution of each channel alone; TensorFlow's weights are (1, H, W, channels)."""
        kernel = self._constant(operator.inputs[1]).transpose(3, 0, 1, 2)
        if operator.inputs[0] in self._halved:
            kernel = np.concatenate([kernel, kernel])
        self._conv(operator, kernel, group=len(kernel))

    def add(self, operator: Any) -> None:
        """Add a sum of two maps."""
        output = operator.outputs[0]
        if self._halved.isdisjoint(operator.inputs):
            self._clipped("Add", [self._name(index) for index in operator.inputs], operator)
            return
        self._halved.add(output)
        inputs = [self._halves(index) for index in operator.inputs]
        if not _clips(operator):
            self._node("Add", inputs, self._name(output))
            return
        # ONNX Runtime clips at no cost what a convolution yields, and takes apart the blocks of
        # channels in which it keeps its maps to clip a sum.
        total = self._node("Add", inputs, f"{self._name(output)}_sum")
        self.weights["one"] = np.ones((2 * NARROW, 1, 1, 1), np.float32)
        self._clipped("Conv", [total, "one"], operator, group=2 * NARROW)

    def max_pool(self, operator: Any) -> None:
        """Add the largest of each window; the windows do not overlap."""
        options = operator.builtinOptions
        sides = (options.filterHeight, options.filterWidth)
        strides = (options.strideH, options.strideW)
        self._clipped("MaxPool", self._one(operator), operator, kernel_shape=sides, strides=strides)

    def resize(self, operator: Any) -> None:
        """Add a map enlarged by linear interpolation."""
        options, output = operator.builtinOptions, self._name(operator.outputs[0])
        if options.alignCorners or not options.halfPixelCenters:
            raise SystemExit(f"{output}: expected pixel centres at halves")
        into, out_of = self._shape(operator.outputs[0]), self._shape(operator.inputs[0])
        scales = [1, 1, into[1] / out_of[1], into[2] / out_of[2]]
        self.weights[f"{output}_scales"] = np.array(scales, np.float32)
        source = self._name(operator.inputs[0])
        if out_of[3] == NARROW:
            source = self._halves(operator.inputs[0])
            self._halved.add(operator.outputs[0])
        self._node("Resize", [source, "", f"{output}_scales"], output, mode="linear")

    def logistic(self, operator: Any) -> None:
        """Add the probability of a logit."""
        self._node("Sigmoid", self._one(operator), self._name(operator.outputs[0]))

    def reshape(self, operator: Any) -> None:
        """Add the one number of each crop, without its axes of length 1."""
        self.weights["flat"] = np.array([-1], np.int64)
        self._node("Reshape", [*self._one(operator), "flat"], self._name(operator.outputs[0]))

    def _needed(self, wanted: list[int]) -> set[int]:
        needed: set[int] = set()
        while wanted:
            index = wanted.pop()
            needed.add(index)
            wanted += list(self._makers[index].inputs) if index in self._makers else []
        return needed

    def _translate(self, operator: Any) -> None:
        kind = self._kinds[operator.opcodeIndex]
        if kind not in _TRANSLATIONS:
            raise SystemExit(f"operator {kind}: expected one of {', '.join(_TRANSLATIONS)}")
        _TRANSLATIONS[kind](self, operator)

    def _conv(self, operator: Any, kernel: NDArray[Any], *, group: int = 1) -> None:
        bias = self._constant(operator.inputs[2])
        if operator.inputs[0] in self._halved:
            self._halved.add(operator.outputs[0])
            bias = np.concatenate([bias, bias])
        source, attributes = self._placed(operator, kernel)
        inputs = [source, *self._weights(self._name(operator.outputs[0]), kernel, bias)]
        self._clipped("Conv", inputs, operator, group=group, **attributes)

    def _last(self, operator: Any, kernel: NDArray[Any]) -> None:
        # A single channel would take the time of a block of 8 or 16. Each channel by itself, then
        # the sum of each half's eight, is the same.
        source, attributes = self._placed(operator, kernel)
        output = self._name(operator.outputs[0])
        each = np.concatenate([kernel, kernel], axis=1).transpose(1, 0, 2, 3)
        bias = self._constant(operator.inputs[2])
        ones = np.kron(np.eye(2), np.ones((1, NARROW)))[:, :, None, None].astype(np.float16)
        none = np.zeros(2 * NARROW, np.float16)
        weights = self._weights(f"{output}_each", each, none)
        parts = self._node(
            "Conv", [source, *weights], f"{output}_each", group=2 * NARROW, **attributes
        )
        weights = self._weights(f"{output}_sum", ones, np.concatenate([bias, bias]))
        total = self._node("Conv", [parts, *weights], f"{output}_sum")
        rows = _rows(SIDE)
        upper = self._slice(total, f"{output}_upper", (0, 0), (1, SIDE // 2))
        lower = self._slice(total, f"{output}_lower", (1, rows - SIDE // 2), (2, rows))
        self._node("Concat", [upper, lower], output, axis=2)

    def _halves(self, index: int) -> str:
        """Return the upper and the lower half of a map as one of twice as many channels."""
        name = self._name(index)
        if index in self._halved:
            return name
        _, side, _, channels = self._shape(index)
        upper = self._slice(name, f"{name}_upper", (0, 0), (channels, _rows(side)))
        lower = self._slice(name, f"{name}_lower", (0, side - _rows(side)), (channels, side))
        return self._node("Concat", [upper, lower], f"{name}_halves", axis=1)

    def _slice(self, source: str, name: str, start: tuple[int, int], end: tuple[int, int]) -> str:
        """Cut channels and rows out of a map."""
        corners = {"axes": (1, 2), f"{name}_start": start, f"{name}_end": end}
        self.weights |= {key: np.array(value, np.int64) for key, value in corners.items()}
        return self._node("Slice", [source, f"{name}_start", f"{name}_end", "axes"], name)

    def _placed(self, operator: Any, kernel: NDArray[Any]) -> tuple[str, dict[str, Any]]:
        """Return the map that a convolution reads, and where it does so."""
        options = operator.builtinOptions
        index = operator.inputs[0]
        source, pads = self._pads.get(index, (index, (0, 0, 0, 0)))
        strides = (options.strideH, options.strideW)
        if options.padding == schema.Padding.SAME:
            pads = _same(self._shape(source)[1:3], kernel.shape[2:], strides)
        return self._name(source), {"strides": strides, "pads": pads}

    def _clipped(self, kind: str, inputs: list[str], operator: Any, **attributes: Any) -> None:
        """Add a node, and its activation if it has one."""
        output = self._name(operator.outputs[0])
        if not _clips(operator):
            self._node(kind, inputs, output, **attributes)
            return
        self.weights |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
        before = self._node(kind, inputs, f"{output}_before", **attributes)
        self._node("Clip", [before, "zero", "six"], output)

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _weights(self, output: str, *arrays: NDArray[Any]) -> list[str]:
        """Store a convolution's kernel and bias, and return the names of their float32 forms."""
        names = []
        for what, array in zip(("kernel", "bias"), arrays, strict=True):
            stored = f"{output}_{what}16"
            self.weights[stored] = np.ascontiguousarray(array)
            names.append(
                self._node("Cast", [stored], f"{output}_{what}", to=int(TensorProto.FLOAT))
            )
        return names

    def _constant(self, index: int) -> NDArray[Any]:
        """Return a constant as the file stores it, which for weights is float16."""
        if index in self._makers:
            index = self._makers[index].inputs[0]  # of a DEQUANTIZE
        tensor = self._graph.tensors[index]
        dtype = {schema.TensorType.FLOAT16: np.float16, schema.TensorType.INT32: np.int32}
        data = np.asarray(self._buffers[tensor.buffer].data)
        return np.asarray(data.view(dtype[tensor.type]).reshape(self._shape(index)))

    def _shape(self, index: int) -> tuple[int, ...]:
        return tuple(int(length) for length in self._graph.tensors[index].shape)

    def _name(self, index: int) -> str:
        return self._names.get(index, f"map{index}")

    def _one(self, operator: Any) -> list[str]:
        return [self._name(operator.inputs[0])]


_TRANSLATIONS: dict[str, Callable[[Converter, Any], None]] = {
    "DEQUANTIZE": Converter.dequantize,
    "PAD": Converter.pad,
    "CONV_2D": Converter.conv,
    "DEPTHWISE_CONV_2D": Converter.depthwise,
    "ADD": Converter.add,
    "MAX_POOL_2D": Converter.max_pool,
    "RESIZE_BILINEAR": Converter.resize,
    "LOGISTIC": Converter.logistic,
    "RESHAPE": Converter.reshape,
}


def _operator_name(code: Any) -> str:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next(
        str(name) for name, value in vars(schema.BuiltinOperator).items() if value == number
    )


def _clips(operator: Any) -> bool:
    activation = operator.builtinOptions.fusedActivationFunction
    known = (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6)
    if activation not in known:
        raise SystemExit(f"activation {activation}: expected none or ReLU6")
    return bool(activation == schema.ActivationFunctionType.RELU6)


def _rows(side: int) -> int:
    """Return the rows of a half: those of the map's half and some of the other half.

    Each 3 x 3 convolution and each enlargement spoils a row more at the cut, where it sees an edge
    instead of the other half. 35 of 64 rows leave 130 good ones of 256 at the end; 128 are needed.
    """
    return side * 35 // 64


def _same(
    source_hw: tuple[int, ...], kernel_hw: tuple[int, ...], stride_hw: tuple[int, int]
) -> tuple[int, ...]:
    """Return top, left, bottom, right of TensorFlow's SAME, whose odd pixel goes to the end."""
    totals = [
        max((-(-side // step) - 1) * step + kernel - side, 0)
        for side, kernel, step in zip(source_hw, kernel_hw, stride_hw, strict=True)
    ]
    return (*(t // 2 for t in totals), *(t - t // 2 for t in totals))


def convert(tflite: bytes) -> onnx.ModelProto:
    """Return the network: crops (N, 3, 256, 256) in; mask (N, 1, 256, 256), presence (N,) out."""
    converter = Converter(tflite)
    converter.convert()
    shapes = {"mask": ["batch", 1, SIDE, SIDE], "presence": ["batch"]}
    crops = helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    graph = helper.make_graph(
        converter.nodes,
        "pose_landmark_full",
        [crops],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in converter.weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    helper.set_model_props(
        model,
        {
            "trackletgait.input": "RGB in 0..1, a person in the middle",
            "trackletgait.source_sha256": hashlib.sha256(tflite).hexdigest(),
            "trackletgait.licence": "Apache-2.0, Copyright the MediaPipe Authors",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def golden(tflite: bytes) -> dict[str, NDArray[Any]]:
    """Return what TensorFlow Lite makes of the squares: presence, pixels, every fourth logit."""
    network = Interpreter(model_content=tflite, num_threads=1)
    network.allocate_tensors()
    outputs = {detail["name"]: detail["index"] for detail in network.get_output_details()}
    logits, presence = [], []
    for number, left, top in SQUARES:
        image = np.asarray(cv2.imread(str(STREET / f"street-{number}.jpg")), np.float32)
        square = image[top : top + SIDE // 2, left : left + SIDE // 2, ::-1]
        crop = square.repeat(2, axis=0).repeat(2, axis=1)[None] / np.float32(255)
        network.set_tensor(network.get_input_details()[0]["index"], crop)
        network.invoke()
        logits.append(network.get_tensor(outputs[OUTPUTS["mask"]])[0, :, :, 0])
        presence.append(network.get_tensor(outputs[OUTPUTS["presence"]])[0, 0])
    maps = np.stack(logits)
    return {
        "squares": np.array(SQUARES),
        "presence": np.array(presence),
        "pixels": np.packbits(maps > 0, axis=2),
        "every_fourth_logit": maps[:, ::4, ::4],
    }


def main() -> None:
    """Convert the file that the command line names."""
    source, target, *record = (Path(argument) for argument in sys.argv[1:])
    tflite = source.read_bytes()
    target.write_bytes(convert(tflite).SerializeToString(deterministic=True))
    for path in record:
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **golden(tflite))


if __name__ == "__main__":
    main()
