"""The walks a streaming encoder knows: their silhouettes, what is remembered of them, and room."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gait.encoder import MAX_FRAMES
from gait.errors import SilhouetteError
from gait.silhouette import cut
from gait.streaming_state import WalkState
from gait.tracklet import SILHOUETTE_HW

logger = logging.getLogger(__name__)

_FRAME_BYTES = SILHOUETTE_HW[0] * SILHOUETTE_HW[1]


@dataclass(frozen=True, slots=True)
class StreamingCounts:
    """What has happened since the encoder was made.

    Attributes:
        frames: Silhouettes taken into walks.
        ignored_frames: Silhouettes beyond the 720th of a walk, which the network never looks at.
        evictions: States given up for room.
        rebuilds: States made again.
        rebuilt_frames: Silhouettes computed again for that.
        forgotten: Walks given up altogether for room.
        lost_beginnings: Tracklets whose predecessor never came, or was forgotten: their walk began
            with them.
    """

    frames: int = 0
    ignored_frames: int = 0
    evictions: int = 0
    rebuilds: int = 0
    rebuilt_frames: int = 0
    forgotten: int = 0
    lost_beginnings: int = 0


@dataclass(slots=True)
class Walk:
    """One walk.

    Attributes:
        begin: Silhouettes of it that were never seen here.
        kept: Its silhouettes from there on, in pieces; at most 720.
        num: How many those are.
        ignored: How many came after them.
        seen: How many of them a state has ever known.
        state: What the network remembers, unless that was given up.
    """

    begin: int = 0
    kept: list[NDArray[np.uint8]] = field(default_factory=list)
    num: int = 0
    ignored: int = 0
    seen: int = 0
    state: WalkState | None = None

    @property
    def next_offset(self) -> int:
        """How many silhouettes of it there have been."""
        return self.begin + self.num + self.ignored

    @property
    def age(self) -> int:
        """How many silhouettes the state knows."""
        return 0 if self.state is None else self.state.age

    def append(self, silhouettes: NDArray[np.uint8]) -> None:
        """Keep a copy of what fits into 720."""
        taken = silhouettes[: MAX_FRAMES - self.num].copy()  # a view would keep its base alive
        self.kept.append(taken)
        self.num += len(taken)
        self.ignored += len(silhouettes) - len(taken)

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return silhouettes `start` to before `stop`."""
        found = []
        first = self.num
        for piece in reversed(self.kept):
            if first <= start:
                break
            first -= len(piece)
            found.append(piece[max(start - first, 0) : max(stop - first, 0)])
        return np.concatenate([np.empty((0, *SILHOUETTE_HW), np.uint8), *reversed(found)])


class Walks:
    """Walks by name, the longest unused first, within bounds.

    Attributes:
        counts: What has happened so far.
        max_states: Most walks of which something is remembered.
    """

    def __init__(self, *, max_states: int, max_kept_bytes: int) -> None:
        """Begin without walks.

        Args:
            max_states: Most walks of which something is remembered.
            max_kept_bytes: Most bytes of silhouettes.
        """
        self.counts = StreamingCounts()
        self.max_states = max_states
        self._max_kept_bytes = max_kept_bytes
        self._walks: OrderedDict[Hashable, Walk] = OrderedDict()
        self._num_kept = 0

    def __len__(self) -> int:
        return len(self._walks)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._walks)

    def __getitem__(self, key: Hashable) -> Walk:
        return self._walks[key]

    def get(self, key: Hashable) -> Walk | None:
        """Return a walk; None when there is none of that name."""
        return self._walks.get(key)

    @property
    def kept_bytes(self) -> int:
        """Silhouettes that are kept."""
        return self._num_kept * _FRAME_BYTES

    @property
    def memory_bytes(self) -> int:
        """What the network remembers of all walks."""
        return sum(walk.state.num_bytes for walk in self._walks.values() if walk.state is not None)

    @property
    def num_states(self) -> int:
        """Walks of which something is remembered."""
        return sum(walk.state is not None for walk in self._walks.values())

    def count(self, **more: int) -> None:
        """Count what has happened."""
        changed = {name: getattr(self.counts, name) + number for name, number in more.items()}
        self.counts = replace(self.counts, **changed)

    def count_rebuild(self, walk: Walk) -> None:
        """Count that a state is made again, and say so once when that is most of the work."""
        before = self.counts
        self.count(rebuilds=1, rebuilt_frames=walk.seen)
        if before.rebuilt_frames <= before.frames < self.counts.rebuilt_frames:
            logger.warning(
                "more silhouettes are computed again than for the first time: %d walks are under "
                "way, and there is memory for %d; allow more memory, or embed windows",
                len(self), self.max_states,
            )  # fmt: skip

    def begin(self, key: Hashable, *, begin: int = 0) -> None:
        """Begin a walk, in place of one of the same name."""
        self.end([key])
        self._walks[key] = Walk(begin)

    def append(self, key: Hashable, silhouettes: NDArray[np.uint8]) -> None:
        """Take new silhouettes, shape (T, 64, 44); a name that is not known begins a walk."""
        walk = self._walks.setdefault(key, Walk())
        before = walk.num
        walk.append(silhouettes)
        taken = walk.num - before
        self._num_kept += taken
        self.count(frames=taken, ignored_frames=len(silhouettes) - taken)

    def end(self, keys: Iterable[Hashable]) -> None:
        """Drop walks, known or not."""
        for key in keys:
            walk = self._walks.pop(key, None)
            self._num_kept -= 0 if walk is None else walk.num

    def clear(self) -> None:
        """Drop all."""
        self.end(list(self._walks))

    def forget(self, needed: Collection[Hashable]) -> None:
        """Drop the walks longest unused, but none of `needed`, until the silhouettes have room."""
        for key in [key for key in self._walks if key not in needed]:
            if self.kept_bytes <= self._max_kept_bytes:
                return
            self.end([key])
            self.count(forgotten=1)

    def use(self, keys: Collection[Hashable]) -> None:
        """Make them the last used, and room for their states by giving up others'."""
        for key in keys:
            self._walks.move_to_end(key)
        resident = [key for key, walk in self._walks.items() if walk.state is not None]
        others = [key for key in resident if key not in keys]
        excess = len(others) + len(keys) - self.max_states
        self.evict(others[: max(excess, 0)])

    def evict(self, keys: Iterable[Hashable]) -> None:
        """Give up what the network remembers of walks."""
        for key in keys:
            if self._walks[key].state is not None:
                self._walks[key].state = None
                self.count(evictions=1)


def checked(key: Hashable, silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return silhouettes of shape (T, 64, 44); square ones, (T, 64, 64), are cut.

    Raises:
        SilhouetteError: They are no silhouettes.
    """
    if silhouettes.ndim == 3 and silhouettes.dtype == np.uint8:
        silhouettes = cut(silhouettes)
    if silhouettes.dtype != np.uint8 or silhouettes.shape[1:] != SILHOUETTE_HW:
        raise SilhouetteError(
            f"walk {key!r}: expected uint8 silhouettes of shape (T, 64, 44), got "
            f"{silhouettes.dtype} of shape {silhouettes.shape}"
        )
    return silhouettes
