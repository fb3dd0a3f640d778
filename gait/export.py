"""A trained network as an ONNX file that any runtime reads.

exported = export(load_checkpoint("gait3d.pt").model, precision="float16")
exported.write(Path("gait3d.onnx"))

The graph is the folded network (`gait.model.folded`). Inputs: `silhouettes` (batch, frames, 64, 44)
float32 in 0..1 and, where asked for, `lengths` (batch,) int64; output: `embeddings` (batch, 256,
16) float32 in every precision.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.errors import CheckpointError, RuntimeUnavailable
from gait.export_check import SMALLEST_COSINE, Check, compared
from gait.model.checkpoint import model_hash
from gait.model.folded import FoldedGait, fold
from gait.model.trackletgait import TrackletGait
from gait.runtimes.quantise import quantise
from gait.runtimes.reference import calibration_tracklets
from gait.runtimes.runtime import Precision
from gait.tracklet import SILHOUETTE_HW

if TYPE_CHECKING:
    import onnx


FORMAT = "1"
PREFIX = "trackletgait."
"""What the names of our entries in a file's metadata begin with."""

INPUT = "silhouettes (batch, frames, 64, 44) float32: grey level / 255, in 0..1"
METRIC = "mean over the 16 parts of the Euclidean distance of (256,) vectors"

_OPSET = 20
_OPSETS = {"bfloat16": 22}  # the first whose convolutions may be bfloat16
_MAX_AXIS = 4096
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_PACKAGES = ("trackletgait", "torch", "onnx", "onnxscript")


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """An ONNX file before it is written.

    Attributes:
        onnx: The file's bytes.
        metadata: Our entries in it, without their prefix.
        checks: What was compared with torch; empty if nothing was.
    """

    onnx: bytes
    metadata: Mapping[str, str]
    checks: tuple[Check, ...]

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            DataError: It cannot be written.
        """
        write_atomically(path, self.onnx)


def export(
    model: TrackletGait | FoldedGait,
    *,
    precision: Precision = "float32",
    has_lengths: bool = False,
    symmetric: bool = False,
    calibration: Sequence[NDArray[np.uint8]] = (),
    metadata: Mapping[str, str] | None = None,
    checked: bool = True,
) -> Exported:
    """Return a network as an ONNX file, with what was found when it was compared with torch.

    Args:
        model: The network, trained. It stays as it is.
        precision: What the file computes in; its inputs and outputs are float32 in any case. No CPU
            runs bfloat16: there the check is of the rounded weights, the sums are in float32.
        has_lengths: Give the file a second input that says where each sequence ends, so that
            sequences of different lengths may share a call.
        symmetric: For int8: as TensorRT takes it; CPUs gain nothing by such a file.
        calibration: For int8: real tracklets, each (T, 64, 44) uint8; those that come with the
            package if empty.
        metadata: More entries for the file, or other ones, by names without prefix. A folded
            network does not know its `model_hash`; it may be given here.
        checked: Compare with torch on real silhouettes of random lengths first.

    Raises:
        CheckpointError: The network's weights are not finite.
        RuntimeFailed: The file does not reproduce the network.
        RuntimeUnavailable: There is no such precision in ONNX.
        TypeError: `model` is no network of ours.
    """
    _check_precision(precision)
    served = _served(model)
    if precision in _DTYPES:
        served.round_to(_DTYPES[precision])
    graph = _traced(served, has_lengths, _OPSETS.get(precision, _OPSET))
    if precision == "int8":
        tracklets = calibration or calibration_tracklets()
        graph = _without_notes(quantise(graph, tracklets, symmetric=symmetric))
    checks = _checks(graph, model, precision, has_lengths) if checked else ()
    entries = _entries(model, precision, checks) | _unprefixed(metadata or {})
    graph.producer_name, graph.producer_version = "trackletgait", _version("trackletgait")
    for key, value in sorted(entries.items()):
        graph.metadata_props.add(key=PREFIX + key, value=value)
    return Exported(graph.SerializeToString(deterministic=True), entries, checks)


def our_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return our entries of a file's metadata, without their prefix."""
    return {
        key.removeprefix(PREFIX): value for key, value in metadata.items() if key.startswith(PREFIX)
    }


