"""The first half of a live run: the newest frames in, tracklets into the queue.

Each batch goes through all steps before the next one is fetched: what waits between steps would
grow old there. A batch that fails is tried again camera by camera; what fails then is skipped, and
nobody is followed across it.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from gait.tracklet import Tracklet
from pipeline.live.clocks import StreamClocks
from pipeline.live.failures import Failures
from pipeline.live.overload import OverloadPolicy
from pipeline.live.status import Board
from pipeline.perception import Perception
from pipeline.values import Batch, Embedding, Frame, Match
from pipeline.witness import Witness
from trackers.boxes import Mask, Tracks

_TRUSTED_AFTER = 100  # frames that must go well before a camera shares batches again
_MANY_EPOCHS = 1_000_000  # a camera that was changed counts its epochs from 0 again


class LivePerception:
    """Takes batches as they come; a `Witness` of its own work.

    Args:
        perception: With `runtime.ahead` 0.
        put: Where tracklets go; must not block.
        clocks: Told of every frame; stamps every tracklet.
        board: Told of every frame.
        failures: Told how each batch went.
        overload: Asked which frames to look at, told how old they were afterwards.
        is_present: Whether there is a camera of that name.
        witnesses: Who else is shown every frame; they must not block.
    """

    def __init__(
        self,
        perception: Perception,
        put: Callable[[Sequence[Tracklet]], None],
        *,
        clocks: StreamClocks,
        board: Board,
        failures: Failures,
        overload: OverloadPolicy,
        is_present: Callable[[str], bool],
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self._perception = perception
        self._put = put
        self._clocks = clocks
        self._board = board
        self._failures = failures
        self._overload = overload
        self._is_present = is_present
        self._witnesses = witnesses
        self._lock = threading.Lock()
        # Added to a camera's epochs: one more whenever nothing may be tracked across.
        self._breaks: dict[str, int] = {}
        self._suspects: dict[str, int] = {}  # cameras that failed alone
        self._watched: set[str] = set()  # cameras of which a frame came since the last break

    def take(self, batch: Batch) -> None:
        """Find the people in a batch; what fails costs these frames only."""
        with self._lock:
            for stream in batch.ended:
                self._leave(stream)
            frames = self._overload.choose(batch.frames)
            if not frames:
                return
            errors = self._errors_of(frames)
            for error in errors[:1] if None not in errors else errors:
                if error is not None:
                    self._failures.failed(error)
            if None in errors:
                self._failures.worked()

    def _errors_of(self, frames: Sequence[Frame]) -> list[Exception | None]:
        """Take frames together, but those of suspects alone; return how each attempt went."""
        suspected = [[frame] for frame in frames if frame.stream in self._suspects]
        together = [frame for frame in frames if frame.stream not in self._suspects]
        errors = [self._attempt(group) for group in (*suspected, together) if group]
        if len(together) > 1 and errors[-1] is not None:
            errors += [self._attempt([frame]) for frame in together]
        return errors

    def _attempt(self, frames: Sequence[Frame]) -> Exception | None:
        """Send frames through all steps; whoever fails alone is not put together with others."""
        try:
            with ExitStack() as threads:
                batch = Batch([self._in_its_epoch(frame) for frame in frames])
                steps = self._perception.tracklets([batch], self, threads)
                self._send(tracklet for tracklets in steps for tracklet in tracklets)
        except Exception as error:
            for frame in frames:
                self._break(frame.stream)
            if len(frames) == 1:
                self._suspects[frames[0].stream] = _TRUSTED_AFTER
            return error
        if len(frames) == 1 and frames[0].stream in self._suspects:
            self._suspects[frames[0].stream] -= 1
            if not self._suspects[frames[0].stream]:
                del self._suspects[frames[0].stream]
        return None

    def end_tracks(self, stream: str) -> None:
        """A camera gives no frames any more: its people count as gone."""
        with self._lock:
            if stream in self._watched:
                self._break(stream)
                self._board.left(stream)

    def finish(self) -> None:
        """End the tracks of every camera."""
        with self._lock:
            for stream in list(self._breaks):
                self._leave(stream)

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """One frame has been through."""
        now_s = time.time()
        self._clocks.note(frame)
        self._board.saw(frame, len(tracks), now_s)
        self._overload.processed(frame, now_s - (frame.captured_s or now_s))
        for witness in self._witnesses:
            witness.saw(frame, tracks, masks)

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Nothing: this half recognises nobody."""

    def _send(self, tracklets: Iterable[Tracklet]) -> None:
        complete = [self._clocks.stamped(tracklet) for tracklet in tracklets]
        if complete:
            self._put(complete)

    def _in_its_epoch(self, frame: Frame) -> Frame:
        self._watched.add(frame.stream)
        breaks = self._breaks.setdefault(frame.stream, 0)
        return dataclasses.replace(frame, epoch=frame.epoch + breaks) if breaks else frame

    def _break(self, stream: str) -> None:
        """End a camera's tracks; the next frame begins new ones whose ids count on."""
        if stream in self._breaks:
            self._breaks[stream] += 1
            self._watched.discard(stream)
            self._send(self._perception.assemblers.finish(stream))

    def _leave(self, stream: str) -> None:
        """End a camera's tracks, and forget it unless one of its name is there again."""
        self._break(stream)
        if self._is_present(stream):
            self._breaks[stream] = self._breaks.get(stream, 0) + _MANY_EPOCHS
            return
        self._breaks.pop(stream, None)
        self._suspects.pop(stream, None)
        self._perception.trackers.finish(stream)
        if self._perception.camera_motion is not None:
            self._perception.camera_motion.finish(stream)
        self._clocks.forget(stream)
        self._overload.forget(stream)
