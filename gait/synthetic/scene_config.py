"""What scene to draw."""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import Field, ValidationInfo, field_validator

from gait.strict import StrictModel

FIRST_PERSON = 900_000
"""Walkers from here on are in no training set."""


class Layout(StrEnum):
    """What the cameras see of each other."""

    OVERLAP = "overlap"
    """All look at one place, from different sides."""
    APART = "apart"
    """Each looks at a place of its own; people walk from one to another."""


class Colours(StrEnum):
    """How much clothes tell people apart."""

    DISTINCT = "distinct"
    """Everybody wears colours of their own, the same on every camera."""
    ALIKE = "alike"
    """Everybody wears nearly the same."""
    CHANGING = "changing"
    """Everybody wears other colours in every place."""


class SceneConfig(StrictModel):
    """What scene to draw.

    Attributes:
        seed: Of everything. Another one gives other places, people, clothes and ways.
        people: How many people there are. More meet and hide one another more often.
        cameras: How many cameras there are.
        layout: Whether the cameras look at one place or each at its own.
        duration_s: Of the videos, seconds.
        fps: Frames a second. Higher moves more smoothly, at the price of time and disk.
        width: Of the videos, pixels.
        height: Of the videos, pixels. Larger pictures show a wider view and larger people.
        colours: How much clothes tell people apart.
        first_person: Index of the first person among all that can be drawn. People of the training
            sets have lower ones.
        pairs: Share of the people who walk in twos, 0..1. Higher hides people longer, since the
            two stay side by side.
        stops: Share of the visits in which somebody stops on the way, 0..1. Higher leaves less
            walking to see.
        luggage: Share of the people with a bag, a back-pack or a coat, 0..1. Higher hides more of
            the body's shape.
        transit_s: Shortest and longest time out of every view between two visits, seconds. Longer
            ones make people harder to follow by time alone.
        furnished: Whether lamps, benches and the like stand in the places and hide people. Not for
            backgrounds from a file.
    """

    seed: int = Field(default=0, ge=0)
    people: int = Field(default=10, ge=1, le=64)
    cameras: int = Field(default=2, ge=1, le=8)
    layout: Layout = Layout.OVERLAP
    duration_s: float = Field(default=20.0, gt=0, le=3600)
    fps: float = Field(default=15.0, ge=1, le=60, validate_default=True)
    width: int = Field(default=640, ge=160, le=3840, multiple_of=2)
    height: int = Field(default=480, ge=120, le=2160, multiple_of=2)
    colours: Colours = Colours.DISTINCT
    first_person: int = Field(default=FIRST_PERSON, ge=0)
    pairs: float = Field(default=0.2, ge=0, le=1)
    stops: float = Field(default=0.2, ge=0, le=1)
    luggage: float = Field(default=0.4, ge=0, le=1)
    transit_s: tuple[float, float] = (5.0, 25.0)
    furnished: bool = True

    @field_validator("fps")
    @classmethod
    def _has_frames(cls, fps: float, info: ValidationInfo) -> float:
        duration_s = info.data.get("duration_s", 1.0)
        if round(duration_s * fps) < 1:
            raise ValueError(f"expected at least one frame in {duration_s} s")
        return fps

    @field_validator("colours")
    @classmethod
    def _can_be_seen(cls, colours: Colours, info: ValidationInfo) -> Colours:
        if colours is Colours.CHANGING and info.data.get("layout") is Layout.OVERLAP:
            raise ValueError(
                "expected distinct or alike, since cameras that see one place see the same "
                "clothes; choose layout apart for changing ones"
            )
        return colours

    @field_validator("transit_s")
    @classmethod
    def _is_range(cls, transit_s: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= transit_s[0] <= transit_s[1] < math.inf:
            raise ValueError("expected the shortest and the longest time, not below 0")
        return transit_s

    @property
    def num_frames(self) -> int:
        """Frames of each video."""
        return round(self.duration_s * self.fps)
