"""The two data sets that can be made, and what can be said about each."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gait.strict import StrictModel
from gait.synthetic.lab import MAX_PEOPLE, plan_lab
from gait.synthetic.outfit import Condition
from gait.synthetic.plan import Band, Plan
from gait.synthetic.wild import WildRanges, plan_wild

_Probability = Annotated[float, Field(ge=0.0, le=1.0)]
_Range = Annotated[tuple[float, float], Field(strict=False)]  # YAML has lists
_Condition = Annotated[Condition, Field(strict=False)]
_Seed = Annotated[int, Field(ge=0, lt=2**63)]

_LAB_NOISE = 0.3
_WIDEST_UNSEEN = 60.0
_USUAL = {
    Condition.NORMAL: 0.45,
    Condition.BAG: 0.17,
    Condition.COAT: 0.13,
    Condition.BACKPACK: 0.08,
    Condition.HAT: 0.07,
    Condition.BOX: 0.04,
    Condition.UMBRELLA: 0.03,
    Condition.TROLLEY: 0.03,
}


class LabRecipe(StrictModel):
    """SynthGait-Lab: eleven views of straight walks, numbered as CASIA-B.

    Attributes:
        seed: All follows from it.
        people: How many; 74 of 124 train, as in CASIA-B. More give steadier figures, at the price
            of time.
        frames: Of each walk, at 25 a second. More show more of the gait, at the price of time.
        noise: Whether masks are a little as a segmenter makes them. Without it they are exact and
            easier.
        pitch: How far the cameras look down, degrees. Higher shortens the legs.
        height_px: How tall people appear. Lower is blurred when it becomes 64 rows.
    """

    kind: Literal["lab"] = "lab"
    seed: _Seed = 0
    people: int = Field(default=MAX_PEOPLE, ge=2, le=MAX_PEOPLE)
    frames: int = Field(default=50, ge=1, le=1000)
    noise: bool = False
    pitch: float = Field(default=4.0, ge=0.0, le=40.0)
    height_px: float = Field(default=120.0, ge=40.0, le=400.0)

    def plan(self) -> Plan:
        """Return what will be filmed."""
        return plan_lab(
            self.seed,
            self.people,
            num_frames=self.frames,
            noise=_LAB_NOISE if self.noise else 0.0,
            pitch=self.pitch,
            height_px=self.height_px,
        )


class WildRecipe(StrictModel):
    """SynthGait-Wild: any path, view, distance and load, seen as a surveillance camera would.

    Attributes:
        seed: All follows from it.
        people: How many train. More make a better encoder, at the price of time.
        test_people: How many test; others than those who train, whatever their number.
        sequences: Walks of each. More show each person in more ways, at the price of time.
        frames: The longest walk; the shortest is half of it.
        noise: Whether masks are as a segmenter makes them. Without it they are exact, and what is
            trained on them is lost on real ones.
        noise_strength: Weakest and strongest noise of a walk, 1 as it was learnt. Higher makes the
            encoder hardier, at the price of detail it could have used.
        sessions: Sets of clothes a person is seen in. More let an encoder rely on clothes less.
        pitch: Lowest and highest angle the cameras look down by, degrees.
        height_px: Smallest and largest height of a person in the picture.
        fps: Frame rates of the cameras.
        occlusion: Share of the walks in which something stands between. Higher is harder.
        drop: Largest share of the frames that are lost. Higher makes the rhythm less even.
        conditions: How often each is worn or carried; they need not sum to 1.
        unseen_azimuth: Folded azimuths (0 ahead or behind, 90 from the side) of the views held out
            of training.
        unseen_pitch: Pitches of the views held out of training; where azimuth and pitch both are
            in range, no frame is trained with.
    """

    kind: Literal["wild"] = "wild"
    seed: _Seed = 0
    people: int = Field(default=1000, ge=1, le=100_000)
    test_people: int = Field(default=200, ge=1, le=100_000)
    sequences: int = Field(default=12, ge=2, le=999)
    frames: int = Field(default=48, ge=1, le=1000)
    noise: bool = True
    noise_strength: _Range = (0.1, 1.0)
    sessions: int = Field(default=3, ge=1, le=99)
    pitch: _Range = (0.0, 40.0)
    height_px: _Range = (40.0, 200.0)
    fps: Annotated[tuple[float, ...], Field(strict=False)] = (10.0, 12.5, 15.0, 20.0, 25.0, 30.0)
    occlusion: _Probability = 0.2
    drop: float = Field(default=0.15, ge=0.0, le=0.9)
    conditions: dict[_Condition, float] = Field(default_factory=lambda: dict(_USUAL))
    unseen_azimuth: _Range = (35.0, 60.0)
    unseen_pitch: _Range = (6.0, 14.0)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        _check_range("pitch", self.pitch, 0.0, 40.0)
        _check_range("height_px", self.height_px, 40.0, 400.0)
        _check_range("noise_strength", self.noise_strength, 0.0, 5.0)
        _check_range("unseen_azimuth", self.unseen_azimuth, 0.0, 90.0)
        _check_range("unseen_pitch", self.unseen_pitch, 0.0, 40.0)
        if self.unseen_azimuth[1] - self.unseen_azimuth[0] > _WIDEST_UNSEEN:
            raise ValueError(
                f"unseen_azimuth: expected at most {_WIDEST_UNSEEN:g} degrees from one to the "
                f"other, got {list(self.unseen_azimuth)}; training needs the rest"
            )
        if not self.fps or not all(5.0 <= each <= 60.0 for each in self.fps):
            raise ValueError(f"fps: expected rates of 5 to 60 a second, got {list(self.fps)}")
        weights = self.conditions.values()
        if any(weight < 0 for weight in weights) or not 0 < sum(weights) < math.inf:
            raise ValueError("conditions: expected weights of 0 or more, one of them above 0")
        return self

    def plan(self) -> Plan:
        """Return what will be filmed."""
        ranges = WildRanges(
            num_sequences=self.sequences,
            num_frames=self.frames,
            num_sessions=self.sessions,
            pitch=self.pitch,
            height_px=self.height_px,
            fps=self.fps,
            occlusion=self.occlusion,
            drop=self.drop,
            conditions=self.conditions,
            noise=self.noise_strength if self.noise else (0.0, 0.0),
            unseen=Band(self.unseen_azimuth, self.unseen_pitch),
        )
        return plan_wild(self.seed, self.people, self.test_people, ranges)


RECIPES: dict[str, type[LabRecipe] | type[WildRecipe]] = {"wild": WildRecipe, "lab": LabRecipe}


def _check_range(name: str, bounds: tuple[float, float], lowest: float, highest: float) -> None:
    if not lowest <= bounds[0] <= bounds[1] <= highest:
        raise ValueError(
            f"{name}: expected a range within {lowest:g} to {highest:g}, got {list(bounds)}"
        )
