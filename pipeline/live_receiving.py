"""Tracklets of other machines, kept on our disk until the sighting of their track is written."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gait.tracklet import Tracklet
from pipeline.errors import LinkError, OutputError
from pipeline.live_identity import Told, sighting_id
from pipeline.live_status import LinkStatus
from pipeline.privacy.lines import rotated
from pipeline.transport.spool import Track

if TYPE_CHECKING:
    from pipeline.transport.zmq_receiving import ReceivingLink

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_FORGOTTEN_S = 86400.0
"""A track of which nothing comes for so long, while its sender tells of others, has lost its end:
only what falls out of a full spool does that."""


class LiveReceiving:
    """A `TrackletSource`: first what former runs kept, then what comes.

    A tracklet is acknowledged to its sender when it is on our disk, and leaves that when the
    sighting of its track is written. So a kill at any moment loses nothing: what is under way comes
    from the sender again, and tracks that were open go on with the newest 20 of their tracklets.

    Args:
        link: Where tracklets come from; closed by whoever made it.
        are_written: Waits until the sightings told so far are written; False if it was told to stop
            waiting before they were.

    Attributes:
        problem: Why nothing is taken now; None when it is.
    """

    def __init__(self, link: ReceivingLink, are_written: Callable[[threading.Event], bool]) -> None:
        self.link = link
        self._are_written = are_written
        self.problem: str | None = None
        self._is_stopped = threading.Event()
        self._kept = link.kept()
        self._open: dict[Track, Tracklet] = {}  # by the track, what would end it

    @property
    def is_over(self) -> bool:
        """Whether it was closed."""
        return self._is_stopped.is_set()

    def told_before(self, sightings: Path) -> dict[Track, Told]:
        """Return what was told of the tracks that are kept, and forget those whose end was told.

        Args:
            sightings: The file of sightings of former runs; the full one before it counts too.

        Raises:
            LinkError: What is kept cannot be read or released.
            OutputError: The sightings cannot be read.
        """
        kept = [tracklet for tracklets in self.link.kept() for tracklet in tracklets]
        tracks = {_id_of(tracklet): tracklet for tracklet in kept}
        told: dict[Track, Told] = {}
        ended: set[Track] = set()
        for content in _contents(sightings) if tracks else ():
            tracklet = tracks.get(str(content.get("id")))
            if tracklet is None:
                continue
            if content.get("event") == "ended":
                ended.add(tracklet.track)
            elif isinstance(who := content.get("identity"), str):
                origin_s = tracklet.origin_unix_s or 0.0
                told[tracklet.track] = Told(origin_s, who, content.get("is_new") is True)
        self.link.release(ended)
        return {track: what for track, what in told.items() if track not in ended}

    def get(self) -> list[Tracklet]:
        """Return tracklets that are on our disk, waiting for them; none when it was closed."""
        tracklets = next(self._kept, None) or self._received()
        return [*tracklets, *self._overdue(tracklets)]

    def written(self, tracks: Collection[Track]) -> None:
        """Forget tracks when their sightings are written, which is waited for."""
        if not self._are_written(self._is_stopped):
            return
        try:
            self.link.release(tracks)
        except LinkError as error:  # after the next start the sightings say that they have ended
            logger.warning("link: ended tracks are still kept: %s", error)

    def status(self) -> LinkStatus:
        """Return what the link does now."""
        return LinkStatus(
            endpoint=self.link.endpoint, counts=dict(self.link.counts), problem=self.problem
        )

    def close(self) -> None:
        """Receive no more, and wake who waits."""
        self._is_stopped.set()
        self.link.stop()

    def _received(self) -> list[Tracklet]:
        tracklets: list[Tracklet] = []
        while not self._is_stopped.is_set():
            try:
                tracklets = tracklets or self.link.receive()
                self.link.acknowledge(keep=tracklets)
            except LinkError as error:
                self._failed(error)
            else:
                self.problem = None
                return tracklets
        return []  # what came is not acknowledged: it comes again

    def _failed(self, error: LinkError) -> None:
        if self.problem is None:
            logger.warning("link: nothing is taken until it can be kept: %s", error)
        self.problem = str(error)
        self._is_stopped.wait(_RETRY_S)

    def _overdue(self, tracklets: Sequence[Tracklet]) -> Iterator[Tracklet]:
        """Yield what ends the tracks whose end was lost."""
        for tracklet in tracklets:
            if tracklet.is_last:
                self._open.pop(tracklet.track, None)
            else:
                self._open[tracklet.track] = tracklet.ending()
        now_s = {_sender(tracklet): _seen_unix_s(tracklet) for tracklet in tracklets}
        for track, ending in list(self._open.items()):
            if now_s.get(_sender(ending), 0.0) - _seen_unix_s(ending) > _FORGOTTEN_S:
                logger.warning("%s: nothing came for a day: it counts as ended", ending.uid)
                yield self._open.pop(track)


def _contents(sightings: Path) -> Iterator[Mapping[str, object]]:
    try:
        for path in rotated(sightings)[-2:]:
            with path.open("rb") as lines:
                for line in lines:
                    event = json.loads(line)
                    if isinstance(event, dict) and isinstance(event.get("content"), dict):
                        yield event["content"]
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{sightings}: expected the events of former runs, which cannot be read: {error}; "
            "move the file away"
        ) from error


def _id_of(tracklet: Tracklet) -> str:
    start_unix_s = round((tracklet.origin_unix_s or 0.0) + tracklet.seen_s[0], 3)
    return sighting_id(tracklet.stream, tracklet.track_id, start_unix_s)


def _sender(tracklet: Tracklet) -> str:
    return tracklet.stream.partition("/")[0]


def _seen_unix_s(tracklet: Tracklet) -> float:
    return (tracklet.origin_unix_s or 0.0) + tracklet.seen_s[1]
