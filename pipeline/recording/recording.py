"""Clips around people, in a thread of its own: no disk and no encoder holds up perception.

with Recording(RecordingConfig(), Path("clips")) as recording:
    recording.saw(frame, tracks, masks)     # returns at once
    recording.put(event)                    # says who the tracks are
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from gait.closing import Closing
from gait.tracklet import Tracklet
from pipeline.errors import ConfigError
from pipeline.recording.camera_clips import CameraClips, Tools
from pipeline.recording.config import Codec, RecordingConfig
from pipeline.recording.moment import CaptureTimes, Identities, Moment, Seen, Told
from pipeline.recording.preroll import PreRoll
from pipeline.recording.shelf import Shelf
from pipeline.sinks.encoder import CODECS, Encoding, best_codec, encodes
from pipeline.sinks.folder import words_of
from pipeline.sinks.live import Event, SinkCounts
from pipeline.sources.camera_state import Backoff
from pipeline.values import Embedding, Frame, Match
from trackers.boxes import Mask, Tracks

logger = logging.getLogger(__name__)

_KEY_S = 2.0  # at most this much is missing at the end of a clip that was cut off
_TICK_S = 1.0
_TIDY_S = 30.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 2.0, 60.0
_MOST_EVENTS = 1000
_ENDING = 0.5  # of the time for closing, for finishing the files
_GONE_S = 600.0  # a camera that gives no pictures for so long is forgotten


class Recording(Closing):
    """Records what perception sees around people; a `Witness`, told of events as sinks are.

    Args:
        config: What is recorded.
        folder: Where clips go.

    Raises:
        ConfigError: The encoder asked for does not work on this machine.
        OutputError: The folder cannot be used.
    """

    name = "recording"

    def __init__(self, config: RecordingConfig, folder: Path) -> None:
        codec = working_codec("recording.codec", config.codec)
        self._config = config
        self._shelf = Shelf(folder, keep_bytes=config.keep_gb * 1e9, keep_days=config.keep_days)
        self._most_bytes = config.memory_mb * 1e6 / 2
        self._tools = Tools(
            config,
            Encoding(codec, crf=config.crf, key_s=_KEY_S, is_live=True, threads=1),
            self._shelf,
            PreRoll(config.before_s, self._most_bytes),
            Identities(),
        )
        self._times = CaptureTimes()
        self._cameras: dict[str, tuple[CameraClips, float]] = {}  # and when it was last seen
        self._backoff = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, random.Random())
        self._blocked_until_s = 0.0
        self._tidied_s = time.monotonic()
        self._changed = threading.Condition()
        self._frames: deque[Seen] = deque()
        self._num_bytes = 0
        self._told: deque[Told] = deque(maxlen=_MOST_EVENTS)
        self._put = self._written = self._dropped = self._failures = 0
        self._error: str | None = None
        self._deadline_s: float | None = None
        logger.info("recording: clips of people go to %s, encoded by %s", folder, codec)
        self._thread = threading.Thread(target=self._work, name="recording", daemon=True)
        self._thread.start()

    # What the run's threads tell; returns at once.

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Record a frame, or remember it for a while; the oldest make room when it is too much."""
        if self._config.cameras is not None and frame.stream not in self._config.cameras:
            return
        with self._changed:
            self._put += 1
            if self._deadline_s is not None:
                self._dropped += 1
                return
            self._frames.append(Seen(frame, tracks, masks))
            self._num_bytes += frame.image.nbytes
            while self._num_bytes > self._most_bytes and len(self._frames) > 1:
                self._num_bytes -= self._frames.popleft().frame.image.nbytes
                self._dropped += 1
            self._changed.notify_all()

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Nothing: events say it."""

    def put(self, event: Event) -> None:
        """Learn from a sighting who is on which track."""
        told = Told.by(event)
        if told is None:
            return
        self._tools.identities.learn(told)
        with self._changed:
            self._told.append(told)
            self._changed.notify_all()

    @property
    def counts(self) -> SinkCounts:
        """What it has done so far, counted in frames."""
        with self._changed:
            return SinkCounts(
                put=self._put,
                written=self._written,
                dropped=self._dropped,
                failures=self._failures,
                waiting=len(self._frames),
                error=self._error,
            )

    def close(self, within_s: float = 2.0) -> None:
        """Write what is left, and finish the clips, but end in time.

        Args:
            within_s: Seconds it may take. A disk that hangs is left alone; what was on its way
                is brought to light at the next start.
        """
        with self._changed:
            if self._deadline_s is None:
                self._deadline_s = time.monotonic() + within_s * (1 - _ENDING)
            self._changed.notify_all()
        self._thread.join(within_s)
        if self._thread.is_alive():
            logger.warning("recording: the last clips were not finished within %g s", within_s)

    # The thread.

    def _work(self) -> None:
        try:
            while self._turn():
                pass
            for clips, _ in self._cameras.values():
                self._try(clips.end)
        finally:
            self._shelf.close()

    def _turn(self) -> bool:
        """Do what there is to do; return False when there is nothing more, or no time for it."""
        with self._changed:
            self._changed.wait_for(self._has_work, _TICK_S)
            is_closing = self._deadline_s is not None
            if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
                self._dropped += len(self._frames)
                self._frames.clear()
            seen = self._frames.popleft() if self._frames else None
            if seen is not None:
                self._num_bytes -= seen.frame.image.nbytes
            told = list(self._told)
            self._told.clear()
        if seen is not None:
            self._take(seen)
        for each in told:
            self._learn(each)
        self._tick()
        return seen is not None or not is_closing

    def _has_work(self) -> bool:
        return bool(self._frames or self._told or self._deadline_s is not None)

    def _take(self, seen: Seen) -> None:
        num_written = 0

        def take() -> None:
            nonlocal num_written
            moment = Moment.of(
                seen,
                self._times.unix_s(seen.frame),
                height=self._config.height,
                outlined=self._config.annotate,
            )
            may_begin = time.monotonic() >= self._blocked_until_s
            num_written = self._camera(moment.camera).take(moment, may_begin=may_begin)

        self._try(take)
        with self._changed:
            self._written += num_written
            self._dropped += not num_written and len(seen.tracks) > 0
        if num_written and self._error is not None:
            self._recovered()

    def _camera(self, name: str) -> CameraClips:
        now_s = time.monotonic()
        clips, _ = self._cameras.get(name) or (CameraClips(self._tools), now_s)
        self._cameras[name] = clips, now_s
        return clips

    def _learn(self, told: Told) -> None:
        if told.camera in self._cameras:
            with suppress(OSError):  # the disk's trouble is told where pictures are written
                self._cameras[told.camera][0].learn(told)

    def _tick(self) -> None:
        now_s = time.monotonic()
        for name, (clips, seen_s) in list(self._cameras.items()):
            if now_s - seen_s > _TICK_S:
                self._try(clips.tick)
            if now_s - seen_s > _GONE_S:
                del self._cameras[name]
                self._tools.preroll.forget(name)
                self._times.forget(name)
        if now_s - self._tidied_s > _TIDY_S:
            self._tidied_s = now_s
            self._try(self._shelf.tidy)

    def _try(self, step: Callable[[], None]) -> None:
        """Do something with files; what fails costs pictures, not the thread."""
        try:
            step()
        except OSError as error:
            self._failed(words_of(error))
        except Exception as error:
            logger.exception("recording: a bug")
            self._failed(f"a bug: {type(error).__name__}: {error}")

    def _failed(self, words: str) -> None:
        self._blocked_until_s = time.monotonic() + self._backoff.next_s()
        was_failing = self._error is not None
        with self._changed:
            self._failures += 1
            self._error = words
        if not was_failing:  # once an outage: months of them would fill the disk
            logger.warning("recording: cannot write clips, tries again: %s", words)

    def _recovered(self) -> None:
        with self._changed:
            self._error = None
        self._backoff.reset()
        logger.info("recording: writes clips again")


def working_codec(where: str, choice: Codec) -> str:
    """Return the encoder to use.

    Args:
        where: The setting, for the error.
        choice: What it says.

    Raises:
        ConfigError: It does not work on this machine.
    """
    codec = best_codec() if choice == "auto" else choice
    if not encodes(codec):
        known = ", ".join(each for each in CODECS if encodes(each))
        raise ConfigError(
            f"{where}: expected an encoder that works on this machine ({known}), got {codec}; "
            "auto takes the best"
        )
    return codec
