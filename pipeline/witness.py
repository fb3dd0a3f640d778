"""Who watches a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gait.tracklet import Tracklet
from pipeline.values import Embedding, Frame, Match
from trackers.boxes import Mask, Tracks


class Witness(Protocol):
    """Who is shown everything a run finds, as it is found: files, a progress bar, a test."""

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """One frame has been through perception. Called in perception's thread."""
        ...

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """One tracklet has been through identity; both are None when it had no silhouettes."""
        ...
