"""How well people were followed: HOTA, CLEAR, Identity, and what gait needs beyond them.

    tally = score(truth, found, num_frames=len(frames), fps=25.0)
    print(tally.hota, tally.idf1, tally.switches, tally.pure_share(4.0))
    both = tally + score(...)                     # of two recordings together

HOTA follows Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking"
(IJCV 2021), CLEAR Bernardin and Stiefelhagen (2008) as MOTChallenge counts it, Identity Ristani et
al. (2016). `make bench-trackers` holds them against TrackEval's own figures: they are the same to
nine digits. TrackEval is no dependency, because it brings opencv-python, which overwrites the
opencv-python-headless that everything here runs on.

Legend: A thresholds, G true people, T tracks, K pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.evaluation.tracking_folder import MotBoxes, Truth
from trackers.association import iou_matrix

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""Overlaps at which HOTA is measured; it is the mean over them."""

MIN_IOU = 0.5
"""Overlap of one person, for CLEAR, Identity and purity."""

MIN_PURITY = 0.95
"""Share of a track's boxes on people that must be on one person for it to be that person's."""

USABLE_S = 2.0
"""Seconds in one pure track from which a walk is worth comparing: about two strides."""

USABLE_VISIBLE = 0.7
"""Share of a person that must be visible for his silhouette to be of use."""

CURVE_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Lengths at which the purity-length curve is printed."""

_EPS = float(np.finfo(np.float64).eps)


def _zeros() -> Floats:
    return np.zeros(len(ALPHAS))


def _none() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What was counted; the scores are properties, so that recordings add up before they are taken.

    Attributes:
        hota_tp: Shape (A,): pairs that overlap enough.
        association: Shape (A,): AssA of these pairs, summed.
        overlap: Shape (A,): IoU of these pairs, summed.
        true_boxes: Boxes of people who count.
        found_boxes: Boxes of tracks.
        matched: CLEAR's pairs.
        switches: How often a person's track became another one.
        fragments: How often a person was found again after he was not.
        id_matched: Identity's pairs.
        on_own: Boxes of tracks on the person each mostly follows.
        frames: How many there were.
        people: True tracks.
        tracks: Tracks found.
        person_s: Seconds somebody was there, summed over people.
        usable_s: Seconds somebody was visible enough and in a pure track that is long enough.
        visible_s: Seconds somebody was visible enough: what could be usable at best.
        pure_s: Shape (K,): seconds each track of one person was on that person.
    """

    hota_tp: Floats = field(default_factory=_zeros)
    association: Floats = field(default_factory=_zeros)
    overlap: Floats = field(default_factory=_zeros)
    true_boxes: int = 0
    found_boxes: int = 0
    matched: int = 0
    switches: int = 0
    fragments: int = 0
    id_matched: int = 0
    on_own: int = 0
    frames: int = 0
    people: int = 0
    tracks: int = 0
    person_s: float = 0.0
    usable_s: float = 0.0
    visible_s: float = 0.0
    pure_s: Floats = field(default_factory=_none)

    def __add__(self, other: Self) -> Self:
        sums = {
            each.name: getattr(self, each.name) + getattr(other, each.name)
            for each in dataclasses.fields(self)
            if each.name != "pure_s"
        }
        return dataclasses.replace(self, **sums, pure_s=np.append(self.pure_s, other.pure_s))

    @property
    def det_a(self) -> float:
        """Detection accuracy: pairs over pairs, misses and false boxes."""
        return float((self.hota_tp / np.maximum(1, self._union(self.hota_tp))).mean())

    @property
    def ass_a(self) -> float:
        """Association accuracy: how much of a pair's person and track the two have in common."""
        return float((self.association / np.maximum(1, self.hota_tp)).mean())

    @property
    def hota(self) -> float:
        """Higher order tracking accuracy: the geometric mean of both, at each threshold."""
        detection = self.hota_tp / np.maximum(1, self._union(self.hota_tp))
        association = self.association / np.maximum(1, self.hota_tp)
        return float(np.sqrt(detection * association).mean())

    @property
    def loc_a(self) -> float:
        """How well the boxes of pairs overlap."""
        return float((np.maximum(1e-10, self.overlap) / np.maximum(1e-10, self.hota_tp)).mean())

    @property
    def mota(self) -> float:
        """1 less the misses, false boxes and switches a true box."""
        errors = self.misses + self.false_boxes + self.switches
        return 1 - errors / self.true_boxes if self.true_boxes else 0.0

    @property
    def misses(self) -> int:
        """True boxes without a track."""
        return self.true_boxes - self.matched

    @property
    def false_boxes(self) -> int:
        """Boxes of tracks on nobody."""
        return self.found_boxes - self.matched

    @property
    def idf1(self) -> float:
        """F1 of boxes when each person has one track at most, chosen best."""
        return 2 * self.id_matched / max(1, self.true_boxes + self.found_boxes)

    @property
    def purity(self) -> float:
        """Share of the matched boxes that are on the person their track mostly follows."""
        return self.on_own / self.matched if self.matched else float("nan")

    @property
    def usable_s_per_person(self) -> float:
        """Seconds of gait a person left to recognise him by."""
        return self.usable_s / self.people if self.people else float("nan")

    def pure_share(self, seconds: float) -> float:
        """Return the share of person-time in tracks of one person of at least so many seconds."""
        long = self.pure_s[self.pure_s >= seconds - 1e-9].sum()
        return float(long / self.person_s) if self.person_s else float("nan")

    def figures(self) -> dict[str, float]:
        """Return every score by name, for JSON."""
        counts = ("switches", "fragments", "misses", "false_boxes", "people", "tracks", "frames")
        scores = ("hota", "det_a", "ass_a", "loc_a", "mota", "idf1", "purity")
        times = ("person_s", "usable_s", "visible_s", "usable_s_per_person")
        named = {name: getattr(self, name) for name in (*scores, *counts, *times)}
        return named | {f"pure_{t:g}s": self.pure_share(t) for t in CURVE_S}

    def _union(self, matched: Floats) -> Floats:
        return self.true_boxes + self.found_boxes - matched


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """Who is where in one frame; numbers count people and tracks from 0."""

    people: Ints
    tracks: Ints
    iou: Floats
    visible: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """CLEAR's pairs, in the order of the frames: shape (K,) each."""

    people: Ints
    tracks: Ints
    visible: Floats


