"""What the place in one camera's picture says of whether two tracks are one person.

Somebody who was lost to sight for a few seconds goes on about where and as he went. So the later
track is expected where the earlier one's last place leads with the mean of both speeds, and how far
off it is, in heights of the person, is e. With a gap of t seconds and s = 0.1 + 0.12 t,

    log odds = log( 1 - m + m * 20 / (2 pi s^2) / (1 + e^2 / (2 s^2))^2 ),    m = 0.9 exp(-t / 20)

m is the share of those who are found again whom this describes: the longer the gap, the rather
somebody turned, or left and came back, and then the place says nothing. 20 squares of a person's
height is the part of the picture in which everybody else may be. docs/association.md has the
figures that the numbers were chosen by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gait.tracklet import Box, Tracklet

_SPREAD, _SPREAD_PER_S = 0.1, 0.12
_DESCRIBED, _FADING_S = 0.9, 20.0
_AREA = 20.0
_SHORTEST_S = 0.3  # of which a speed is taken
_LONGEST_S = 300.0  # from then on, nothing is said
_FARTHEST = 1e6


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the picture somebody was, and how they went there.

    Attributes:
        time_s: When, on the stream's clock.
        x: Of the feet, in pixels from the left.
        y: Of the feet, in pixels from the top.
        height: Of the person, in pixels.
        speed: To the right and down, in pixels a second.
    """

    time_s: float
    x: float
    y: float
    height: float
    speed: tuple[float, float]


def places(tracklet: Tracklet) -> tuple[Place, Place] | None:
    """Return where its person was at first and at last; None where nobody knows."""
    if tracklet.boxes is None or not len(tracklet):
        return None
    if any(abs(edge) > _FARTHEST for box in tracklet.boxes for edge in box):
        return None  # in no picture
    times_s = float(tracklet.times_s[0]), float(tracklet.times_s[-1])
    (x, y, height), (last_x, last_y, last_height) = map(_feet, tracklet.boxes)
    lasted_s = times_s[1] - times_s[0]
    is_short = lasted_s < _SHORTEST_S
    speed = (0.0, 0.0) if is_short else ((last_x - x) / lasted_s, (last_y - y) / lasted_s)
    return (
        Place(times_s[0], x, y, height, speed),
        Place(times_s[1], last_x, last_y, last_height, speed),
    )


def log_odds(left: Place, came: Place, gap_s: float) -> float:
    """Return what two places say of whether those who were there are one person.

    Args:
        left: Where the earlier track ended.
        came: Where the later one began.
        gap_s: After how long; they say nothing when that is negative.
    """
    if not 0 <= gap_s < _LONGEST_S:
        return 0.0
    off_x, off_y = (
        end - begin - gap_s * (one + other) / 2
        for begin, end, one, other in zip(
            (left.x, left.y), (came.x, came.y), left.speed, came.speed, strict=True
        )
    )
    twice = 2 * (_SPREAD + _SPREAD_PER_S * gap_s) ** 2
    off = (off_x**2 + off_y**2) / (left.height * came.height)
    density = 1 / (math.pi * twice * (1 + off / twice) ** 2)
    described = _DESCRIBED * math.exp(-gap_s / _FADING_S)
    return math.log(1 - described + described * _AREA * density)


def _feet(box: Box) -> tuple[float, float, float]:
    left, top, right, bottom = box
    return (left + right) / 2, bottom, max(1.0, bottom - top)
