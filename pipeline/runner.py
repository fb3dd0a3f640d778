"""The loop: frames in, sightings out.

    perception (per frame)                                  identity (per tracklet)
    read -> detect -> track -> segment -> collect ==Tracklet==> encode -> match -> Sighting

The two halves share nothing but tracklets. Each step runs ahead of the next in a thread of its own
(`pipeline.ahead`), bounded, so that the slowest step sets the pace and memory stays flat.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gait.encoder import Encoder
from gait.streaming import StreamingEncoder
from gait.tracklet import Tracklet
from pipeline.ahead import Ahead
from pipeline.config import PipelineConfig
from pipeline.gallery.sightings import SightingBook
from pipeline.stages.assemble import Assemblers
from pipeline.stages.encode_streaming import build_encoder
from pipeline.stages.track import StreamTrackers
from pipeline.telemetry import Telemetry
from pipeline.values import Embedding, Frame, Match, Sighting
from trackers.boxes import Detections, Mask, Tracks

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that go through the models together.

    Attributes:
        frames: Frames of any streams; those of one stream in time order.
        ended: Streams that are over after these frames.
    """

    frames: Sequence[Frame]
    ended: Sequence[str] = ()


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


class Pipeline:
    """Everything between frames and sightings, for one run.

    The detector, the segmenter, the encoder and the gallery serve all streams; every stream has a
    tracker and an assembler of its own.
    """

    def __init__(self, config: PipelineConfig, telemetry: Telemetry | None = None) -> None:
        self.telemetry = telemetry or Telemetry()
        self.detector = config.detector.build()
        self.appearance = config.appearance.build() if config.appearance else None
        self.trackers = StreamTrackers(config.tracker.build)
        self.segmenter = config.segmenter.build()
        self.encoder: Encoder | StreamingEncoder = build_encoder(config.encoder, config.assembler)
        self._streaming = self.encoder if isinstance(self.encoder, StreamingEncoder) else None
        self.assemblers = Assemblers(config.assembler, is_streaming=self._streaming is not None)
        try:
            self.gallery = config.gallery.build(
                model_hash=self.encoder.model_hash, threshold=config.encoder.threshold
            )
        except BaseException:
            self.encoder.close()
            raise
        self._book = SightingBook()
        self._ahead = config.runtime.ahead
        self._interrupted = threading.Event()

    def run(self, batches: Iterable[Batch], witness: Witness) -> Iterator[Sighting]:
        """Yield every sighting as soon as its track has ended.

        Closing the iterator early stops every thread; an error in any step is raised here.
        """
        with ExitStack() as threads:
            for tracklets in self._perceive(batches, witness, threads):
                yield from self._identify(tracklets, witness)
            yield from self._book.close()

    def interrupt(self) -> None:
        """Embed nothing any more: what is under way ends soon, with the identities known so far."""
        self._interrupted.set()

    def close(self) -> None:
        """Close the models and the gallery."""
        with ExitStack() as each:  # also when one of them fails to
            for stage in (self.gallery, self.encoder, self.segmenter, self.detector):
                each.callback(stage.close)

    def _perceive(
        self, batches: Iterable[Batch], witness: Witness, threads: ExitStack
    ) -> Iterable[list[Tracklet]]:
        def ahead(name: str, items: Iterable[T]) -> Iterable[T]:
            return threads.enter_context(Ahead(items, depth=self._ahead, name=name))

        read = ahead("read", self._timed_reading(batches))
        seen = ahead("detect", ((batch, self._detect(batch)) for batch in read))
        followed = ((batch, self._track(batch, detections)) for batch, detections in seen)
        cut_out = ahead(
            "segment", ((batch, tracks, self._segment(batch, tracks)) for batch, tracks in followed)
        )
        return ahead("collect", (self._collect(*scene, witness) for scene in cut_out))

    def _timed_reading(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        iterator = iter(batches)
        while True:
            with self.telemetry.timed("read", 0):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    def _detect(self, batch: Batch) -> list[Detections]:
        with self.telemetry.timed("detect", len(batch.frames)):
            detections = self.detector.detect(batch.frames)
        if self.appearance is None:
            return detections
        with self.telemetry.timed("appearance", len(batch.frames)):
            return self.appearance.describe(batch.frames, detections)

    def _track(self, batch: Batch, detections: Sequence[Detections]) -> list[Tracks]:
        with self.telemetry.timed("track", len(batch.frames)):
            tracks = self.trackers.update(batch.frames, detections)
            for stream in batch.ended:
                self.trackers.finish(stream)
        return tracks

    def _segment(self, batch: Batch, tracks: Sequence[Tracks]) -> list[tuple[Mask | None, ...]]:
        with self.telemetry.timed("segment", sum(len(t) for t in tracks)):
            return self.segmenter.segment(batch.frames, tracks)

    def _collect(
        self,
        batch: Batch,
        tracks: Sequence[Tracks],
        masks: Sequence[Sequence[Mask | None]],
        witness: Witness,
    ) -> list[Tracklet]:
        with self.telemetry.timed("assemble", len(batch.frames)):
            tracklets = self.assemblers.collect(batch.frames, tracks, masks)
            for stream in batch.ended:
                tracklets += self.assemblers.finish(stream)
        with self.telemetry.timed("record", len(batch.frames)):
            for frame, in_frame, of_frame in zip(batch.frames, tracks, masks, strict=True):
                witness.saw(frame, in_frame, of_frame)
        return tracklets

    def _identify(self, tracklets: Sequence[Tracklet], witness: Witness) -> list[Sighting]:
        usable = [t for t in tracklets if len(t) and not self._interrupted.is_set()]
        with self.telemetry.timed("encode", sum(len(t) for t in usable)):
            embeddings = self.encoder.encode(usable)
            if self._streaming is not None:
                self._streaming.note(t for t in tracklets if t not in usable)
        with self.telemetry.timed("match", len(usable)):
            self.gallery.note(t for t in tracklets if t not in usable)
            matches = self.gallery.match(usable, embeddings)
        answers = iter(zip(embeddings, matches, strict=True))
        found = [next(answers) if t in usable else (None, None) for t in tracklets]
        for tracklet, (embedding, match) in zip(tracklets, found, strict=True):
            witness.recognised(tracklet, embedding, match)
        return self._book.collect(tracklets, [match for _, match in found])
