"""A streaming encoder at the gate (`gait.runtimes.parity`): walks come in pieces there too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.model.trackletgait import TrackletGait
from gait.runtimes.parity import Candidate, Verdict, judge
from gait.runtimes.runtime import Precision, RuntimeName
from gait.streaming import StreamingEncoder

_PIECE = 8  # silhouettes: the reference has walks shorter than one and longer than many


class StreamedWalks:
    """A streaming encoder as a `gait.runtimes.runtime.Runtime`: whole sequences in pieces.

    Args:
        encoder: Left as it is, but for its counts.
    """

    name: RuntimeName = "torch"
    takes_padding = False

    def __init__(self, encoder: StreamingEncoder) -> None:
        self._encoder = encoder
        self.precision: Precision = encoder.precision
        self.description = encoder.description

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        """Return the embeddings, shape (N, 256, 16).

        Args:
            silhouettes_NTHW: Shape (N, T, 64, 44), in 0..1.
            lengths_N: None: there is no padding.

        Raises:
            RuntimeFailed: What the device reports.
        """
        assert lengths_N is None
        walks = {(self, row): each for row, each in enumerate(silhouettes_NTHW)}
        try:
            for start in range(0, silhouettes_NTHW.shape[1], _PIECE):
                self._encoder.extend(
                    (key, np.rint(255 * walk[start : start + _PIECE]).astype(np.uint8))
                    for key, walk in walks.items()
                )
            return np.stack(self._encoder.embed(list(walks)))
        finally:
            self._encoder.end(walks)

    def close(self) -> None:
        """Do nothing: the encoder belongs to somebody else."""


def judge_streaming(encoder: StreamingEncoder, model: TrackletGait) -> Verdict:
    """Return whether an encoder reproduces torch in float32; from the cache if that is known.

    Args:
        encoder: What wants to serve.
        model: Its network, on the CPU in float32.

    Raises:
        RuntimeFailed: What the device reports, or an answer that is no number.
        RuntimeUnavailable: The cache folder cannot be used.
    """
    candidate = Candidate(StreamedWalks(encoder), encoder.model_hash, encoder.device)
    return judge(candidate, model)
