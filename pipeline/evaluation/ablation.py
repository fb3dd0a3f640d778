"""What each part of identity brings, on scenes whose truth is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from gait.tracklet import Tracklet
from pipeline.evaluation.boxes import NOBODY
from pipeline.evaluation.case import Case, Track
from pipeline.evaluation.contenders import ALONE, NO_PLACES, TOGETHER
from pipeline.gallery.decision import DecisionConfig, Heard
from pipeline.gallery.purity import switch
from pipeline.values import Embedding

_UNCUT = {"purity_margin": None}
_NO_WAYS = TOGETHER | NO_PLACES
NO_PICTURE = TOGETHER | {"most_place_odds": 0}
"""Places in the picture say nothing."""

PARTS: Mapping[str, Mapping[str, Any]] = {
    "nearest walk, one threshold": ALONE,
    "windows together, hysteresis": {
        "decision": _UNCUT,
        "whereabouts": NO_PLACES,
        "revise_s": 0,
    },
    "+ nobody in two places at once": {
        "decision": _UNCUT,
        "whereabouts": _NO_WAYS,
        "revise_s": 0,
    },
    "+ second thoughts": {"decision": _UNCUT, "whereabouts": _NO_WAYS},
    "+ ways": {"decision": _UNCUT, "whereabouts": NO_PICTURE},
    "+ cuts": {"whereabouts": NO_PICTURE},
    "**+ places in the picture: ours**": {"whereabouts": TOGETHER},
}
"""What `GalleryConfig` is told, each with one part more than the one before."""

_LATER = 1_000_000  # added to the number of a track's second half


@dataclass(frozen=True, slots=True)
class Joins:
    """Whether tracks of one person on one camera, one after the other, got one identity.

    Attributes:
        pairs: Consecutive tracks of one person.
        joined: Those that got one identity.
        same: Consecutive tracks of one identity.
        wrong: Those that are of two people.
    """

    pairs: int = 0
    joined: int = 0
    same: int = 0
    wrong: int = 0

    def __add__(self, other: Joins) -> Joins:
        """Return both together."""
        return Joins(
            self.pairs + other.pairs,
            self.joined + other.joined,
            self.same + other.same,
            self.wrong + other.wrong,
        )


def joins(case: Case, identities: Mapping[Track, str]) -> Joins:
    """Return how tracks that recognise somebody by were joined on their cameras."""
    names = {track: case.names[track] for track in case.usable}
    people = _consecutive(case, {t: who for t, who in names.items() if who != NOBODY})
    claims = _consecutive(case, {t: identities.get(t, NOBODY) for t in names})
    same = [pair for pair in claims if identities.get(pair[0], NOBODY) != NOBODY]
    return Joins(
        pairs=len(people),
        joined=len(set(people) & set(same)),
        same=len(same),
        wrong=sum(names[one] != names[other] for one, other in same),
    )


def _consecutive(case: Case, owners: Mapping[Track, str]) -> list[tuple[Track, Track]]:
    """Return each track with the owner's next one on the same camera."""
    starts = {t.track: t.seen_s[0] for t in reversed(case.perceived.tracklets)}
    of_owner: dict[tuple[str, str], list[Track]] = defaultdict(list)
    for track in sorted(owners, key=lambda track: starts[track]):
        of_owner[track[0], owners[track]].append(track)
    return [pair for tracks in of_owner.values() for pair in pairwise(tracks)]


def interrupted(case: Case) -> Case:
    """Return a case in which everybody with three tracklets or more was hidden for one of them.

    As when a tracker loses somebody behind a pillar: the middle tracklet is gone, and what comes
    after it is another track.
    """
    cuts = {track: cut for track, windows in _windows(case).items() if (cut := _middle(windows))}
    told_s: dict[Track, float] = {}
    kept, embeddings = [], []
    for tracklet, embedding in zip(case.perceived.tracklets, case.embeddings, strict=True):
        since_s = told_s.get(tracklet.track, tracklet.seen_s[0])
        told_s[tracklet.track] = tracklet.seen_s[1]
        cut = cuts.get(tracklet.track)
        if cut is not None and tracklet.uid == cut.uid:
            continue
        others = _companions(tracklet, since_s, cuts)
        kept.append(_part(replace(tracklet, companions=others), cut))
        embeddings.append(embedding)
    later = {track: (track[0], track[1] + _LATER) for track in cuts}
    followed = {
        camera: {
            **tracks,
            **{
                str(later[camera, int(t)][1]): who
                for t, who in tracks.items()
                if (camera, int(t)) in cuts
            },
        }
        for camera, tracks in case.followed.items()
    }
    return replace(
        case,
        perceived=replace(case.perceived, tracklets=kept),
        embeddings=embeddings,
        followed=followed,
        usable=sorted([*case.usable, *(later[track] for track in case.usable if track in cuts)]),
    )


