"""A trained network as an ONNX file that any runtime reads.

onnx = onnx_bytes(load_checkpoint("gait3d.pt").model)
export_onnx(model, Path("gait3d.onnx"), precision="float16")

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
from torch import nn

from gait.data.atomic import write_atomically
from gait.errors import CheckpointError, RuntimeFailed, RuntimeUnavailable
from gait.model.checkpoint import model_hash
from gait.model.folded import FoldedGait, fold
from gait.model.trackletgait import TrackletGait
from gait.runtimes.reference import calibration_tracklets, reference_tracklets
from gait.runtimes.runtime import Precision
from gait.silhouette import to_model_input
from gait.tracklet import SILHOUETTE_HW

if TYPE_CHECKING:
    import onnx

    from gait.runtimes.session import Session

FORMAT = "1"
PREFIX = "trackletgait."
"""What the names of our entries in a file's metadata begin with."""

INPUT = "silhouettes (batch, frames, 64, 44) float32: grey level / 255, in 0..1"
METRIC = "mean over the 16 parts of the Euclidean distance of (256,) vectors"

LARGEST_DIFFERENCE = 5e-5
"""Of a float32 graph to torch, for embeddings up to 1; in proportion for larger ones."""

SMALLEST_COSINE = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.999, "int8": 0.98}
"""Of the worst part of the worst tracklet to torch in float32."""

_OPSET = 20
_MAX_AXIS = 4096
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_PACKAGES = ("trackletgait", "torch", "onnx", "onnxscript")


@dataclass(frozen=True, slots=True)
class Check:
    """How one batch of real silhouettes came out of the file, compared with torch in float32.

    Attributes:
        batch: Sequences.
        frames: Of the longest.
        max_difference: Largest of all numbers of the embeddings.
        min_cosine: Of the worst part.
        mean_cosine: Over all parts.
    """

    batch: int
    frames: int
    max_difference: float
    min_cosine: float
    mean_cosine: float


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


def onnx_bytes(
    model: TrackletGait | FoldedGait,
    *,
    precision: Precision = "float32",
    has_lengths: bool = False,
    calibration: Sequence[NDArray[np.uint8]] = (),
    metadata: Mapping[str, str] | None = None,
    checked: bool = True,
) -> bytes:
    """Return a network as an ONNX file; `export` explains the arguments and errors."""
    return export(
        model,
        precision=precision,
        has_lengths=has_lengths,
        calibration=calibration,
        metadata=metadata,
        checked=checked,
    ).onnx


def export_onnx(
    model: TrackletGait | FoldedGait,
    path: Path,
    *,
    precision: Precision = "float32",
    has_lengths: bool = False,
    calibration: Sequence[NDArray[np.uint8]] = (),
    metadata: Mapping[str, str] | None = None,
    checked: bool = True,
) -> None:
    """Write a network to an ONNX file, whole or not at all; not if it fails its check.

    Args: As of `export`.

    Raises:
        DataError: The file cannot be written.
        GaitError: As of `export`.
    """
    onnx = onnx_bytes(
        model,
        precision=precision,
        has_lengths=has_lengths,
        calibration=calibration,
        metadata=metadata,
        checked=checked,
    )
    write_atomically(path, onnx)


