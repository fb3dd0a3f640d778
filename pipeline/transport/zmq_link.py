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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import zmq

from gait.tracklet import Tracklet
from pipeline.closing import Closing
from pipeline.errors import ConfigError, LinkError
from pipeline.transport.envelope import Answer, Envelope, read_answer, read_envelope, write_frame
from pipeline.transport.keys import NAME_PATTERN, ReceiverKeys, SenderKeys
from pipeline.transport.message import (
    LIMIT_BYTES,
    NUM_FRAMES,
    MessageError,
    VersionError,
    decode,
    encode,
)
from pipeline.transport.spool import Marks, Spool
from pipeline.transport.zmq_socket import ReceiverSocket, SenderSocket

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 30.0
_TICK_S = 0.5
_MOST_LINES = 4096


class SendingLink(Closing):
    """The sending half of a `Link`: what is sent is on disk, and leaves when the network lets it.

        spool = Spool(Path("link.spool"))
        with SendingLink("tcp://hub:5800", spool, sender="north-gate", keys=keys) as link:
            link.send(tracklets)

    `send` waits for the disk and for nothing else. A thread of its own sends, and sends again what
    is not acknowledged: after a new connection at once, else after `resend_s`, then ever later but
    at least every 30 s.

    Track ids rise over restarts, so that a track of this run is never taken for one of an earlier.

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
            "dropped" (the spool was full), "refused" (by the receiver); and "connections".
        is_connected: Whether the receiver is there.

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
        self.is_connected = False
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
                self._watch()
                self._hear()
                self._send_waiting()
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
                self.is_connected = True
                self.counts["connections"] += 1
                self._patience_s = self._resend_s
                self._rewind()
            elif event == zmq.EVENT_DISCONNECTED:
                self.is_connected = False
                self._heard_s = self._clock()
                self._tell()
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._count("unauthorised", 1, "the receiver does not allow this sender's key")
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


@dataclass(slots=True)
class _Line:
    """How far we are with one sender's spool; numbers as in `Answer`."""

    sender: str
    spool: str
    done: int
    received: int
    handed: int
    route: bytes


