"""The network as it is trained, layer by layer: what a folded one is measured against."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.runtimes.runtime import Precision, RuntimeName

_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class OriginalGraph:
    """A `Runtime` that runs the unfolded network eagerly in torch, as everybody begins.

    Attributes:
        name: torch.
        precision: What it computes in.
        takes_padding: False: every frame counts.
        description: For a log.
    """

    name: RuntimeName = "torch"
    takes_padding = False

    def __init__(
        self,
        model: TrackletGait,
        *,
        device: str = "cpu",
        precision: Precision = "float32",
        channels_last: bool = False,
    ) -> None:
        """Copy the network.

        Args:
            model: Stays as it is.
            device: As torch names it.
            precision: Any but int8.
            channels_last: Whether maps lie frame by frame in memory, as `gait.encoder` had them
                before networks were folded; without, as the published code has them.
        """
        self.precision: Precision = precision
        self._device, self._dtype = torch.device(device), _DTYPES[precision]
        self._model = copy.deepcopy(model).eval().to(self._device, self._dtype)
        layout = "plain memory layout"
        if channels_last:
            self._model.use_channels_last()
            layout = "channels last"
        self.description = (
            f"torch {torch.__version__}, the unfolded network, {layout}, {precision} on {device}"
        )

    @torch.inference_mode()
    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings, shape (N, 256, 16), float32.

        Raises:
            ValueError: Lengths are given.
        """
        if lengths_N is not None:
            raise ValueError("lengths: the unfolded network takes sequences of one length only")
        inputs = torch.from_numpy(silhouettes_NTHW).to(self._device, self._dtype)
        embeddings: NDArray[np.floating[Any]] = self._model(inputs).float().cpu().numpy()
        return embeddings

    def close(self) -> None:
        """Let go of the network."""
        del self._model


@functools.cache
def count_flops(config: TrackletGaitConfig, frames: int) -> float:
    """Return the operations of one sequence in the unfolded network.

    Multiplications and additions of convolutions and products of matrices, counted by torch; what
    is done element by element is left out, as is customary.
    """
    with torch.device("meta"):
        model = TrackletGait(config).eval()
        silhouettes_NTHW = torch.empty(1, frames, 64, 44)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(silhouettes_NTHW)
    return float(counter.get_total_flops())
