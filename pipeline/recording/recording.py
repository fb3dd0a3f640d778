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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

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

_Result = TypeVar("_Result")

_KEY_S = 2.0  # at most this much is missing at the end of a clip that was cut off
_TICK_S = 1.0
_TIDY_S = 30.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 2.0, 60.0
_MOST_EVENTS = 1000
_ENDING = 0.5  # of the time for closing, for finishing the files
_GONE_S = 600.0  # a camera that gives no pictures for so long is forgotten


@dataclass(slots=True, eq=False)
class _Camera:
    clips: CameraClips
    seen_s: float = 0.0
    backoff: Backoff = field(
        default_factory=lambda: Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, random.Random())
    )
    blocked_until_s: float = 0.0
    error: str | None = None


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
        self._cameras: dict[str, _Camera] = {}
        self._tidied_s = time.monotonic()
        self._changed = threading.Condition()
        self._frames: deque[Seen] = deque()
        self._num_bytes = 0
        self._told: deque[Told] = deque(maxlen=_MOST_EVENTS)
        self._put = self._written = self._dropped = self._failures = 0
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
                error=next(
                    (each.error for each in list(self._cameras.values()) if each.error), None
                ),
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
            for camera in self._cameras.values():
                self._try(camera, camera.clips.end)
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
            if each.camera in self._cameras:
                camera = self._cameras[each.camera]
                self._try(camera, partial(camera.clips.learn, each))
        self._tick()
        return seen is not None or not is_closing

    def _has_work(self) -> bool:
        return bool(self._frames or self._told or self._deadline_s is not None)

    def _take(self, seen: Seen) -> None:
        camera = self._cameras.get(seen.frame.stream)
        if camera is None:
            camera = self._cameras[seen.frame.stream] = _Camera(CameraClips(self._tools))
        camera.seen_s = time.monotonic()
        num_written = self._try(camera, lambda: self._record(camera, seen)) or 0
        with self._changed:
            self._written += num_written
            self._dropped += not num_written and len(seen.tracks) > 0
        if num_written and camera.error is not None:
            camera.error = None
            camera.backoff.reset()
            logger.info("recording: camera %s: writes clips again", seen.frame.stream)

    def _record(self, camera: _Camera, seen: Seen) -> int:
        at_unix_s = self._times.unix_s(seen.frame)
        config = self._config
        if not (len(seen.tracks) or config.before_s or camera.clips.is_recording):
            return 0  # nobody will ever see it: not worth scaling
        moment = Moment.of(seen, at_unix_s, height=config.height, outlined=config.annotate)
        return camera.clips.take(moment, may_begin=camera.seen_s >= camera.blocked_until_s)

    def _tick(self) -> None:
        now_s = time.monotonic()
        for name, camera in list(self._cameras.items()):
            if now_s - camera.seen_s > _TICK_S:
                self._try(camera, camera.clips.tick)
            if now_s - camera.seen_s > _GONE_S:
                del self._cameras[name]
                self._tools.preroll.forget(name)
                self._times.forget(name)
        if now_s - self._tidied_s > _TIDY_S:
            self._tidied_s = now_s
            self._shelf.tidy()

    def _try(self, camera: _Camera, step: Callable[[], _Result]) -> _Result | None:
        """Do something with a camera's files; what fails costs pictures, not the thread."""
        try:
            return step()
        except OSError as error:
            self._failed(camera, words_of(error))
        except Exception as error:
            logger.exception("recording: a bug")
            self._failed(camera, f"a bug: {type(error).__name__}: {error}")
        return None

    def _failed(self, camera: _Camera, words: str) -> None:
        camera.blocked_until_s = time.monotonic() + camera.backoff.next_s()
        was_failing, camera.error = camera.error, words
        with self._changed:
            self._failures += 1
        if not was_failing:  # once an outage: months of them would fill the disk
            logger.warning("recording: cannot write clips, tries again: %s", words)


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
