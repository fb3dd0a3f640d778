"""Who walks through which place when, so that nobody walks through anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.camera import Camera
from gait.synthetic.extras import Extra
from gait.synthetic.motion import Variation, walk
from gait.synthetic.paths import Pace, Path2D
from gait.synthetic.place import Place
from gait.synthetic.routes import beside, draw_route
from gait.synthetic.scene_config import SceneConfig
from gait.synthetic.skeleton import Motion

Seen = tuple[Place, Sequence[Camera]]
"""A place and the cameras that look at it."""

_TRIES = 24
_GAP_M = 0.6  # between the middles of two people who pass each other
_SIDE_BY_SIDE_M = 0.75
_STOP_S = (1.5, 4.0)
_RAMP_S = 0.9
_CUT_OFF = 0.2  # most of a walk that may lie before or after the film
_END_M = 2.0
_ALLOWANCE = 1.8  # time to walk a way in, as a share of what the usual speed takes
_IN_STEP = Variation(speed=0.0, fatigue=0.0)  # two who walk together do not drift apart


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One person's walk through one place.

    Attributes:
        extra: Index of the person.
        place: Index of the place.
        first_frame: Of the walk, counted from the first of the videos; may be before it.
        motion: The walk, a pose a frame.
    """

    extra: int
    place: int
    first_frame: int
    motion: Motion

    @property
    def end_frame(self) -> int:
        """The frame after the walk's last."""
        return self.first_frame + len(self.motion.position)

    def later(self, frames: int) -> Visit:
        """Return the same visit, begun `frames` later."""
        return Visit(self.extra, self.place, self.first_frame + frames, self.motion)


def draw_visits(
    config: SceneConfig, seen: Sequence[Seen], extras: Sequence[Extra], rng: np.random.Generator
) -> tuple[Visit, ...]:
    """Return the visits of everybody, in the order of their beginning.

    Everybody comes to every place once if the time allows, and comes again while it lasts; the
    beginnings are spread evenly. People keep 60 cm apart as far as 24 tries allow.

    Args:
        config: Of the scene.
        seen: Its places and who looks at them.
        extras: Its people.
        rng: Draws the visits.
    """
    groups = _groups(config, extras, rng)
    turns = rng.permutation(len(groups))
    placed: list[Visit] = []
    for group, turn in zip(groups, turns.tolist(), strict=True):
        even = (turn + rng.uniform()) / len(groups)
        best, best_cost = [], np.inf
        for attempt in range(_TRIES):
            share = even if attempt < _TRIES // 3 else rng.uniform()
            tried = _Itinerary(config, seen, extras, group, rng).draw(share)
            cost = _crowding(tried, placed)
            if cost < best_cost:
                best, best_cost = tried, cost
            if not cost:
                break
        placed += best
    return tuple(sorted(placed, key=lambda visit: (visit.first_frame, visit.extra)))