def score(
    truth: Truth,
    found: MotBoxes,
    *,
    num_frames: int,
    fps: float,
    on_frame: Callable[[], None] = lambda: None,
) -> Tally:
    """Return how well people were followed.

    Args:
        truth: Who is where.
        found: The tracks' boxes.
        num_frames: How many frames there are.
        fps: Frames a second.
        on_frame: Called after each frame.
    """
    frames, people, tracks = _frames(truth, found, num_frames, on_frame)
    true_boxes = sum(len(each.people) for each in frames)
    tally = Tally(
        true_boxes=true_boxes,
        found_boxes=sum(len(each.tracks) for each in frames),
        frames=num_frames,
        people=people,
        tracks=tracks,
        person_s=true_boxes / fps,
        visible_s=sum(int((each.visible >= USABLE_VISIBLE).sum()) for each in frames) / fps,
    )
    if not people or not tracks:
        return tally
    tally = _with_hota(tally, frames)
    tally = dataclasses.replace(tally, id_matched=_identity(frames, people, tracks))
    pairs, switches, fragments = _clear(frames, people)
    tally = dataclasses.replace(
        tally, matched=len(pairs.people), switches=switches, fragments=fragments
    )
    return _with_purity(tally, pairs, fps)


def _frames(
    truth: Truth, found: MotBoxes, num_frames: int, on_frame: Callable[[], None]
) -> tuple[list[_Frame], int, int]:
    """Return the frames, and how many people and tracks there are.

    A box that fits somebody who need not be found better than anybody else is left out, as
    MOTChallenge has it for distractors.
    """
    kept = np.ones(len(found), dtype=bool)
    true_rows, found_rows = truth.boxes.by_frame(num_frames), found.by_frame(num_frames)
    overlaps = []
    for rows, columns in zip(true_rows, found_rows, strict=True):
        iou = iou_matrix(truth.boxes.xyxy[rows], found.xyxy[columns])
        if truth.is_ignored[rows].any() and iou.size:
            i, j = _best(np.where(iou >= MIN_IOU - _EPS, iou, 0.0))
            kept[columns.start + j[truth.is_ignored[rows][i]]] = False
        overlaps.append(iou[truth.counts[rows]])
        on_frame()
    people = _counted_up(truth.boxes.ids, truth.counts)
    tracks = _counted_up(found.ids, kept)
    frames = [
        _Frame(
            people[rows][truth.counts[rows]],
            tracks[columns][kept[columns]],
            iou[:, kept[columns]],
            truth.visible[rows][truth.counts[rows]],
        )
        for rows, columns, iou in zip(true_rows, found_rows, overlaps, strict=True)
    ]
    return frames, int(people.max(initial=-1)) + 1, int(tracks.max(initial=-1)) + 1


def _counted_up(ids: Ints, chosen: NDArray[np.bool_]) -> Ints:
    """Return ids counted from 0 where they are chosen, -1 elsewhere."""
    numbers = np.full(len(ids), -1, dtype=np.int64)
    numbers[chosen] = np.unique(ids[chosen], return_inverse=True)[1]
    return numbers


def _best(similarity: Floats) -> tuple[Ints, Ints]:
    """Return the pairs of the assignment with the greatest sum, those above 0."""
    i, j = linear_sum_assignment(similarity, maximize=True)
    is_pair = similarity[i, j] > _EPS
    return i[is_pair].astype(np.int64), j[is_pair].astype(np.int64)


