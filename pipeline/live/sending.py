"""What takes tracklets where nobody is recognised: out of the queue, onto the disk, to the hub."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gait.tracklet import Tracklet
from pipeline.errors import LinkError, PipelineError
from pipeline.live.failures import Failures
from pipeline.live.status import LinkStatus
from pipeline.transport.message import MessageError
from pipeline.transport.superseding import SupersedingQueue

if TYPE_CHECKING:
    from pipeline.transport.zmq_link import SendingLink

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_FULL = 0.5  # from here on new windows take the room of old ones, as long as somebody takes any


class LiveSending:
    """Sends in a thread of its own, so that a slow disk does not hold up perception.

    What the disk refuses is tried again, while the queue lets new tracklets take the room of old
    ones. So it does when the spool is half full though the other side is there: identity is too
    slow then, and the spool would fill up until the ends of tracks are lost.

    Args:
        queue: Where tracklets come from; closing it ends the thread.
        link: Where they go; closed by whoever made it.
        failures: Told of tracklets that cannot be sent, and of a link that has failed for good.
    """

    when_lost = "sending is still at work: its last tracklets are lost"

    def __init__(self, queue: SupersedingQueue, link: SendingLink, failures: Failures) -> None:
        self._queue = queue
        self.link = link
        self._failures = failures
        self._problem: str | None = None
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sending", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def end(self, within_s: float) -> bool:
        """Put what waits on the disk, and say whether that is over."""
        self._queue.close()
        self._is_ending.set()
        if self._thread.is_alive():
            self._thread.join(within_s)
        return not self._thread.is_alive()

    def close(self, within_s: float) -> None:
        """Give what is on the disk so long to leave; the rest stays for the next run."""
        if not self._thread.is_alive():
            self.link.close(within_s)

    def age_s(self) -> float:
        """Return how old the oldest tracklet is that the other side has not taken, in seconds."""
        try:
            oldest = self.link.oldest()
        except LinkError:
            return 0.0
        seen_s = None if oldest is None else oldest.last_seen_unix_s
        return 0.0 if seen_s is None else max(0.0, time.time() - seen_s)

    def status(self) -> LinkStatus:
        """Return what the link does now."""
        return LinkStatus(
            endpoint=self.link.endpoint,
            is_connected=self.link.is_connected,
            waiting=self.link.num_waiting,
            waiting_s=round(self.age_s(), 1),
            fill=round(self.link.fill, 3),
            counts=dict(self.link.counts),
            problem=self._problem or self.link.trouble,
        )

    def _work(self) -> None:
        while not self._queue.is_over:
            if self._is_held_back():
                self._is_ending.wait(_RETRY_S)
            elif tracklets := self._queue.get(_RETRY_S):
                self._send(tracklets)

    def _is_held_back(self) -> bool:
        is_slow = self.link.is_connected and self.link.fill > _FULL
        return is_slow and not self._is_ending.is_set()

    def _send(self, tracklets: Sequence[Tracklet]) -> None:
        """Send tracklets, waiting for the disk if need be."""
        while not self._sent(tracklets):
            if self._is_ending.wait(_RETRY_S):
                logger.error("%d tracklets are lost: %s", len(tracklets), self._problem)
                return

    def _sent(self, tracklets: Sequence[Tracklet]) -> bool:
        try:
            self.link.send(tracklets)
        except MessageError as error:
            self._failures.failed(error)
            if len(tracklets) > 1:  # the others can be sent
                for tracklet in tracklets:
                    self._send([tracklet])
            return True
        except LinkError as error:
            if self._problem is None:
                logger.warning("link: tracklets wait for the disk: %s", error)
            self._problem = str(error)
            if self.link.error is not None:
                self._failures.give_up(PipelineError(self._problem))
            return False
        self._problem = None
        self._failures.worked()
        return True
