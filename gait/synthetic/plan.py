"""What a synthetic data set will hold, walk by walk, before anything is drawn.

    recipe  --plan-->  Plan: people, their walks, the cameras that see each  --film-->  silhouettes

A plan is plain data that follows from the recipe's numbers alone. Each walk carries its own seed,
so it looks the same whoever films it, in whatever order, and however many others there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gait.data.dataset import SequenceKey
from gait.synthetic.outfit import Condition


class Manner(StrEnum):
    """How a walk goes."""

    STRAIGHT = "straight"
    """One line at one speed, as in a laboratory."""
    WANDERING = "wandering"
    """A slowly bending path."""
    TURN = "turn"
    """A corner."""
    STOP_AND_GO = "stop_and_go"
    """Slows down, stands, goes on."""


class Occluder(StrEnum):
    """What stands between camera and person for part of the walk."""

    POST = "post"
    """Something narrow and high that the person passes behind."""
    LOW = "low"
    """A bench, car or hedge that hides the feet for a while."""
    PASSER_BY = "passer_by"
    """Somebody who crosses nearer to the camera."""


@dataclass(frozen=True, slots=True)
class Band:
    """A patch of views.

    Azimuths are folded to 0..90 degrees from the line of walking: seen from afar, the silhouette
    from the left mirrors that from the right, and from behind that from the front.

    Attributes:
        azimuth: Lowest and highest folded azimuth, degrees.
        pitch: Lowest and highest angle the camera looks down by, degrees.
    """

    azimuth: tuple[float, float]
    pitch: tuple[float, float]

    def holds(self, azimuth: float, pitch: float) -> bool:
        """Whether a view lies in the band; `azimuth` is any angle in degrees."""
        folded = abs((azimuth + 90.0) % 180.0 - 90.0)
        return (
            self.azimuth[0] <= folded <= self.azimuth[1] and self.pitch[0] <= pitch <= self.pitch[1]
        )


@dataclass(frozen=True, slots=True)
class View:
    """One camera's view of a walk.

    Attributes:
        key: Name of the sequence it becomes.
        azimuth: Where the camera stands, seen from the person at the middle of the walk: 0 is
            ahead, 90 to the left, 180 behind, degrees.
        pitch: How far it looks down, degrees.
        distance_m: How far away it is then.
        height_px: How tall the person appears then.
        seed: Of all that happens in this camera: noise, occluders, lost frames.
        occluder: What comes between, or None.
        noise: Strength of what the segmenter does to the masks; 0 leaves them exact.
        drop: Share of the frames that are lost.
        avoided: Frames whose view lies in it are left out; None for none.
    """

    key: SequenceKey
    azimuth: float
    pitch: float
    distance_m: float
    height_px: float
    seed: tuple[int, ...]
    occluder: Occluder | None = None
    noise: float = 0.0
    drop: float = 0.0
    avoided: Band | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk of one person, seen by one or more cameras at the same time.

    Attributes:
        session: Clothes are the same within a session.
        condition: What the person wears or carries beside everyday clothes.
        manner: How the walk goes.
        fps: Frames a second.
        num_frames: Frames filmed, those lost later included.
        seed: Of the walk itself.
        views: The cameras.
    """

    session: int
    condition: Condition
    manner: Manner
    fps: float
    num_frames: int
    seed: tuple[int, ...]
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A person of the data set and their walks.

    Attributes:
        name: As in the data set.
        index: Which person of `gait.synthetic.walkers.person`.
        walks: What they do.
    """

    name: str
    index: int
    walks: tuple[Walk, ...]

    @property
    def keys(self) -> tuple[SequenceKey, ...]:
        """The sequences of this person, in the order they are filmed."""
        return tuple(view.key for walk in self.walks for view in walk.views)


@dataclass(frozen=True, slots=True)
class Plan:
    """A data set to be.

    Attributes:
        seed: Of the people.
        subjects: In the order of their names.
        partitions: Content of each partition file, by file name.
    """

    seed: int
    subjects: tuple[Subject, ...]
    partitions: Mapping[str, Mapping[str, list[str]]]

    @property
    def keys(self) -> list[SequenceKey]:
        """All sequences, subject by subject."""
        return [key for subject in self.subjects for key in subject.keys]
