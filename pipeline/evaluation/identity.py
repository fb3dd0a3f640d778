"""Who was called whom: IDF1 over cameras, and tracks of one camera found on another.

IDF1 is that of Ristani, Solera, Zou, Cucchiara and Tomasi, "Performance measures and a data set for
multi-target, multi-camera tracking" (ECCV workshops 2016): one assignment of found identities to
true ones over all cameras and frames at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gait.evaluation.ranking import Rows, cmc, retrieval
from pipeline.evaluation.boxes import MIN_IOU, NOBODY, Boxes, touching

NO_BOXES = Boxes.of([])


@dataclass(frozen=True, slots=True)
class IdScore:
    """How well found identities agree with true ones.

    Attributes:
        true_positives: IDTP: found boxes on the person whom their identity is assigned to.
        false_positives: IDFP: all other found boxes.
        false_negatives: IDFN: true boxes that the identity assigned to the person did not find.
    """

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def f1(self) -> float:
        """IDF1 = 2 IDTP / (2 IDTP + IDFP + IDFN); NaN where nobody is and nobody was found."""
        return _share(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )

    @property
    def precision(self) -> float:
        """IDP: share of the found boxes that are right; NaN when none was found."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """IDR: share of the true boxes that are right; NaN when there are none."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)


def id_score(
    truth: Mapping[str, Boxes], found: Mapping[str, Boxes], min_iou: float = MIN_IOU
) -> IdScore:
    """Return how well identities agree over all cameras.

    Args:
        truth: Camera to who is where; `who` is the same for one person on all cameras.
        found: The same as found. A box of nobody ("") is no claim and is left out: it costs recall
            and not precision.
        min_iou: Overlap from which a found box is on a person.
    """
    shared: dict[tuple[str, str], int] = {}
    num_true = sum(len(boxes) for boxes in truth.values())
    num_found = 0
    for camera in truth.keys() | found.keys():
        claims = found.get(camera, NO_BOXES)
        claims = claims[claims.who != NOBODY]
        num_found += len(claims)
        for names, count in _shared_frames(truth.get(camera, NO_BOXES), claims, min_iou):
            shared[names] = shared.get(names, 0) + count
    right = _most_shared(shared)
    return IdScore(right, num_found - right, num_true - right)


def _shared_frames(truth: Boxes, found: Boxes, min_iou: float) -> list[tuple[tuple[str, str], int]]:
    """Return in how many frames each true and each found identity are on one another.

    A frame counts once, though an identity given to two people may have two boxes in it.
    """
    pairs = touching(truth, found, min_iou)
    columns = (truth.frames[pairs[:, 0]], truth.who[pairs[:, 0]], found.who[pairs[:, 1]])
    once = set(zip(*(column.tolist() for column in columns), strict=True))
    counts: dict[tuple[str, str], int] = {}
    for _, person, identity in once:
        counts[person, identity] = counts.get((person, identity), 0) + 1
    return list(counts.items())


def _most_shared(shared: Mapping[tuple[str, str], int]) -> int:
    """Return the boxes on which the best one-to-one assignment of identities agrees.

    Ristani's graph has a dummy for every identity, so that any may stay alone; its cost IDFP + IDFN
    is all boxes less twice the agreement, so the cheapest assignment is the one that agrees most.
    """
    people = {name: row for row, name in enumerate(sorted({a for a, _ in shared}))}
    identities = {name: column for column, name in enumerate(sorted({b for _, b in shared}))}
    agreement = np.zeros((len(people), len(identities)), dtype=np.int64)
    for (person, identity), count in shared.items():
        agreement[people[person], identities[identity]] = count
    rows, columns = linear_sum_assignment(agreement, maximize=True)
    return int(agreement[rows, columns].sum())


@dataclass(frozen=True, slots=True)
class RetrievalScore:
    """How well tracks of one camera are found on the others.

    Attributes:
        rank1: Share of the probes whose nearest track is of the same person.
        mean_ap: Mean over the probes of the average precision.
        num_probes: Tracks looked for: of people who have a track on the other camera.
    """

    rank1: float
    mean_ap: float
    num_probes: int


def cross_camera(
    distances: NDArray[np.floating[Any]],
    cameras: NDArray[np.str_],
    people: NDArray[np.str_],
) -> RetrievalScore:
    """Look for each track of every camera among the tracks of each other camera.

    Args:
        distances: Shape (M, M), finite.
        cameras: Shape (M,).
        people: Shape (M,): who each track follows; tracks of nobody ("") are not looked for, but
            stand in the gallery.
    """
    found = np.concatenate([np.empty((0, 3)), *_trials(distances, cameras, people)])
    found = found[~np.isnan(found[:, 0])]
    mean_ap = float(found[:, 1].mean()) if len(found) else float("nan")
    return RetrievalScore(float(cmc(found[:, 0], 1)[0]), mean_ap, len(found))


def _trials(
    distances: NDArray[np.floating[Any]], cameras: NDArray[np.str_], people: NDArray[np.str_]
) -> list[NDArray[np.float64]]:
    results = []
    for probe_camera in np.unique(cameras):
        probes = np.flatnonzero((cameras == probe_camera) & (people != NOBODY))
        for gallery_camera in np.unique(cameras):
            if gallery_camera != probe_camera:
                gallery = np.flatnonzero(cameras == gallery_camera)
                same = people[probes][:, None] == people[gallery]
                block = distances[np.ix_(probes, gallery)]
                results.append(retrieval(Rows(block, same, np.zeros_like(same))))
    return results


def chance(cameras: NDArray[np.str_], people: NDArray[np.str_]) -> RetrievalScore:
    """Return what ranking in random order scores on average, in closed form.

    The expected average precision of R right ones among N is (H_N / N) + (R - 1) / (N - 1) *
    (1 - H_N / N) with the harmonic number H_N (Bestgen, "Exact expected average precision of the
    random baseline", 2015).
    """
    expected = []
    for probe_camera in np.unique(cameras):
        for gallery_camera in np.unique(cameras):
            if gallery_camera != probe_camera:
                gallery = people[cameras == gallery_camera]
                probes = people[(cameras == probe_camera) & (people != NOBODY)]
                expected += [_expected(int((gallery == who).sum()), len(gallery)) for who in probes]
    counted = np.array([each for each in expected if each is not None]).reshape(-1, 2)
    if not len(counted):
        return RetrievalScore(float("nan"), float("nan"), 0)
    rank1, mean_ap = counted.mean(axis=0).tolist()
    return RetrievalScore(rank1, mean_ap, len(counted))


def _expected(right: int, total: int) -> tuple[float, float] | None:
    """Return expected Rank-1 and AP of a random order; None when nothing right is there."""
    if not right:
        return None
    first = float((1 / np.arange(1, total + 1)).sum()) / total
    others = (right - 1) / (total - 1) * (1 - first) if total > 1 else 0.0
    return right / total, first + others


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
