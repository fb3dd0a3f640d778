"""What all trackers that are written here share: a table of tracks, and a frame's way through it.

    a frame:  age -> predict -> match -> correct -> begin -> confirm -> report

SORT, ByteTrack, OC-SORT and BoT-SORT differ in the coordinates of their filter, in how they match,
and in what they remember of a track; their files say only that. Nothing loops over tracks: a table
holds an array a quantity, one row a track.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackers.association import UNMATCHED, Matching, expand, iou_matrix
from trackers.boxes import (
    Detections,
    Tracks,
    check_fractions,
    check_numbers,
    check_seconds,
    pick_masks,
)
from trackers.kalman import BoxFilter, BoxStates, Coordinates
from trackers.saved import Column, checked, demand, saved

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_ID = 0  # of a track that is not confirmed yet; ids begin at 1
_ROUNDING_S = 1e-6  # ten intervals of 0.1 s are a second


@dataclass(frozen=True, slots=True, eq=False)
class TrackTable:
    """All tracks, one row each, in the order they were begun.

    Trackers that remember more add columns; all have the tracks along the first axis.

    Attributes:
        states: What the filter knew of each box when it was last seen.
        ids: Shape (N,), `NO_ID` until the track is confirmed.
        hits: Shape (N,): frames seen, counted up to what confirms.
        unseen_s: Shape (N,): seconds since last seen.
    """

    states: BoxStates
    ids: Ints
    hits: Ints
    unseen_s: Floats

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_known(self) -> Bools:
        """Shape (N,): whether a track is confirmed."""
        is_known: Bools = self.ids != NO_ID
        return is_known

    def __getitem__(self, index: Ints | Bools) -> Self:
        return type(self)(*[getattr(self, name)[index] for name in self.__dataclass_fields__])

    def put(self, index: Ints, other: Self) -> Self:
        """Return this table with the rows at `index` replaced by the others."""
        columns: list[Any] = []
        for name in self.__dataclass_fields__:
            column, new = getattr(self, name), getattr(other, name)
            if isinstance(column, BoxStates):
                columns.append(column.put(index, new))
            else:
                columns.append(column.copy())
                columns[-1][index] = new
        return type(self)(*columns)

    def join(self, other: Self) -> Self:
        """Return these tracks and the others after them."""
        columns: list[Any] = []
        for name in self.__dataclass_fields__:
            column, new = getattr(self, name), getattr(other, name)
            is_states = isinstance(column, BoxStates)
            columns.append(column.join(new) if is_states else np.concatenate([column, new]))
        return type(self)(*columns)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name."""
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**columns, "states": self.states.values}

    def columns(self) -> dict[str, Column]:
        """Return the type and shape of the columns by name; call it on a table without tracks."""
        shapes: dict[str, Column] = {}
        for name, array in self.arrays().items():
            # Features have as many numbers as there are; nothing else has none at first.
            shapes[name] = (array.dtype, ("N", *(size or "D" for size in array.shape[1:])))
        return {**shapes, "states": (np.float64, (5, "N", 4))}


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The detections of one frame, in an order that does not depend on the one they came in.

    Attributes:
        xyxy: Shape (M, 4).
        wide: Shape (M, 4): the boxes with the margin that overlaps are measured with.
        confidence: Shape (M,).
        features: Shape (M, D) when there are any.
        order: Shape (M,): the row of `Detections` each came from.
        interval_s: Seconds since the previous frame.
    """

    xyxy: Floats
    wide: Floats
    confidence: Floats
    features: NDArray[np.float32] | None
    order: Ints
    interval_s: float


T = TypeVar("T", bound=TrackTable)


@dataclass(kw_only=True, eq=False)
class TableTracker(ABC, Generic[T]):
    """A tracker whose tracks are the rows of a table.

    Only people seen in this frame are reported, with the very box of their detection: the filter's
    own would lag behind it. Ids begin at 1, rise, and are never reused. Memory depends on how many
    people were seen in the last `lost_s` seconds and never on how long the tracker runs; the same
    detections give the same tracks, in any order.

    Attributes:
        max_newcomer_overlap: A detection that is nobody's and overlaps a person matched in this
            frame by more (plain IoU) begins no track: it is mostly a second box of theirs. Higher
            finds people in dense groups, at the price of double tracks; 1 is the papers.
        box_margin: Boxes are widened by this fraction of their size on each side before overlaps
            are measured. Higher keeps small, fast or badly boxed people, at the price of more
            switches between neighbours; 0 is the papers.
        lost_s: Seconds a person may be out of sight and keep their id; at least the interval
            between two frames, for where the next frame comes later, everybody in it is somebody
            new. Higher bridges longer occlusions, at the price of giving the id to somebody else
            who comes by.
        confirm_frames: Frames in a row a new track must be seen before it is reported. Higher
            keeps out short false tracks, at the price of a late start and lost passers-by.
        box_noise: Standard deviation of the detector's boxes, as a fraction of their size. Higher
            smooths a jumping detector, at the price of predictions that lag behind people who turn.
            The papers' is 1/20.
        position_noise: Motion that a constant velocity misses in 1/25 s, as a fraction of the
            size. Higher believes the last box more, at the price of predictions that jump with it.
            The papers' is 1/20.
        velocity_noise: Change of velocity in 1/25 s, as a fraction of the size per 1/25 s. Higher
            follows people who stop and turn, at the price of wilder guesses while hidden. The
            papers' is 1/160.

    Raises:
        ValueError: A parameter is out of its range.
    """

    max_newcomer_overlap: float = 0.4
    box_margin: float = 0.05
    lost_s: float = 1.5
    confirm_frames: int = 3
    box_noise: float = 1 / 20
    position_noise: float = 1 / 100
    velocity_noise: float = 1 / 800

    _coordinates: ClassVar[Coordinates]

    def __post_init__(self) -> None:
        check_fractions(max_newcomer_overlap=self.max_newcomer_overlap)
        check_numbers(box_margin=self.box_margin)
        check_seconds("lost_s", self.lost_s)
        if self.confirm_frames < 1:
            raise ValueError(f"confirm_frames: expected at least 1, got {self.confirm_frames}")
        self._filter = BoxFilter(
            self._coordinates,
            box_noise=self.box_noise,
            position_noise=self.position_noise,
            velocity_noise=self.velocity_noise,
        )
        self._table = self._nobody()
        self._next_id = 1

    def update(self, detections: Detections, *, interval_s: float) -> Tracks:
        """Return who is where in this frame.

        Args:
            detections: The people found in this frame, in any order.
            interval_s: Seconds since the previous frame; more than usual when frames were lost.
                The first frame's does not matter.

        Raises:
            ValueError: Bad detections, or an interval that is negative or no number. The tracker
                is unchanged.
        """
        scene = self._scene(detections, interval_s)
        known, ended = self._aged(scene)
        if detections.camera_motion is not None and len(known):
            known = self._move_camera(known, detections.camera_motion)
        predicted = self._filter.predict(known.states, known.unseen_s)
        matching = Matching(len(known), len(scene.xyxy))
        if len(known) and len(scene.xyxy):
            wide = expand(self._filter.xyxy(predicted), self.box_margin)
            self._match(matching, known, wide, scene)
        table, detection_of = self._followed(known, predicted, matching, scene)
        table, next_id = self._confirmed(table)

        is_seen = detection_of != UNMATCHED
        rows = np.flatnonzero(is_seen & table.is_known)
        tracks = self._report(detections, table[rows], scene.order[detection_of[rows]], ended)
        is_kept = is_seen | table.is_known
        self._table, self._next_id = table if is_kept.all() else table[is_kept], next_id
        return tracks

    def finish(self) -> tuple[int, ...]:
        """End every track still open and return their ids; the stream is over."""
        ids = self._table.ids[self._table.is_known]
        self._table = self._nobody()
        return tuple(ids.tolist())

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything it knows as plain arrays, such as `numpy.savez(file, **state)` takes.

        Parameters are not part of it.
        """
        return saved(self, {**self._table.arrays(), "next_id": np.array(self._next_id)})

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from where `state` was taken.

        Raises:
            ValueError: It is not the state of such a tracker. This one is unchanged.
        """
        nobody = self._nobody()
        columns = checked(self, state, {**nobody.columns(), "next_id": (np.int64, ())})
        next_id = int(columns.pop("next_id"))
        table = type(nobody)(**{**columns, "states": BoxStates(columns["states"])})
        _demand_sense(table, next_id)
        self._table, self._next_id = table, next_id

    @property
    @abstractmethod
    def _newcomers_from(self) -> float:
        """Confidence a new track needs."""

    @abstractmethod
    def _match(self, matching: Matching, known: T, wide: Floats, scene: Scene) -> None:
        """Find who is which detection. `wide`: the predicted boxes, with the margin."""

    @abstractmethod
    def _begin(self, scene: Scene, rows: Ints) -> T:
        """Return new tracks for the detections at `rows`."""

    def _seen(self, known: T, predicted: BoxStates, scene: Scene, rows: Ints) -> T:
        """Return tracks that were seen as the detections at `rows`."""
        return replace(
            known,
            states=self._filter.correct(predicted, scene.xyxy[rows]),
            hits=np.minimum(known.hits + 1, self.confirm_frames),
            unseen_s=np.zeros(len(rows)),
        )

    def _move_camera(self, known: T, motion: Floats) -> T:
        return replace(known, states=self._filter.move_camera(known.states, motion))

    def _nobody(self) -> T:
        none = np.empty(0, dtype=np.int64)
        features = np.empty((0, 0), dtype=np.float32)
        return self._begin(
            Scene(np.empty((0, 4)), np.empty((0, 4)), np.empty(0), features, none, 0.0), none
        )

    def _new_columns(self, scene: Scene, rows: Ints) -> tuple[BoxStates, Ints, Ints, Floats]:
        """Return the columns that every table begins with, for new tracks."""
        n = len(rows)
        ids, hits = np.full(n, NO_ID), np.ones(n, dtype=np.int64)
        return self._filter.start(scene.xyxy[rows]), ids, hits, np.zeros(n)

    def _scene(self, detections: Detections, interval_s: float) -> Scene:
        check_seconds("interval_s", interval_s)
        detections.check()
        order = np.lexsort((*detections.xyxy.T, -detections.confidence)).astype(np.int64)
        xyxy = detections.xyxy[order].astype(np.float64)
        features = detections.features
        return Scene(
            xyxy,
            expand(xyxy, self.box_margin),
            detections.confidence[order].astype(np.float64),
            None if features is None or not features.size else features[order],
            order,
            interval_s,
        )

    def _aged(self, scene: Scene) -> tuple[T, tuple[int, ...]]:
        """Return the tracks at the frame's time, and the ids of those out of sight for too long."""
        table = self._table
        unseen_s = table.unseen_s + scene.interval_s
        is_alive = unseen_s <= self.lost_s + _ROUNDING_S
        aged = replace(table, unseen_s=unseen_s)
        if is_alive.all():
            return aged, ()
        return aged[is_alive], tuple(table.ids[table.is_known & ~is_alive].tolist())

    def _followed(
        self, known: T, predicted: BoxStates, matching: Matching, scene: Scene
    ) -> tuple[T, Ints]:
        """Return old and new tracks, those seen moved to their detections, and which those are."""
        rows = np.flatnonzero(matching.detection_of != UNMATCHED)
        if len(rows):
            seen_as = matching.detection_of[rows]
            known = known.put(rows, self._seen(known[rows], predicted[rows], scene, seen_as))
        rows = np.flatnonzero(matching.detection_of == UNMATCHED)
        if len(rows):
            # Who disappears behind somebody is boxed smaller and smaller, and stays as tall.
            lost = known[rows]
            known = known.put(rows, replace(lost, states=lost.states.keeping_size()))
        newcomers = self._newcomers(matching, scene)
        if not len(newcomers):
            return known, matching.detection_of
        begun = self._begin(scene, newcomers)
        return known.join(begun), np.concatenate([matching.detection_of, newcomers])

    def _newcomers(self, matching: Matching, scene: Scene) -> Ints:
        """Return the detections that begin a track."""
        free = np.flatnonzero(~matching.is_taken & (scene.confidence >= self._newcomers_from))
        if not len(free):
            return free
        overlap = iou_matrix(scene.xyxy[free], scene.xyxy[matching.is_taken])
        newcomers: Ints = free[overlap.max(axis=1, initial=0.0) <= self.max_newcomer_overlap]
        return newcomers

    def _confirmed(self, table: T) -> tuple[T, int]:
        """Return the tracks with ids for those now seen often enough, and the next free id."""
        rows = np.flatnonzero(~table.is_known & (table.hits >= self.confirm_frames))
        if not len(rows):
            return table, self._next_id
        ids = table.ids.copy()
        ids[rows] = self._next_id + np.arange(len(rows))
        return replace(table, ids=ids), self._next_id + len(rows)

    def _report(
        self, detections: Detections, seen: T, indices: Ints, ended: tuple[int, ...]
    ) -> Tracks:
        return Tracks(
            track_ids=seen.ids,
            xyxy=detections.xyxy[indices],
            confidence=detections.confidence[indices],
            detection_indices=indices,
            ended=ended,
            masks=pick_masks(detections.masks, indices.tolist()),
        )


def _demand_sense(table: TrackTable, next_id: int) -> None:
    """Refuse a table that no run could have led to.

    Raises:
        ValueError: Naming the column.
    """
    ids = table.ids[table.is_known]
    demand(
        {
            "ids: expected different ids of at least 0": len(np.unique(ids)) == len(ids)
            and (ids > 0).all(),
            "next_id: expected every id to be below it": (ids < next_id).all() and next_id > 0,
            "hits: expected at least 1": (table.hits >= 1).all(),
            "unseen_s: expected at least 0": (table.unseen_s >= 0).all(),
            "states: expected variances of at least 0": (table.states.values[[2, 4]] >= 0).all(),
        }
    )
