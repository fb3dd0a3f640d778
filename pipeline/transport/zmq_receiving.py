"""The receiving half of the link between machines; `pipeline.transport.zmq_link` has the other."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from gait.closing import Closing
from gait.tracklet import Tracklet
from pipeline.transport.envelope import Answer, Envelope, read_envelope, write_frame
from pipeline.transport.keys import ReceiverKeys
from pipeline.transport.message import (
    LIMIT_BYTES,
    LONGEST_NAME,
    NUM_FRAMES,
    MessageError,
    VersionError,
    decode,
    encode,
)
from pipeline.transport.spool import Marks, Track
from pipeline.transport.zmq_socket import ReceiverSocket, count_and_warn

_TICK_S = 0.5
_MOST_LINES = 4096


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

    Who needs the whole track before its results are written gives the tracklets back to be kept
    on our disk until then. After a kill they come from `kept`:

            for tracklets in link.kept():
                identify(tracklets)
            while tracklets := link.receive():
                link.acknowledge(keep=tracklets)
                link.release(tracks_written(identify(tracklets)))

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

    def acknowledge(self, keep: Sequence[Tracklet] = ()) -> None:
        """Say that all that `receive` has returned so far is done, and will not be wanted again.

        Args:
            keep: Those of them that are not done, and are kept here until `release`; of each track
                the newest 20.

        Raises:
            LinkError: The marks cannot be written; nothing was kept, the tracklets will come again.
        """
        kept = [(tracklet.track, encode(tracklet)) for tracklet in keep]
        with self._state:
            done = [line for line in self._lines.values() if line.handed > line.done]
            self._marks.write([(line.sender, line.spool, line.handed) for line in done], kept)
            for line in done:
                line.done = line.handed
                self._changed.add((line.sender, line.spool))
        self._socket.wake()

    def kept(self) -> Iterator[list[Tracklet]]:
        """Yield what was kept and not released, oldest first, at most a batch at a time.

        Raises:
            LinkError: The disk cannot be read.
        """
        last = 0
        while rows := self._marks.kept(last, self._batch):
            yield [decode(frames) for _, frames in rows]
            last = rows[-1][0]

    def release(self, tracks: Collection[Track]) -> None:
        """Forget what is kept of tracks whose results are written.

        Raises:
            LinkError: The disk cannot be written; they come again after a restart.
        """
        self._marks.release(tracks)

    def drop_before(self, unix_s: float, *, is_dry_run: bool = False) -> Iterator[Tracklet]:
        """Forget what is kept and was last seen before a moment (Unix time); yield it.

        Args:
            unix_s: The moment.
            is_dry_run: Only yield it.

        Raises:
            LinkError: The disk cannot be read or written.
        """
        last = 0
        while rows := self._marks.kept(last, self._batch):
            last = rows[-1][0]
            kept = {number: decode(frames) for number, frames in rows}
            old = {
                number: each
                for number, each in kept.items()
                if (each.last_seen_unix_s or inf) < unix_s
            }
            if not is_dry_run:
                self._marks.drop(old)
            yield from old.values()

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
            tracklet = self._named(decode(frames[1:], limit_bytes=self._limit_bytes), line)
        except VersionError as error:
            self._answer(line, refused=str(error), is_final=False)
            raise
        except MessageError as error:
            self._skip(line, envelope.seq)
            self._answer(line, refused=str(error))
            raise
        line.received = envelope.seq
        self.counts["received"] += 1
        return tracklet

    def _named(self, tracklet: Tracklet, line: _Line) -> Tracklet:
        stream = f"{line.sender}/{tracklet.stream}"
        if len(stream) > LONGEST_NAME:
            raise MessageError(
                f"stream: expected at most {LONGEST_NAME} characters with its sender"
            )
        return replace(tracklet, stream=stream)

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
