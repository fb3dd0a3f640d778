"""Every way to run one network, whether this machine can or not: what a benchmark compares."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gait.encoder import Encoder
from gait.errors import RuntimeUnavailable
from gait.model.checkpoint import model_hash
from gait.model.folded import fold
from gait.model.trackletgait import TrackletGait
from gait.runtimes import parity
from gait.runtimes.choose import open_by, why_not
from gait.runtimes.graphs import Graph
from gait.runtimes.measure import Contender
from gait.runtimes.original import OriginalGraph
from gait.runtimes.parity import Verdict
from gait.runtimes.runtime import Precision, Runtime, RuntimeName
from gait.runtimes.session_runtime import SessionRuntime
from gait.runtimes.torch_runtime import TorchRuntime

Way = Literal["torch", "torch-compiled", "onnxruntime", "openvino", "tensorrt"]
WAYS: tuple[Way, ...] = ("torch", "torch-compiled", "onnxruntime", "openvino", "tensorrt")
"""The runtimes; torch in two ways, for compiling takes a minute."""

SERVED = "served"
"""What the encoder itself chose, with its own batches."""

Against = Literal["original-graph", "original-channels-last"]
AGAINST: tuple[Against, ...] = ("original-graph", "original-channels-last")
"""The unfolded network in torch: as its authors published it, or as `gait.encoder` ran it before
networks were folded."""


class Contenders:
    """Opens one network in every way; graphs are exported once for all who read them."""

    def __init__(self, model: TrackletGait, *, device: str, threads: int) -> None:
        """Take over a network.

        Args:
            model: On the CPU, in float32.
            device: "cpu" or "cuda:N".
            threads: Cores everybody may use on the CPU.
        """
        self._model, self._device, self._threads = model, device, threads
        self._on_gpu = device.startswith("cuda")
        self._hash = model_hash(model)
        self._graph_of: dict[int, str] = {}

    def all(self, ways: Sequence[Way], precisions: Sequence[Precision]) -> list[Contender]:
        """Return one contender for each way and precision, in that order."""
        return [self._contender(way, each) for way in ways for each in precisions]

    def baseline(self, against: Against) -> Contender:
        """Return the unfolded network."""
        channels_last = against == "original-channels-last"
        return Contender(
            against,
            "float32",
            lambda: OriginalGraph(self._model, device=self._device, channels_last=channels_last),
        )

    def served(self, encoder: Encoder) -> Contender:
        """Return the encoder as a user has it, which chose its own runtime and batches.

        Args:
            encoder: Of the same network; closed by whoever made it.
        """
        runtime = EncoderAsRuntime(encoder)
        return Contender(SERVED, runtime.precision, lambda: runtime)

    def judge(self, runtime: Runtime) -> Verdict:
        """Return how a runtime that was opened here compares with torch in float32.

        Raises:
            RuntimeFailed: It cannot run.
            RuntimeUnavailable: The cache folder cannot be used.
        """
        graph = self._graph_of.get(id(runtime), "")
        candidate = parity.Candidate(runtime, self._hash, self._device, graph)
        return parity.judge(candidate, self._model)

    def _contender(self, way: Way, precision: Precision) -> Contender:
        if way == "torch" or way == "torch-compiled":
            compiled = way == "torch-compiled"
            return Contender(way, precision, lambda: self._torch(precision, compiled=compiled))
        return Contender(
            way,
            precision,
            open=lambda: self._by_session(way, precision),
            prepare=lambda: self._prepare(way, precision),
        )

    def _torch(self, precision: Precision, *, compiled: bool) -> Runtime:
        return TorchRuntime(
            fold(self._model),
            device=self._device,
            precision=precision,
            compiled=compiled,
            threads=self._threads,
        )

    def _by_session(self, name: RuntimeName, precision: Precision) -> Runtime:
        onnx = self._graph(name, precision).exported()
        session = open_by(name, onnx, device=self._device, threads=self._threads)
        runtime = SessionRuntime(session, name=name, precision=precision, has_lengths=self._on_gpu)
        self._graph_of[id(runtime)] = hashlib.sha256(onnx).hexdigest()
        return runtime

    def _prepare(self, name: RuntimeName, precision: Precision) -> None:
        """Export the graph, unless this machine could not run it.

        Raises:
            RuntimeUnavailable: It could not.
        """
        lacking = why_not(name, torch.device(self._device), precision)
        if lacking is not None:
            raise RuntimeUnavailable(lacking)
        self._graph(name, precision).exported()

    def _graph(self, name: RuntimeName, precision: Precision) -> Graph:
        kind = torch.device(self._device).type
        return Graph(self._model, self._hash, precision, name, kind)


class EncoderAsRuntime:
    """A `Runtime` that hands everything to an encoder, as the pipeline does.

    Attributes:
        name: Of the runtime the encoder chose.
        precision: What that computes in.
        takes_padding: False: the encoder sees to that itself.
        description: Of the encoder's runtime.
    """

    takes_padding = False

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.name: RuntimeName = encoder.runtime.name
        if encoder.runtime.precision == "float64":
            raise ValueError("encoder: expected one that computes in float32 or less, got float64")
        self.precision: Precision = encoder.runtime.precision
        self.description = f"gait.encoder: {encoder.runtime.description}"

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings, shape (N, 256, 16)."""
        sequences = (255 * silhouettes_NTHW).astype(np.uint8)
        return np.stack(self._encoder.embed(list(sequences)))

    def close(self) -> None:
        """Leave the encoder to its owner."""