def export(
    model: TrackletGait | FoldedGait,
    *,
    precision: Precision = "float32",
    has_lengths: bool = False,
    calibration: Sequence[NDArray[np.uint8]] = (),
    metadata: Mapping[str, str] | None = None,
    checked: bool = True,
) -> Exported:
    """Return a network as an ONNX file, with what was found when it was compared with torch.

    Args:
        model: The network, trained. It stays as it is.
        precision: What the file computes in; its inputs and outputs are float32 in any case.
        has_lengths: Give the file a second input that says where each sequence ends, so that
            sequences of different lengths may share a call.
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
    _check_model(model)
    _check_precision(precision)
    served = _served(model)
    graph = _graph(served, precision, has_lengths, calibration or calibration_tracklets())
    checks = _compared(graph.SerializeToString(), model, precision, has_lengths) if checked else ()
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


def _check_model(model: object) -> None:
    if not isinstance(model, TrackletGait | FoldedGait):
        raise TypeError(
            f"model: expected a TrackletGait or a FoldedGait, got a {type(model).__name__}; load "
            "weights with gait.model.checkpoint.load_checkpoint"
        )
    bad = [key for key, value in model.state_dict().items() if not value.isfinite().all()]
    if bad:
        raise CheckpointError(
            f"model: expected finite weights, got NaN or infinite ones in {', '.join(bad[:5])}; "
            "the training diverged: export an earlier checkpoint"
        )


def _check_precision(precision: str) -> None:
    if precision not in SMALLEST_COSINE:
        raise RuntimeUnavailable(
            f"precision: expected one of {', '.join(SMALLEST_COSINE)}, got {precision!r}"
        )


def _served(model: TrackletGait | FoldedGait) -> FoldedGait:
    """Return a folded copy on the CPU in float32."""
    folded = fold(model) if isinstance(model, TrackletGait) else copy.deepcopy(model)
    return folded.float().cpu().eval()


def _graph(
    served: FoldedGait,
    precision: Precision,
    has_lengths: bool,
    calibration: Sequence[NDArray[np.uint8]],
) -> onnx.ModelProto:
    if precision in _DTYPES:
        served.round_to(_DTYPES[precision])
    graph = _traced(served, has_lengths)
    if precision == "int8":
        from gait.runtimes.quantise import quantise

        return quantise(graph, calibration)
    return graph


def _traced(network: nn.Module, has_lengths: bool) -> onnx.ModelProto:
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
            opset_version=_OPSET,
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
        "checks": json.dumps([asdict(check) for check in checks]),
    }


def _unprefixed(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(PREFIX): value for key, value in metadata.items()}


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _compared(
    onnx: bytes, model: TrackletGait | FoldedGait, precision: Precision, has_lengths: bool
) -> tuple[Check, ...]:
    """Return how the file agrees with torch on real silhouettes of random lengths.

    Raises:
        RuntimeFailed: It does not.
    """
    from gait.runtimes.onnx_runtime import open_session

    trusted = copy.deepcopy(model).float().cpu().eval()
    session = open_session(onnx, device="cpu")
    try:
        checks = tuple(
            _check(session, trusted, silhouettes, lengths if has_lengths else None, precision)
            for silhouettes, lengths in _batches(np.random.default_rng(0), has_lengths)
        )
    finally:
        session.close()
    return checks


def _batches(
    rng: np.random.Generator, has_lengths: bool
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return batches of one frame, of one sequence and of several, cut from real tracklets."""
    sources = [each for each in reference_tracklets() if len(each) > 1]
    longest = max(len(each) for each in sources)
    batches = []
    for batch, frames in (
        (1, 1),
        (1, int(rng.integers(17, longest))),
        (3, int(rng.integers(2, 17))),
    ):
        enough = [each for each in sources if len(each) >= frames]
        cuts = np.stack([_cut(enough, frames, rng) for _ in range(batch)])
        lengths = rng.integers(1, frames + 1, batch) if has_lengths else np.full(batch, frames)
        batches.append((cuts, lengths.astype(np.int64)))
    return batches


def _cut(
    sources: Sequence[NDArray[np.uint8]], frames: int, rng: np.random.Generator
) -> NDArray[Any]:
    source = sources[int(rng.integers(len(sources)))]
    start = int(rng.integers(len(source) - frames + 1))
    return to_model_input(source[start : start + frames])


def _check(
    session: Session,
    trusted: TrackletGait | FoldedGait,
    silhouettes_NTHW: NDArray[np.float32],
    lengths_N: NDArray[np.int64] | None,
    precision: Precision,
) -> Check:
    feeds: dict[str, NDArray[Any]] = {"silhouettes": silhouettes_NTHW}
    if lengths_N is not None:
        feeds["lengths"] = lengths_N
    got_NDP = session.run(feeds)["embeddings"]
    expected_NDP = _one_by_one(trusted, silhouettes_NTHW, lengths_N)
    cosines_NP = _cosines(got_NDP, expected_NDP)
    check = Check(
        batch=silhouettes_NTHW.shape[0],
        frames=silhouettes_NTHW.shape[1],
        max_difference=float(np.abs(got_NDP - expected_NDP).max()),
        min_cosine=float(cosines_NP.min()),
        mean_cosine=float(cosines_NP.mean()),
    )
    _judge(check, precision, float(np.abs(expected_NDP).max()))
    return check


@torch.inference_mode()
def _one_by_one(
    trusted: TrackletGait | FoldedGait,
    silhouettes_NTHW: NDArray[np.float32],
    lengths_N: NDArray[np.int64] | None,
) -> NDArray[np.float32]:
    """Return torch's embeddings of each sequence for itself, so that nothing is padded."""
    lengths = [None] * len(silhouettes_NTHW) if lengths_N is None else lengths_N.tolist()
    return np.concatenate([
        trusted(torch.from_numpy(each[None, :length])).numpy()
        for each, length in zip(silhouettes_NTHW, lengths, strict=True)
    ])  # fmt: skip


def _cosines(x_NDP: NDArray[np.float32], y_NDP: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = x_NDP.astype(np.float64), y_NDP.astype(np.float64)
    norms_NP = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray((x * y).sum(axis=1) / np.maximum(norms_NP, np.finfo(np.float32).tiny))


def _judge(check: Check, precision: Precision, largest: float) -> None:
    allowed = LARGEST_DIFFERENCE * max(1.0, largest)
    # written so that NaN fails
    is_near = precision != "float32" or check.max_difference <= allowed
    if is_near and check.min_cosine >= SMALLEST_COSINE[precision]:
        return
    raise RuntimeFailed(
        f"export: expected the {precision} file to agree with torch (cosine of the worst part at "
        f"least {SMALLEST_COSINE[precision]}"
        + (f", largest difference at most {allowed:.1e}" if precision == "float32" else "")
        + f"), got {check.min_cosine:.5f} and {check.max_difference:.1e} on {check.batch} x "
        f"{check.frames} frames; nothing was written. Use a finer precision"
    )
