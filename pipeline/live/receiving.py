"""Tracklets of other machines, kept on our disk until the sighting of their track is written."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from gait.tracklet import Tracklet
from pipeline.errors import LinkError, OutputError
from pipeline.live.identity import Told, sighting_id
from pipeline.live.status import LinkStatus
from pipeline.privacy.lines import rotated
from pipeline.transport.spool import Track

if TYPE_CHECKING:
    from pipeline.transport.zmq_receiving import ReceivingLink

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_FORGOTTEN_S = 86400.0
"""A track of which nothing comes for so long, while its sender tells of others, has lost its end:
only what falls out of a full spool does that."""
_MOST_OPEN = 5000
"""Tracks of all senders that may be open at once: who never ends any must not fill the memory."""


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
        # By the track, what would end it, and since when it is who has not been told of yet.
        self._open: dict[Track, Tracklet] = {}
        self._begins_s: dict[Track, float] = {}
        self._ended: Counter[str] = Counter()

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
        kept = {each.track: each for each in chain.from_iterable(self.link.kept())}
        told: dict[Track, Told] = {}
        ended: set[Track] = set()
        for content in _contents(sightings) if kept else ():
            tracklet = _told_of(content, kept)
            if tracklet is None:
                continue
            said = told.setdefault(tracklet.track, Told(tracklet.origin_unix_s or 0.0))
            if content.get("event") != "ended":
                _take(said, content)
            elif isinstance(switched_at_s := content.get("switched_at_s"), int | float):
                said.identity, said.start_s = None, switched_at_s
            else:
                ended.add(tracklet.track)
        self.link.release(ended)
        told = {track: what for track, what in told.items() if track not in ended}
        starts_s = {track: each.start_s for track, each in told.items()}
        self._begins_s = {track: at_s for track, at_s in starts_s.items() if at_s is not None}
        return told

    def get(self) -> list[Tracklet]:
        """Return tracklets that are on our disk, waiting for them; none when it was closed."""
        tracklets = [self._untold(each) for each in next(self._kept, None) or self._received()]
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
        counts = dict(self.link.counts + self._ended)
        return LinkStatus(endpoint=self.link.endpoint, counts=counts, problem=self.problem)

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

    def _untold(self, tracklet: Tracklet) -> Tracklet:
        """Return of a tracklet what an earlier run has not told as somebody else's."""
        begins_s = self._begins_s.get(tracklet.track)
        if begins_s is None:
            return tracklet
        if tracklet.is_last:
            del self._begins_s[tracklet.track]
        if len(tracklet) and tracklet.times_s[0] < begins_s:
            tracklet = tracklet.emptied()
        first_s, last_s = (max(begins_s, each) for each in tracklet.seen_s)
        return replace(tracklet, seen_s=(first_s, last_s))

    def _overdue(self, tracklets: Sequence[Tracklet]) -> Iterator[Tracklet]:
        """Yield what ends the tracks whose end was lost, or never comes."""
        for tracklet in tracklets:
            self._open.pop(tracklet.track, None)
            if not tracklet.is_last:  # the one that was heard of last comes last
                self._open[tracklet.track] = tracklet.ending()
        now_s = {_sender(tracklet): _seen_unix_s(tracklet) for tracklet in tracklets}
        for track, ending in list(self._open.items()):
            if now_s.get(_sender(ending), 0.0) - _seen_unix_s(ending) > _FORGOTTEN_S:
                yield self._end(track, "overdue", "nothing came for a day: it counts as ended")
        while len(self._open) > _MOST_OPEN:
            [(sender, count)] = Counter(map(_sender, self._open.values())).most_common(1)
            oldest = next(each for each, end in self._open.items() if _sender(end) == sender)
            words = f"{sender} has {count} tracks that have not ended: this one counts as ended"
            yield self._end(oldest, "crowded", words)

    def _end(self, track: Track, why: str, words: str) -> Tracklet:
        """Return what ends a track whose sender does not."""
        from pipeline.transport.zmq_socket import count_and_warn

        ending = self._open.pop(track)
        self._begins_s.pop(track, None)
        count_and_warn(self._ended, why, 1, f"{ending.uid}: {words}")
        return ending


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


def _told_of(content: Mapping[str, object], kept: Mapping[Track, Tracklet]) -> Tracklet | None:
    """Return the tracklet that is kept of the track an event tells of; None when there is none."""
    camera, track_id, start_s = (content.get(key) for key in ("camera", "track_id", "start_s"))
    if not isinstance(camera, str) or not isinstance(track_id, int):
        return None
    tracklet = kept.get((camera, track_id))
    if tracklet is None or not isinstance(start_s, int | float):
        return None
    # A sender whose spool was deleted gives its tracks' ids again: then it is of another day.
    start_unix_s = round((tracklet.origin_unix_s or 0.0) + start_s, 3)
    is_same = content.get("id") == sighting_id(camera, track_id, start_unix_s)
    return tracklet if is_same and start_s >= tracklet.seen_s[0] else None


def _take(told: Told, content: Mapping[str, object]) -> None:
    """Note who was told of, unless it is of who the track was before."""
    who, start_s = content.get("identity"), content.get("start_s")
    assert isinstance(start_s, int | float)
    if isinstance(who, str) and start_s >= (told.start_s or start_s):
        told.identity, told.is_new = who, content.get("is_new") is True


def _sender(tracklet: Tracklet) -> str:
    return tracklet.stream.partition("/")[0]


def _seen_unix_s(tracklet: Tracklet) -> float:
    return (tracklet.origin_unix_s or 0.0) + tracklet.seen_s[1]
