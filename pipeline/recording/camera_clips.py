"""When one camera's clips begin and end."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import chain

from pipeline.recording.clip import Clip, ClipNote
from pipeline.recording.config import RecordingConfig
from pipeline.recording.moment import Identities, Moment, Told
from pipeline.recording.preroll import PreRoll
from pipeline.recording.shelf import Shelf, part_of
from pipeline.sinks.encoder import Encoding

_MOST_TRACKS = 500
_MOST_CLIPS = 100  # that show one track and are told who it is; somebody may be there for days
_LONGEST_PAUSE_S = 10.0  # between two pictures of one clip


@dataclass(frozen=True, slots=True)
class Tools:
    """What the clips of all cameras share.

    Attributes:
        config: When clips begin and end.
        encoding: How to compress.
        shelf: Where they go.
        preroll: What was before.
        identities: Who the tracks are.
    """

    config: RecordingConfig
    encoding: Encoding
    shelf: Shelf
    preroll: PreRoll
    identities: Identities


class CameraClips:
    """One camera's clips, one after another."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._clip: Clip | None = None
        self._somebody_s = 0.0  # when somebody was last in view
        self._newest_s = time.monotonic()
        self._notes: OrderedDict[int, deque[ClipNote]] = OrderedDict()  # by track

    @property
    def is_recording(self) -> bool:
        """Whether a clip is being written."""
        return self._clip is not None

    def take(self, moment: Moment, *, may_begin: bool) -> int:
        """Record a moment, or remember it for the clip that may begin; return pictures written.

        Args:
            moment: Later than those before, unless the camera's clock was set.
            may_begin: Whether a clip may begin.

        Raises:
            OSError: Nothing can be written; the clip has been given up.
        """
        self._newest_s = time.monotonic()
        before = self._clip
        if before is not None and self._is_over(before, moment):
            self.end()
        if moment.tracks:
            self._somebody_s = moment.at_unix_s
        if self._clip is None:
            # The next file goes on where a full one ended, also when people are hidden just then.
            goes_on = before is not None and self._is_awaited(moment)
            if not may_begin or not (moment.tracks or goes_on):
                self._tools.preroll.add(moment)
                return 0
            return self._begin(moment)
        return self._write(self._clip, moment)

    def learn(self, told: Told) -> None:
        """Note who a track is on the clips that show it; it may be revised after its end."""
        for note in self._notes.get(told.track_id, ()):
            note.learn(told)

    def tick(self) -> None:
        """End the clip of a camera that gives no pictures any more.

        Raises:
            OSError: It cannot be written.
        """
        silent_s = time.monotonic() - self._newest_s
        if silent_s > max(self._tools.config.after_s, _LONGEST_PAUSE_S):
            self.end()

    def end(self) -> None:
        """End the clip that is being written, if one is.

        Raises:
            OSError: It cannot be written; it has been given up.
        """
        if self._clip is None:
            return
        clip, self._clip = self._clip, None
        try:
            clip.finish()
        except BaseException:
            self._give_up(clip)
            raise
        self._tools.shelf.tidy()

    def _is_over(self, clip: Clip, moment: Moment) -> bool:
        pause_s = moment.at_unix_s - clip.end_s
        return (
            not self._is_awaited(moment)
            or moment.at_unix_s - clip.start_s >= self._tools.config.longest_s
            or moment.placement.canvas != clip.canvas
            or not 0 <= pause_s <= _LONGEST_PAUSE_S
        )

    def _is_awaited(self, moment: Moment) -> bool:
        """Whether somebody was in view a short while ago."""
        gone_s = moment.at_unix_s - self._somebody_s
        return bool(moment.tracks) or 0 <= gone_s <= self._tools.config.after_s

    def _begin(self, moment: Moment) -> int:
        num_written = 0
        for each in chain(self._tools.preroll.before(moment), [moment]):
            if self._clip is None:
                self._clip = self._new_clip(each)
            num_written += self._write(self._clip, each)
        return num_written

    def _new_clip(self, first: Moment) -> Clip:
        path = self._tools.shelf.new_path(first.camera, first.at_unix_s)
        annotated = self._tools.config.annotate
        return Clip(path, first, self._tools.encoding, annotated=annotated)

    def _write(self, clip: Clip, moment: Moment) -> int:
        annotate = self._tools.config.annotate
        identities = self._tools.identities
        image = moment.drawn(identities) if annotate else moment.picture
        try:
            new_tracks = clip.add(moment, image, identities)
        except BaseException:
            self._clip = None
            self._give_up(clip)
            raise
        for track_id in new_tracks:
            self._notes.setdefault(track_id, deque(maxlen=_MOST_CLIPS)).append(clip.note)
            if len(self._notes) > _MOST_TRACKS:
                self._notes.popitem(last=False)
        return 1

    def _give_up(self, clip: Clip) -> None:
        clip.give_up()
        self._tools.shelf.settle(part_of(clip.path))
