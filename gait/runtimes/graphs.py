"""The ONNX graphs that runtimes open: exported once on a machine, and kept."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gait.errors import CheckpointError, GaitError, RuntimeUnavailable
from gait.model.trackletgait import TrackletGait
from gait.runtimes import cache
from gait.runtimes.onnx_file import read_onnx
from gait.runtimes.runtime import Precision, RuntimeName

logger = logging.getLogger(__name__)

_EXPORTERS = ("trackletgait", "torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network as one runtime wants it.

    Attributes:
        model: In float32 on the CPU.
        model_hash: Of it.
        precision: What the graph computes in.
        name: Who is to open it.
        device_type: "cpu" or "cuda".
    """

    model: TrackletGait
    model_hash: str
    precision: Precision
    name: RuntimeName
    device_type: str

    @property
    def has_lengths(self) -> bool:
        """Whether sequences of different lengths may share a call."""
        return self.device_type == "cuda"

    @property
    def is_symmetric(self) -> bool:
        """Whether int8 is quantised as TensorRT takes it."""
        return self.name == "tensorrt" and self.precision == "int8"

    def is_kept(self) -> bool:
        """Return whether it need not be exported any more."""
        return cache.load(self._entry()) is not None

    def exported(self, on_step: Callable[[], None] = lambda: None) -> bytes:
        """Return it as an ONNX file, from the cache if it is there and whole.

        Args:
            on_step: Called before and after what takes seconds; may raise to stop it.

        Raises:
            RuntimeUnavailable: The cache cannot be used, or the export fails.
        """
        path = self._entry()
        kept = cache.load(path)
        if kept is not None:
            if self._is_of_this_model(kept):
                return kept
            cache.discard(path)
        logger.info("encoder: exporting %s to ONNX, some seconds", self.model.config.name)
        on_step()
        made = self._export()
        cache.store(path, made)
        on_step()
        return made

    def _export(self) -> bytes:
        from gait.export import export  # onnx and its exporter take a second

        try:
            return export(
                self.model,
                precision=self.precision,
                has_lengths=self.has_lengths,
                symmetric=self.is_symmetric,
                checked=False,  # the gate compares more
            ).onnx
        except GaitError:
            raise
        except Exception as error:  # exporters raise what they like
            raise RuntimeUnavailable(
                f"exporting {self.model.config.name} to ONNX failed: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _is_of_this_model(self, onnx: bytes) -> bool:
        """Return whether a file is a whole graph of the network, by what it says itself."""
        from gait.export import our_metadata

        try:
            return our_metadata(read_onnx(onnx).metadata).get("model_hash") == self.model_hash
        except CheckpointError as error:
            logger.warning("encoder: the graph in the cache is damaged (%s); made anew", error)
            return False

    def _entry(self) -> Path:
        from gait.export import FORMAT

        key = {
            "format": FORMAT,
            "model_hash": self.model_hash,
            "precision": self.precision,
            "has_lengths": str(self.has_lengths),
            "is_symmetric": str(self.is_symmetric),
            **{name: importlib.metadata.version(name) for name in _EXPORTERS},
        }
        return cache.entry("encoder", key, ".onnx")