def _boxes_each(numbers: list[Ints], count: int) -> Floats:
    return np.bincount(np.concatenate(numbers), minlength=count).astype(np.float64)


def _with_hota(tally: Tally, frames: list[_Frame]) -> Tally:
    """Return the tally with HOTA's counts: section 4 and appendix of the paper.

    One assignment a frame serves all thresholds: it prefers pairs whose person and track have much
    in common over the whole recording (G x T), and then those that overlap well.
    """
    person_boxes = _boxes_each([each.people for each in frames], tally.people)
    track_boxes = _boxes_each([each.tracks for each in frames], tally.tracks)
    common = np.zeros((tally.people, tally.tracks))
    for each in frames:
        total = each.iou.sum(axis=0) + each.iou.sum(axis=1)[:, None] - each.iou
        share = np.divide(each.iou, total, out=np.zeros_like(total), where=total > _EPS)
        common[each.people[:, None], each.tracks] += share
    alignment = common / (person_boxes[:, None] + track_boxes - common)
    people, tracks, overlaps = [], [], []
    for each in frames:
        i, j = linear_sum_assignment(
            alignment[each.people[:, None], each.tracks] * each.iou, maximize=True
        )
        people.append(each.people[i])
        tracks.append(each.tracks[j])
        overlaps.append(each.iou[i, j])
    overlap = np.concatenate(overlaps)
    pair = np.concatenate(people) * tally.tracks + np.concatenate(tracks)
    tp, association, summed = _zeros(), _zeros(), _zeros()
    for at, alpha in enumerate(ALPHAS):
        is_pair = overlap >= alpha - _EPS
        pairs, counts = np.unique(pair[is_pair], return_counts=True)
        person, track = np.divmod(pairs, tally.tracks)
        union = np.maximum(1, person_boxes[person] + track_boxes[track] - counts)
        tp[at], association[at] = is_pair.sum(), (counts**2 / union).sum()
        summed[at] = overlap[is_pair].sum()
    return dataclasses.replace(tally, hota_tp=tp, association=association, overlap=summed)


def _identity(frames: list[_Frame], people: int, tracks: int) -> int:
    """Return the pairs when each person is given one track at most, so that they are most."""
    touching = np.zeros((people, tracks))
    for each in frames:
        touching[each.people[:, None], each.tracks] += each.iou >= MIN_IOU
    i, j = linear_sum_assignment(touching, maximize=True)
    return int(touching[i, j].sum())


def _clear(frames: list[_Frame], num_people: int) -> tuple[_Pairs, int, int]:
    """Return CLEAR's pairs, switches and fragments.

    A pair of the previous frame stays together while it overlaps enough; the others are matched so
    that the overlaps' sum is greatest.
    """
    last = np.full(num_people, -1, dtype=np.int64)  # track of each person, whenever last seen
    previous = last.copy()  # track in the previous frame with people and tracks
    found_again = np.zeros(num_people, dtype=np.int64)
    switches, pairs = 0, []
    for each in frames:
        if not each.iou.size:
            continue
        stays = (previous[each.people][:, None] == each.tracks) * 1000.0
        i, j = _best(np.where(each.iou >= MIN_IOU - _EPS, each.iou + stays, 0.0))
        people, tracks = each.people[i], each.tracks[j]
        switches += int(((last[people] >= 0) & (last[people] != tracks)).sum())
        found_again[people] += previous[people] < 0
        last[people] = tracks
        previous.fill(-1)
        previous[people] = tracks
        pairs.append((people, tracks, each.visible[i]))
    if not pairs:
        nobody = np.empty(0, dtype=np.int64)
        return _Pairs(nobody, nobody, np.empty(0)), 0, 0
    joined = [np.concatenate(each) for each in zip(*pairs, strict=True)]
    fragments = int(np.maximum(found_again - 1, 0).sum())
    return _Pairs(joined[0], joined[1], joined[2]), switches, fragments


def _with_purity(tally: Tally, pairs: _Pairs, fps: float) -> Tally:
    """Return the tally with what gait needs: long tracks of one person only."""
    if not len(pairs.people):
        return tally
    on = np.zeros((tally.tracks, tally.people), dtype=np.int64)
    np.add.at(on, (pairs.tracks, pairs.people), 1)
    person_of, own, on_people = on.argmax(axis=1), on.max(axis=1), on.sum(axis=1)
    is_pure = (own > 0) & (own >= MIN_PURITY * on_people)
    is_long = is_pure & (own / fps >= USABLE_S - 1e-9)
    is_usable = is_long[pairs.tracks] & (person_of[pairs.tracks] == pairs.people)
    is_usable &= pairs.visible >= USABLE_VISIBLE
    return dataclasses.replace(
        tally,
        on_own=int(own.sum()),
        pure_s=own[is_pure] / fps,
        usable_s=int(is_usable.sum()) / fps,
    )
