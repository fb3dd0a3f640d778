"""The exported network, by whichever vendor opened it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.errors import RuntimeFailed, RuntimeUnavailable
from gait.runtimes.batching import parts
from gait.runtimes.runtime import Precision, RuntimeName
from gait.runtimes.session import Session

SILHOUETTES = "silhouettes"
LENGTHS = "lengths"
EMBEDDINGS = "embeddings"


class SessionRuntime:
    """A session of an encoder's graph (`gait.export`) as a runtime; it owns the session.

    Attributes:
        name: The vendor.
        precision: As the graph was exported.
        takes_padding: Whether the graph has an input for lengths.
        description: Precision, vendor, version and device.
    """

    def __init__(
        self,
        session: Session,
        *,
        name: RuntimeName,
        precision: Precision,
        has_lengths: bool,
        most_frames: int | None = None,
    ) -> None:
        """Take over a session.

        Args:
            session: Of an encoder's graph.
            name: The vendor.
            precision: As the graph was exported.
            has_lengths: Whether the graph has an input for lengths.
            most_frames: Frames the session is given at once, if it is not a single sequence; None
                for all of a call.

        Raises:
            RuntimeUnavailable: The session is not an encoder's.
        """
        self._session = session
        self.name = name
        self.precision = precision
        self.takes_padding = has_lengths
        self._most_frames = most_frames
        # A session's begins with the file, which is one of the cache here.
        self.description = f"{precision} by {session.description.rpartition(' by ')[2]}"
        wanted = {SILHOUETTES, LENGTHS} if has_lengths else {SILHOUETTES}
        found = {port.name for port in session.inputs}
        if found != wanted or EMBEDDINGS not in {port.name for port in session.outputs}:
            raise RuntimeUnavailable(
                f"{self.description}: expected a graph from {' and '.join(sorted(wanted))} to "
                f"{EMBEDDINGS}, got one from {' and '.join(sorted(found))}; export it again"
            )

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings; see `gait.runtimes.runtime.Runtime.run`."""
        count, num_frames = silhouettes_NTHW.shape[:2]
        if lengths_N is None:
            lengths_N = np.full(count, num_frames)
        elif not self.takes_padding and (lengths_N != num_frames).any():
            raise ValueError(f"{self.description}: expected sequences of one length")
        at_once = self._most_frames or count * num_frames
        embeddings = np.concatenate([
            self._run(silhouettes_NTHW[part], lengths_N[part])
            for part in parts(count, num_frames, at_once)
        ])  # fmt: skip
        if embeddings.ndim != 3 or len(embeddings) != count:
            raise RuntimeFailed(
                f"{self.description}: expected {count} embeddings, got shape {embeddings.shape}"
            )
        if not np.isfinite(embeddings).all():
            raise RuntimeFailed(
                f"{self.description}: expected embeddings, got NaN or infinite numbers; "
                "use another runtime or precision"
            )
        return embeddings

    def _run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        feeds: dict[str, NDArray[Any]] = {
            SILHOUETTES: silhouettes_NTHW.astype(np.float32, copy=False)
        }
        if self.takes_padding:
            feeds[LENGTHS] = lengths_N
        return self._session.run(feeds)[EMBEDDINGS]

    def close(self) -> None:
        """Close the session."""
        self._session.close()