def _windows(case: Case) -> dict[Track, list[Tracklet]]:
    found: dict[Track, list[Tracklet]] = defaultdict(list)
    for tracklet in case.perceived.tracklets:
        if len(tracklet):
            found[tracklet.track].append(tracklet)
    return found


def _middle(windows: Sequence[Tracklet]) -> Tracklet | None:
    """Return the middle tracklet of three and more that do not continue one another."""
    if len(windows) < 3 or any(each.offset for each in windows):
        return None
    return windows[len(windows) // 2]


def _part(tracklet: Tracklet, cut: Tracklet | None) -> Tracklet:
    """Return a tracklet as one of the half before or after what was cut out."""
    if cut is None:
        return tracklet
    began_s, ended_s = float(cut.times_s[0]), float(cut.times_s[-1])
    if tracklet.seen_s[1] <= ended_s:
        return tracklet
    return replace(
        tracklet,
        track_id=tracklet.track_id + _LATER,
        seen_s=(max(began_s, ended_s), tracklet.seen_s[1]),
    )


def _companions(
    tracklet: Tracklet, since_s: float, cuts: Mapping[Track, Tracklet]
) -> tuple[int, ...]:
    """Return who was beside a tracklet, by the names of their halves."""
    found = []
    for other in tracklet.companions:
        cut = cuts.get((tracklet.stream, other))
        if cut is None or since_s < cut.times_s[0]:
            found.append(other)
        if cut is not None and tracklet.seen_s[1] > cut.times_s[-1]:
            found.append(other + _LATER)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Glued:
    """How tracks that go over from one person to another are cut.

    Attributes:
        tracks: Made of two people's on one camera, two tracklets of each or more.
        found: Those that were cut.
        right: Cut at the right tracklet.
        pure: Tracks of one person with four tracklets or more.
        falsely_cut: Those of them that were cut.
    """

    tracks: int = 0
    found: int = 0
    right: int = 0
    pure: int = 0
    falsely_cut: int = 0


def glued(cases: Sequence[Case], threshold: float, config: DecisionConfig, seed: int = 1) -> Glued:
    """Return how well cuts find where tracks of one person go over to another."""
    assert config.purity_margin is not None
    margin, most = config.purity_margin, config.windows
    rng = np.random.default_rng(seed)
    tracks = found = right = pure = falsely_cut = 0
    for case in cases:
        walks = _pure(case)
        pure += sum(len(walk) >= 4 for _, _, walk in walks)
        falsely_cut += sum(
            switch(_heard(walk[-most:]), threshold, margin) is not None for *_, walk in walks
        )
        for one, other in _two_people(walks):
            first = one[: len(one) - rng.integers(0, len(one))]
            last = other[rng.integers(0, len(other)) :]
            if min(len(first), len(last)) < 2:
                continue
            windows = [*first, *last][-most:]
            at = switch(_heard(windows), threshold, margin)
            tracks += 1
            found += at is not None
            right += at == len(windows) - len(last)
    return Glued(tracks, found, right, pure, falsely_cut)


_Walk = tuple[str, str, list[Embedding]]


def _pure(case: Case) -> list[_Walk]:
    """Return camera, person and embeddings of the tracks that hardly leave their person."""
    walks: dict[Track, list[Embedding]] = defaultdict(list)
    for tracklet, embedding in zip(case.perceived.tracklets, case.embeddings, strict=True):
        if embedding is not None:
            walks[tracklet.track].append(embedding)
    return [
        ((camera, each.person, walks[camera, int(track)]))
        for camera, tracks in case.followed.items()
        for track, each in tracks.items()
        if each.person != NOBODY
        and each.own > 0.95 * each.on_people
        and (camera, int(track)) in walks
    ]


def _two_people(walks: Sequence[_Walk]) -> Iterator[tuple[list[Embedding], list[Embedding]]]:
    for camera, person, walk in walks:
        for other_camera, other_person, other in walks:
            if camera == other_camera and person != other_person:
                yield walk, other


def _heard(embeddings: Sequence[Embedding]) -> list[Heard]:
    return [Heard("", 1.0, embedding, {}) for embedding in embeddings]