def _groups(
    config: SceneConfig, extras: Sequence[Extra], rng: np.random.Generator
) -> list[list[int]]:
    """Put some people together in twos."""
    order = rng.permutation(len(extras)).tolist()
    in_pairs = 2 * round(config.pairs * len(extras) / 2)
    in_pairs = min(in_pairs, len(extras) // 2 * 2)
    twos = [order[at : at + 2] for at in range(0, in_pairs, 2)]
    return twos + [[each] for each in order[in_pairs:]]


class _Itinerary:
    """The visits of one person, or of two who walk together."""

    def __init__(
        self,
        config: SceneConfig,
        seen: Sequence[Seen],
        extras: Sequence[Extra],
        group: Sequence[int],
        rng: np.random.Generator,
    ) -> None:
        self._config, self._seen, self._group, self._rng = config, seen, group, rng
        self._extras = [extras[each] for each in group]
        self._speed = min(each.speed_m_s for each in self._extras)

    def draw(self, share: float) -> list[Visit]:
        """Return the visits; the first begins after this share of the time that can be spared."""
        first = int(self._rng.integers(len(self._seen)))
        stays = [self._stay((first + at) % len(self._seen)) for at in range(len(self._seen))]
        transits = [self._transit() for _ in stays[1:]]
        needed = sum(map(_length, stays)) + sum(transits)
        if needed > self._config.num_frames:
            shortest = round(self._config.transit_s[0] * self._config.fps)
            needed += (shortest * len(transits)) - sum(transits)
            transits = [shortest] * len(transits)
        # Some are there already when the film begins, some still when it ends.
        earliest = -_CUT_OFF * _length(stays[0])
        latest = self._config.num_frames - needed + _CUT_OFF * _length(stays[-1])
        start = round(earliest + share * (latest - earliest))
        visits: list[Visit] = []
        for stay, transit in zip(stays, [*transits, self._transit()], strict=True):
            visits += [each.later(start) for each in stay]
            start += _length(stay) + transit
        return [each for each in visits + self._more(start, first) if self._is_filmed(each)]

    def _more(self, start: int, first: int) -> list[Visit]:
        visits: list[Visit] = []
        at = first
        while start < self._config.num_frames:
            stay = self._stay(at % len(self._seen))
            visits += [each.later(start) for each in stay]
            start += _length(stay) + self._transit()
            at += 1
        return visits

    def _is_filmed(self, visit: Visit) -> bool:
        return visit.end_frame > 0 and visit.first_frame < self._config.num_frames

    def _transit(self) -> int:
        return round(self._rng.uniform(*self._config.transit_s) * self._config.fps)

    def _stay(self, place: int) -> list[Visit]:
        """One walk through a place, from frame 0 on."""
        route = draw_route(*self._seen[place], self._rng)
        length_m = Path2D.through(route).length_m
        stop_at = self._rng.uniform(0.35, 0.65) * length_m / self._speed
        stop_s = self._rng.uniform(*_STOP_S) if self._rng.random() < self._config.stops else None
        sides = [0.0] if len(self._group) == 1 else [_SIDE_BY_SIDE_M / 2, -_SIDE_BY_SIDE_M / 2]
        return [
            Visit(
                member, place, 0, self._walk(at, place, beside(route, sides[at]), stop_at, stop_s)
            )
            for at, member in enumerate(self._group)
        ]

    def _walk(
        self,
        at: int,
        place: int,
        route: NDArray[np.float64],
        stop_at: float,
        stop_s: float | None,
    ) -> Motion:
        extra, is_alone = self._extras[at], len(self._group) == 1
        usual = self._speed / extra.speed_m_s
        pace = Pace(share=(usual,))
        if stop_s is not None:
            times = np.cumsum([stop_at, _RAMP_S, stop_s, _RAMP_S])
            pace = Pace(tuple(times.tolist()), (usual, 0.0, 0.0, usual))
        path = Path2D.through(route).paced(pace)
        longest_s = path.length_m / self._speed * _ALLOWANCE + (stop_s or 0.0) + 2 * _RAMP_S
        motion = walk(
            extra.person.style,
            leg_length_m=extra.leg_length_m,
            time_s=np.arange(int(longest_s * self._config.fps) + 2) / self._config.fps,
            rng=self._rng,
            path=path,
            arms=extra.outfits[place].dressed.arms,
            variation=Variation() if is_alone else _IN_STEP,
        )
        return _until_end(motion, path)


def _length(stay: Sequence[Visit]) -> int:
    return max(len(each.motion.position) for each in stay)


def _until_end(motion: Motion, path: Path2D) -> Motion:
    """Cut a walk where it passes the end of its way."""
    end = path.points[-1]
    ahead = end - path.points[-2]
    passed = ((motion.position - end) @ ahead > 0) & (
        np.linalg.norm(motion.position - end, axis=1) < _END_M
    )
    stop = int(np.argmax(passed)) + 1 if passed.any() else len(passed)
    return Motion(
        motion.time_s[:stop], motion.rotations[:stop], motion.position[:stop], motion.heading[:stop]
    )


def _crowding(tried: Sequence[Visit], placed: Sequence[Visit]) -> float:
    """How deep people of one group would walk into people of others, metres."""
    cost = 0.0
    for one in tried:
        for other in placed:
            if one.place == other.place:
                cost += max(0.0, _GAP_M - _nearest(one, other))
    return cost


def _nearest(one: Visit, other: Visit) -> float:
    """The least distance of two people while both walk, metres."""
    start = max(one.first_frame, other.first_frame)
    end = min(one.end_frame, other.end_frame)
    if start >= end:
        return np.inf
    places: list[NDArray[np.float32]] = [
        each.motion.position[start - each.first_frame : end - each.first_frame]
        for each in (one, other)
    ]
    return float(np.linalg.norm(places[0] - places[1], axis=1).min())
