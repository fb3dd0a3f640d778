"""The first half: frames in, tracklets out.

read -> detect -> track -> segment -> collect ==Tracklet==>
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

from gait.closing import Closing, close_all
from gait.tracklet import Tracklet
from pipeline.ahead import Ahead
from pipeline.config import PipelineConfig
from pipeline.stages.assemble import Assemblers
from pipeline.stages.track import StreamTrackers
from pipeline.telemetry import Telemetry
from pipeline.values import Batch
from pipeline.witness import Witness
from trackers.boxes import Detections, Mask, Tracks

T = TypeVar("T")


class Perception(Closing):
    """Everything between frames and tracklets.

    The detector and the segmenter serve all streams; every stream has a tracker and an assembler of
    its own.
    """

    def __init__(
        self, config: PipelineConfig, telemetry: Telemetry, *, is_streaming: bool = False
    ) -> None:
        """Load the models.

        Args:
            config: Of the whole pipeline.
            telemetry: Where the time of each step is added up.
            is_streaming: Whether tracklets continue each other, for an encoder that remembers.

        Raises:
            ConfigError: A stage cannot be what it is asked to be.
            ModelError: A model is missing or cannot be used.
        """
        self.detector = config.detector.build()
        self.appearance = config.appearance.build() if config.appearance else None
        self.camera_motion = config.camera_motion.build() if config.camera_motion else None
        self.trackers = StreamTrackers(config.tracker.build)
        self.segmenter = config.segmenter.build()
        self.assemblers = Assemblers(config.assembler, is_streaming=is_streaming)
        self._telemetry = telemetry
        self._ahead = config.runtime.ahead

    def tracklets(
        self, batches: Iterable[Batch], witness: Witness, threads: ExitStack
    ) -> Iterable[list[Tracklet]]:
        """Yield the tracklets that are complete with each batch, in order.

        Each step runs ahead of the next in a thread of its own (`pipeline.ahead`), bounded, so that
        the slowest step sets the pace and memory stays flat. All steps but the slowest hold
        batches that wait for it. Live pictures would grow old there, so live cameras want
        `runtime.ahead` 0: nothing waits, and the next batch is the newest when it is asked for.

        Who gives endless batches must be able to end them while this waits for one, and do so
        before `threads` is left (a callback put on `threads` after this call does).

        Args:
            batches: Frames.
            witness: Shown every frame, in the last thread.
            threads: Ends the threads when it is left.
        """

        def ahead(name: str, items: Iterable[T]) -> Iterable[T]:
            return threads.enter_context(Ahead(items, depth=self._ahead, name=name))

        read = ahead("read", self._timed_reading(batches))
        seen = ahead("detect", ((batch, self._detect(batch)) for batch in read))
        followed = ((batch, self._track(batch, detections)) for batch, detections in seen)
        cut_out = ahead(
            "segment", ((batch, tracks, self._segment(batch, tracks)) for batch, tracks in followed)
        )
        return ahead("collect", (self._collect(*scene, witness) for scene in cut_out))

    def close(self) -> None:
        """Give back the models."""
        close_all([self.segmenter, self.detector])

    def _timed_reading(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        iterator = iter(batches)
        while True:
            with self._telemetry.timed("read", 0):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    def _detect(self, batch: Batch) -> list[Detections]:
        with self._telemetry.timed("detect", len(batch.frames)):
            detections = self.detector.detect(batch.frames)
        if self.appearance is not None:
            with self._telemetry.timed("appearance", len(batch.frames)):
                detections = self.appearance.describe(batch.frames, detections)
        if self.camera_motion is not None:
            with self._telemetry.timed("camera_motion", len(batch.frames)):
                detections = self.camera_motion.measure(batch.frames, detections)
                for stream in batch.ended:
                    self.camera_motion.finish(stream)
        return detections

    def _track(self, batch: Batch, detections: Sequence[Detections]) -> list[Tracks]:
        with self._telemetry.timed("track", len(batch.frames)):
            tracks = self.trackers.update(batch.frames, detections)
            for stream in batch.ended:
                self.trackers.finish(stream)
        return tracks

    def _segment(self, batch: Batch, tracks: Sequence[Tracks]) -> list[tuple[Mask | None, ...]]:
        with self._telemetry.timed("segment", sum(len(t) for t in tracks)):
            return self.segmenter.segment(batch.frames, tracks)

    def _collect(
        self,
        batch: Batch,
        tracks: Sequence[Tracks],
        masks: Sequence[Sequence[Mask | None]],
        witness: Witness,
    ) -> list[Tracklet]:
        with self._telemetry.timed("assemble", len(batch.frames)):
            tracklets = self.assemblers.collect(batch.frames, tracks, masks)
            for stream in batch.ended:
                tracklets += self.assemblers.finish(stream)
        with self._telemetry.timed("record", len(batch.frames)):
            for frame, in_frame, of_frame in zip(batch.frames, tracks, masks, strict=True):
                witness.saw(frame, in_frame, of_frame)
        return tracklets