class ReceivingLink(Closing):
    """The receiving half of a `Link`: tracklets of many senders, each sender's in order.

        with ReceivingLink("tcp://0.0.0.0:5800", Path("link.marks"), keys=keys) as link:
            while tracklets := link.receive():
                write(identify(tracklets))
                link.acknowledge()

    Each tracklet's stream gets its sender's name, "north-gate/door", so that machines cannot be
    mistaken for each other. What is not as it should be is refused and counted.

    Whoever calls `receive` must be one thread; `acknowledge` may be another, `stop` any.

    Args:
        endpoint: Where to listen, tcp://ADDRESS:PORT or ipc://PATH; port * takes a free one.
        marks: File that keeps how far each sender is; made if missing.
        keys: Ours and the allowed senders'; None takes plain text, and only on this machine.
        insecure: Whether plain text may come from other machines all the same, from anybody.
        batch: Most tracklets that `receive` returns at once. Higher feeds the encoder better, at
            the price of latency and of more that is done twice after a crash.
        limit_bytes: Most bytes of one tracklet's silhouettes. Higher takes longer walks, at the
            price of memory: a sender may have 1,000 messages waiting.

    Attributes:
        counts: "received", "repeated" (known already), "gaps" (came out of order, and will come
            again), "refused".
        endpoint: Where it listens, with the port.

    Raises:
        ConfigError: The address is none, or plain text would cross machines.
        LinkError: The address is taken, or the marks cannot be read or are in use.
    """

    def __init__(
        self,
        endpoint: str,
        marks: Path,
        *,
        keys: ReceiverKeys | None = None,
        insecure: bool = False,
        batch: int = 16,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._batch = batch
        self._limit_bytes = limit_bytes
        self.counts: Counter[str] = Counter()
        self._lines: dict[tuple[str, str], _Line] = {}
        self._changed: set[tuple[str, str]] = set()  # lines whose sender is to be told
        self._state = threading.Lock()
        self._use = threading.Lock()  # of the socket
        self._stopped = threading.Event()
        self._closed = False
        self._marks = Marks(marks)
        try:
            self._socket = ReceiverSocket(
                endpoint, keys, insecure=insecure, limit_bytes=limit_bytes + 4096
            )
        except BaseException:
            self._marks.close()
            raise
        self.endpoint = self._socket.endpoint

    def receive(self, timeout_s: float | None = None) -> list[Tracklet]:
        """Wait for tracklets and return up to `batch`.

        An empty list says that the link was stopped or, with a time-out, that nothing came.

        Raises:
            LinkError: The marks cannot be read.
        """
        ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._use:
            while not self._stopped.is_set():
                self._tell()
                tracklets = self._waiting()
                left_s = _TICK_S if ends_s is None else ends_s - time.monotonic()
                if tracklets or left_s <= 0:
                    return tracklets
                self._socket.wait(min(left_s, _TICK_S))
        return []

    def acknowledge(self) -> None:
        """Say that all that `receive` has returned so far is done, and will not be wanted again.

        Raises:
            LinkError: The marks cannot be written; the tracklets will come again.
        """
        with self._state:
            done = [line for line in self._lines.values() if line.handed > line.done]
            self._marks.write([(line.sender, line.spool, line.handed) for line in done])
            for line in done:
                line.done = line.handed
                self._changed.add((line.sender, line.spool))
        self._socket.wake()

    def stop(self) -> None:
        """Make `receive` return an empty list, now and later. A signal handler may call it."""
        self._stopped.set()
        self._socket.wake()

    def close(self) -> None:
        """Stop, tell the senders what is acknowledged, and listen no more."""
        self.stop()
        with self._use:
            if self._closed:
                return
            self._closed = True
            self._tell()
            self._socket.close()
            self._marks.close()

    def _waiting(self) -> list[Tracklet]:
        """Return what has arrived and can be used, at most a batch."""
        tracklets: list[Tracklet] = []
        for _ in range(4 * self._batch):  # also when all is garbage, there is an end
            came = self._socket.receive(1 + NUM_FRAMES)
            if came is None:
                break
            route, name, frames = came
            try:
                tracklet = self._take(route, name, frames)
            except MessageError as error:
                self._refuse(error)
                continue
            if tracklet is not None:
                tracklets.append(tracklet)
            if len(tracklets) == self._batch:
                break
        with self._state:
            for line in self._lines.values():
                line.handed = line.received
        return tracklets

    def _take(self, route: bytes, name: str | None, frames: list[bytes]) -> Tracklet | None:
        """Return the tracklet of a message; None when it is not its turn.

        Raises:
            MessageError: It is not as it should be.
        """
        if not frames:
            raise MessageError(f"expected {1 + NUM_FRAMES} frames")
        envelope = read_envelope(frames[0])
        if name is not None and name != envelope.sender:
            raise MessageError(f"{name}: expected this name, got {envelope.sender!r}")
        line = self._line(envelope, route)
        if envelope.seq <= line.received:
            self.counts["repeated"] += 1
            self._changed.add((line.sender, line.spool))
            return None
        if envelope.follows > line.received:
            self.counts["gaps"] += 1
            return None
        try:
            tracklet = decode(frames[1:], limit_bytes=self._limit_bytes)
        except VersionError as error:
            self._answer(line, refused=str(error), is_final=False)
            raise
        except MessageError as error:
            self._skip(line, envelope.seq)
            self._answer(line, refused=str(error))
            raise
        line.received = envelope.seq
        self.counts["received"] += 1
        return replace(tracklet, stream=f"{line.sender}/{tracklet.stream}")

    def _skip(self, line: _Line, seq: int) -> None:
        """Take a message that will never be good as done, once all before it are."""
        with self._state:
            if line.done == line.received:
                self._marks.write([(line.sender, line.spool, seq)])
                line.done = line.handed = seq
            line.received = seq

    def _line(self, envelope: Envelope, route: bytes) -> _Line:
        key = envelope.sender, envelope.spool
        line = self._lines.get(key)
        if line is None:
            done = self._marks.read(*key)
            line = _Line(*key, done, done, done, route)
            with self._state:
                self._forget_idle_lines()
                self._lines[key] = line
        line.route = route
        return line

    def _forget_idle_lines(self) -> None:
        """Keep memory bounded, whatever senders call themselves; marks on disk stay."""
        if len(self._lines) >= _MOST_LINES:
            idle = [key for key, line in self._lines.items() if line.done == line.received]
            for key in idle:
                del self._lines[key]
            self._changed.clear()

    def _tell(self) -> None:
        """Answer the senders of whom something was acknowledged or came twice."""
        with self._state:
            lines = [self._lines[key] for key in self._changed]
            self._changed.clear()
        for line in lines:
            self._answer(line)

    def _answer(self, line: _Line, refused: str | None = None, is_final: bool = True) -> None:
        answer = Answer(
            spool=line.spool,
            done=line.done,
            received=line.received,
            refused=None if refused is None else refused[:500],
            is_final=is_final,
        )
        self._socket.send(line.route, write_frame(answer))

    def _refuse(self, error: MessageError) -> None:
        count_and_warn(self.counts, "refused", 1, f"refused a message: {error}")


def check_name(sender: str) -> None:
    """Refuse a sender's name that no receiver takes.

    Raises:
        ConfigError: Says what a name may have.
    """
    if not re.fullmatch(NAME_PATTERN, sender):
        raise ConfigError(
            f"sender: expected letters, digits, '.', '_' and '-', at most 64, got {sender!r}"
        )


def count_and_warn(counts: Counter[str], what: str, number: int, warning: str) -> None:
    """Count, and warn at 1, 2, 4, 8 ...: a stranger must not fill the log."""
    before = counts[what]
    counts[what] += number
    if counts[what].bit_length() > before.bit_length():
        logger.warning("%s (%d so far)", warning, counts[what])
