"""The loop: frames in, sightings out.

    perception (per frame)                                  identity (per tracklet)
    read -> detect -> track -> segment -> collect ==Tracklet==> encode -> match -> Sighting

The two halves share nothing but tracklets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from gait.closing import Closing, close_all
from pipeline.config import PipelineConfig
from pipeline.identity import Identity
from pipeline.perception import Perception
from pipeline.telemetry import Telemetry
from pipeline.values import Batch, Sighting
from pipeline.witness import Witness


class Pipeline(Closing):
    """Both halves in one process, for one run in which nothing may be lost."""

    def __init__(self, config: PipelineConfig, telemetry: Telemetry | None = None) -> None:
        self.telemetry = telemetry or Telemetry()
        self.identity = Identity(config, self.telemetry)
        try:
            self.perception = Perception(
                config, self.telemetry, is_streaming=self.identity.is_streaming
            )
        except BaseException:
            self.identity.close()
            raise

    def run(self, batches: Iterable[Batch], witness: Witness) -> Iterator[Sighting]:
        """Yield every sighting as soon as its track has ended.

        Closing the iterator early stops every thread; an error in any step is raised here.
        """
        with ExitStack() as threads:
            for tracklets in self.perception.tracklets(batches, witness, threads):
                yield from self.identity.identify(tracklets, witness)
            yield from self.identity.finish()

    def interrupt(self) -> None:
        """Embed nothing any more: what is under way ends soon, with the identities known so far."""
        self.identity.interrupt()

    def close(self) -> None:
        """Close the models and the gallery."""
        close_all([self.perception, self.identity])
