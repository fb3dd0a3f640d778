"""The second half: tracklets in, sightings out.

==Tracklet==> encode -> match -> Sighting
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from gait.closing import Closing, close_all
from gait.encoder import Encoder
from gait.streaming import StreamingEncoder
from gait.tracklet import Tracklet
from pipeline.config import PipelineConfig
from pipeline.gallery.sightings import SightingBook
from pipeline.stages.encode_streaming import build_encoder
from pipeline.telemetry import Telemetry
from pipeline.values import Sighting
from pipeline.witness import Witness


class Identity(Closing):
    """Everything between tracklets and sightings; the encoder and the gallery serve all streams."""

    def __init__(self, config: PipelineConfig, telemetry: Telemetry) -> None:
        """Load the encoder and open the gallery.

        Raises:
            ConfigError: Encoder, assembler and gallery do not go together.
            GalleryError: The gallery cannot be opened, or was made by another model.
            ModelError: The model is missing or cannot be used.
        """
        self.encoder: Encoder | StreamingEncoder = build_encoder(config.encoder, config.assembler)
        self._streaming = self.encoder if isinstance(self.encoder, StreamingEncoder) else None
        try:
            self.gallery = config.gallery.build(
                model_hash=self.encoder.model_hash, threshold=config.encoder.threshold
            )
        except BaseException:
            self.encoder.close()
            raise
        self._book = SightingBook()
        self._telemetry = telemetry
        self._interrupted = threading.Event()

    @property
    def is_streaming(self) -> bool:
        """Whether the encoder remembers walks, and wants tracklets that continue each other."""
        return self._streaming is not None

    def interrupt(self) -> None:
        """Embed nothing any more: what is under way ends soon, with the identities known so far."""
        self._interrupted.set()

    def identify(self, tracklets: Sequence[Tracklet], witness: Witness) -> list[Sighting]:
        """Return the sightings that are complete with these tracklets, or revised.

        Args:
            tracklets: In the order they were made; those of one track certainly.
            witness: Shown what is said of each.
        """
        usable = [t for t in tracklets if len(t) and not self._interrupted.is_set()]
        with self._telemetry.timed("encode", sum(len(t) for t in usable)):
            embeddings = self.encoder.encode(usable)
            if self._streaming is not None:
                self._streaming.note(t for t in tracklets if t not in usable)
        with self._telemetry.timed("match", len(usable)):
            self.gallery.note(t for t in tracklets if t not in usable)
            matches = self.gallery.match(usable, embeddings)
        answers = iter(zip(embeddings, matches, strict=True))
        found = [next(answers) if t in usable else (None, None) for t in tracklets]
        for tracklet, (embedding, match) in zip(tracklets, found, strict=True):
            witness.recognised(tracklet, embedding, match)
        sightings = self._book.collect(tracklets, [match for _, match in found])
        return sightings + self._book.revise(self.gallery.revisions())

    def finish(self) -> Iterator[Sighting]:
        """Yield the sightings of tracks whose end nobody told, and last revisions."""
        yield from self._book.close()
        if not self._interrupted.is_set():
            self.gallery.settle()
            yield from self._book.revise(self.gallery.revisions())

    def close(self) -> None:
        """Close the encoder and the gallery."""
        close_all([self.encoder, self.gallery])