def _check_precision(precision: str) -> None:
    if precision not in SMALLEST_COSINE:
        raise RuntimeUnavailable(
            f"precision: expected one of {', '.join(SMALLEST_COSINE)}, got {precision!r}"
        )


def _served(model: TrackletGait | FoldedGait) -> FoldedGait:
    """Return a folded copy on the CPU in float32."""
    if not isinstance(model, TrackletGait | FoldedGait):
        raise TypeError(
            f"model: expected a TrackletGait or a FoldedGait, got a {type(model).__name__}; load "
            "weights with gait.model.checkpoint.load_checkpoint"
        )
    folded = fold(model) if isinstance(model, TrackletGait) else copy.deepcopy(model)
    folded.float().cpu().eval()
    weights = {**model.state_dict(), **folded.state_dict()}
    bad = [key for key, value in weights.items() if not value.isfinite().all()]
    if bad:
        raise CheckpointError(
            f"model: expected finite weights, got NaN or infinite ones in {', '.join(bad[:5])}; "
            "the training diverged: export an earlier checkpoint"
        )
    return folded


def _traced(network: FoldedGait, has_lengths: bool, opset: int) -> onnx.ModelProto:
    """Return the graph torch makes of a network, without torch's notes on where it came from."""
    from torch.export import Dim

    batch, frames = (Dim(name, min=1, max=_MAX_AXIS) for name in ("batch", "frames"))
    arguments: tuple[torch.Tensor, ...] = (torch.rand(2, 7, *SILHOUETTE_HW),)
    axes: dict[str, dict[int, Any]] = {"silhouettes_NTHW": {0: batch, 1: frames}}
    if has_lengths:
        arguments += (torch.tensor([7, 5]),)
        axes["lengths_N"] = {0: batch}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about itself
        program = torch.onnx.export(
            network,
            arguments,
            dynamo=True,
            input_names=["silhouettes", "lengths"][: len(arguments)],
            output_names=["embeddings"],
            dynamic_shapes=axes,
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return _without_notes(program.model_proto)


def _without_notes(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what names files and lines of this machine, or differs from run to run."""
    for holder in (graph, graph.graph, *graph.graph.node, *graph.graph.value_info):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    return graph


def _checks(
    graph: onnx.ModelProto,
    model: TrackletGait | FoldedGait,
    precision: Precision,
    has_lengths: bool,
) -> tuple[Check, ...]:
    runnable = _widened(graph) if precision == "bfloat16" else graph
    rng = np.random.default_rng(0)  # a file is the same whenever it is made
    return compared(
        runnable.SerializeToString(), model, precision, has_lengths=has_lengths, rng=rng
    )


def _widened(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a bfloat16 graph in float32, its weights as they are: no CPU runs it otherwise."""
    import onnx
    from onnx import TensorProto, numpy_helper

    wide = onnx.ModelProto()
    wide.CopyFrom(graph)
    del wide.graph.value_info[:]
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    return wide


def _entries(
    model: TrackletGait | FoldedGait, precision: Precision, checks: Sequence[Check]
) -> dict[str, str]:
    known = {"model_hash": model_hash(model)} if isinstance(model, TrackletGait) else {}
    return known | {
        "format": FORMAT,
        "input": INPUT,
        "metric": METRIC,
        "precision": precision,
        "variant": model.config.name,
        "config": model.config.model_dump_json(),
        "versions": json.dumps({name: _version(name) for name in _PACKAGES}),
        "checks": json.dumps([_rounded(check) for check in checks]),
    }


def _rounded(check: Check) -> dict[str, float]:
    """Return a check without the digits that depend on the number of threads."""
    return {
        key: float(f"{value:.1e}") if key == "max_difference" else round(value, 6)
        for key, value in asdict(check).items()
    }


def _unprefixed(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(PREFIX): value for key, value in metadata.items()}


def _version(package: str) -> str:
    return importlib.metadata.version(package)
