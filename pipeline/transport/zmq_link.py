"""The link between machines: tracklets over ZeroMQ, none lost and none twice.

    SendingLink -> spool (disk) -> DEALER ==tcp, CURVE==> ROUTER -> ReceivingLink -> marks (disk)

A sender forgets a tracklet when the receiver has said that it is done with it. A receiver keeps how
far it is with each sender, and takes nothing that is at or below that mark. docs/link.md says what
is promised, and what is not.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from math import inf

import zmq

from gait.closing import Closing
from gait.tracklet import Tracklet
from pipeline.errors import ConfigError, LinkError
from pipeline.transport.envelope import Answer, Envelope, read_answer, write_frame
from pipeline.transport.keys import NAME_PATTERN, SenderKeys
from pipeline.transport.message import (
    LIMIT_BYTES,
    MessageError,
    decode,
    encode,
)
from pipeline.transport.spool import Spool
from pipeline.transport.zmq_receiving import ReceivingLink as ReceivingLink
from pipeline.transport.zmq_socket import SenderSocket, count_and_warn

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 30.0
_TICK_S = 0.5
_TROUBLE: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the receiver does not allow this sender's key",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: (
        "the receiver broke off: the public key given for it may be another's"
    ),
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "one side has keys and the other none",
}


class SendingLink(Closing):
    """The sending half of a `Link`: what is sent is on disk, and leaves when the network lets it.

        spool = Spool(Path("link.spool"))
        with SendingLink("tcp://hub:5800", spool, sender="north-gate", keys=keys) as link:
            link.send(tracklets)

    `send` waits for the disk and for nothing else. A thread of its own sends, and sends again what
    is not acknowledged: after a new connection at once, else after `resend_s`, then ever later but
    at least every 30 s.

    Track ids rise over restarts, so that a track of this run is never taken for one of an earlier.
    A track that a killed process left open is ended by the next one that opens the spool.

    Args:
        endpoint: Where the receiver listens, tcp://HOST:PORT or ipc://PATH.
        spool: What waits; closed with the link, also when the link cannot be made.
        sender: Name of this machine or site; with keys it must be the name of its key there.
        keys: Ours and the receiver's; None sends plain text, and only to this machine.
        insecure: Whether plain text may leave this machine all the same.
        window: Messages that may be under way unacknowledged. Higher keeps a long line busy, at
            the price of more sent twice after a cut.
        resend_s: How long to wait for the receiver before sending again. Lower recovers sooner
            from a lost answer, at the price of messages sent twice to a slow receiver.
        limit_bytes: Most bytes of one tracklet's silhouettes; no higher than the receiver's.
        clock: Seconds that never go back.

    Attributes:
        counts: Tracklets by what became of them: "sent" (first time), "resent", "acknowledged",
            "dropped" (the spool was full), "refused" (by the receiver); and "connections",
            "unauthorised" (attempts that failed at the keys), "disk" (times it failed).
        is_connected: Whether the receiver is there.
        trouble: Why it does not let us in, when it says so.
        endpoint: Where the receiver listens.

    Raises:
        ConfigError: The address or the name is none, or plain text would leave this machine.
    """

    def __init__(
        self,
        endpoint: str,
        spool: Spool,
        *,
        sender: str,
        keys: SenderKeys | None = None,
        insecure: bool = False,
        window: int = 64,
        resend_s: float = 5.0,
        limit_bytes: int = LIMIT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._sender = sender
        self._window = window
        self._resend_s = resend_s
        self._limit_bytes = limit_bytes
        self._clock = clock
        self.counts: Counter[str] = Counter(dropped=spool.num_dropped)
        self.endpoint = endpoint
        self.is_connected = False
        self.trouble: str | None = None
        self._first_track_id = spool.first_track_id
        self._cursor = 0  # the last number sent since the line was last rewound
        self._furthest = 0  # the highest number ever sent
        self._under_way: deque[int] = deque()
        self._heard_s = clock()
        self._patience_s = resend_s
        self._closed = threading.Event()
        self._emptied = threading.Condition()
        self._error: BaseException | None = None
        try:
            check_name(sender)
            self._socket = SenderSocket(
                endpoint, keys, insecure=insecure, limit_bytes=limit_bytes + 4096
            )
        except BaseException:
            spool.close()
            raise
        self._thread = threading.Thread(target=self._run, name="sending-link", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Tracklets that are not acknowledged yet."""
        return len(self._spool)

    @property
    def fill(self) -> float:
        """How full the spool is, 0..1."""
        return self._spool.fill

    @property
    def error(self) -> BaseException | None:
        """What ended the link; None while it works."""
        return self._error

    def oldest(self) -> Tracklet | None:
        """Return the tracklet that has waited longest; None when none waits.

        Raises:
            LinkError: The disk cannot be read.
        """
        return next((decode(frames) for _, frames in self._spool.after(0, 1)), None)

    def drop_before(self, unix_s: float, *, is_dry_run: bool = False) -> Iterator[Tracklet]:
        """Drop what waits and was last seen before a moment (Unix time); yield it, oldest first.

        Args:
            unix_s: The moment.
            is_dry_run: Only yield it.

        Raises:
            LinkError: The disk cannot be read or written.
        """
        last = 0
        while rows := self._spool.after(last, self._window):
            waiting = ((number, decode(frames)) for number, frames in rows)
            old = list(takewhile(lambda row: (row[1].last_seen_unix_s or inf) < unix_s, waiting))
            if not old:
                return
            last = old[-1][0]
            if not is_dry_run:
                dropped = self._spool.remove(last)
                self._count("dropped", dropped, "tracklets that waited for too long were dropped")
            yield from (each for _, each in old)

    def send(self, tracklets: Sequence[Tracklet]) -> None:
        """Put tracklets on the disk, from where they are sent; the oldest go when it is full.

        Raises:
            LinkError: The link was closed, a tracklet is too large, or the disk cannot be written.
        """
        if self._error is not None:
            raise LinkError(f"the link has failed: {self._error}") from self._error
        if self._closed.is_set():
            raise LinkError("expected an open link, this one was closed")
        own = [self._renumbered(tracklet) for tracklet in tracklets]
        if not own:
            return
        dropped = self._spool.put(
            [encode(tracklet, limit_bytes=self._limit_bytes) for tracklet in own],
            next_track_id=max(tracklet.track_id for tracklet in own) + 1,
            wills={(tracklet.stream, tracklet.track_id): _will(tracklet) for tracklet in own},
        )
        self._count("dropped", dropped, "the spool is full: the oldest tracklets were dropped")
        self._socket.wake()

    def close(self, within_s: float = 1.0) -> None:
        """Send what waits for at most `within_s`; the rest stays on disk for the next run."""
        with self._emptied:
            if not self._closed.is_set() and self.is_connected:
                self._emptied.wait_for(self._has_nothing_to_wait_for, within_s)
            already = self._closed.is_set()
            self._closed.set()
        if already:
            return
        self._socket.wake()
        self._thread.join()
        self._spool.close()

    def _has_nothing_to_wait_for(self) -> bool:
        return len(self._spool) == 0 or self._error is not None or not self.is_connected

    def _renumbered(self, tracklet: Tracklet) -> Tracklet:
        base = self._first_track_id
        return replace(
            tracklet,
            track_id=base + tracklet.track_id,
            companions=tuple(base + other for other in tracklet.companions),
        )

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                try:
                    self._watch()
                    self._hear()
                    self._send_waiting()
                except LinkError as error:  # the disk; what was not done is done again
                    self._count("disk", 1, str(error))
                    self._closed.wait(_TICK_S)
                self._socket.wait(_TICK_S)
        except BaseException as error:
            self._error = error
            logger.exception("the sending link failed")
        finally:
            self.is_connected = False
            self._tell()
            self._socket.close()

    def _watch(self) -> None:
        """Learn of connections, and send again when there is a new one or nobody answers."""
        for event in self._socket.events():
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.is_connected, self.trouble = True, None
                self.counts["connections"] += 1
                self._patience_s = self._resend_s
                self._rewind()
            elif event == zmq.EVENT_DISCONNECTED:
                self.is_connected = False
                self._heard_s = self._clock()
                self._tell()
            elif event in _TROUBLE:
                self.trouble = _TROUBLE[event]
                self._count("unauthorised", 1, self.trouble)
        is_waiting = bool(self._under_way) or not self.is_connected
        if is_waiting and self._clock() - self._heard_s > self._patience_s:
            self._patience_s = min(2 * self._patience_s, _LONGEST_WAIT_S)
            if not self.is_connected:
                self._socket.reconnect()
            self._rewind()

    def _rewind(self) -> None:
        """Begin again with the oldest that is not acknowledged."""
        self._cursor = 0
        self._under_way.clear()
        self._heard_s = self._clock()

    def _hear(self) -> None:
        while True:
            try:
                frames = self._socket.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                answer = read_answer(frames[0])
            except MessageError as error:
                self._count("garbage", 1, f"not understood from the receiver: {error}")
                continue
            if answer.spool == self._spool.id:
                self._take(answer)

    def _take(self, answer: Answer) -> None:
        if answer.refused is not None:
            self._count("refused", 1, f"the receiver refused a tracklet: {answer.refused!r}")
            if not answer.is_final:
                return  # kept, and sent again when patience is at its end
        removed = self._spool.remove(min(answer.done, self._furthest))
        self.counts["acknowledged"] += removed
        while self._under_way and self._under_way[0] <= answer.done:
            self._under_way.popleft()
        if removed:
            self._heard_s = self._clock()
            self._patience_s = self._resend_s
            self._tell()

    def _send_waiting(self) -> None:
        room = self._window - len(self._under_way)
        if room <= 0 or not self.is_connected:
            return
        for seq, frames in self._spool.after(self._cursor, room):
            envelope = Envelope(
                sender=self._sender, spool=self._spool.id, seq=seq, follows=self._cursor
            )
            try:
                self._socket.socket.send_multipart([write_frame(envelope), *frames], zmq.NOBLOCK)
            except zmq.Again:
                return
            if not self._under_way:
                self._heard_s = self._clock()
            self.counts["resent" if seq <= self._furthest else "sent"] += 1
            self._furthest = max(self._furthest, seq)
            self._cursor = seq
            self._under_way.append(seq)

    def _tell(self) -> None:
        with self._emptied:
            self._emptied.notify_all()

    def _count(self, what: str, number: int, warning: str) -> None:
        count_and_warn(self.counts, what, number, warning)


def _will(tracklet: Tracklet) -> list[bytes] | None:
    """Return the message that ends a tracklet's track; None if the tracklet does."""
    return None if tracklet.is_last else encode(tracklet.ending())


def check_name(sender: str) -> None:
    """Refuse a sender's name that no receiver takes.

    Raises:
        ConfigError: Says what a name may have.
    """
    if not re.fullmatch(NAME_PATTERN, sender):
        raise ConfigError(
            f"sender: expected letters, digits, '.', '_' and '-', at most 64, got {sender!r}"
        )
