"""Tracks of known people, joined rightly and wrongly, interrupted and glued."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gait.tracklet import Tracklet
from pipeline.evaluation.ablation import Joins, glued, interrupted, joins
from pipeline.evaluation.boxes import Boxes, TrackTruth
from pipeline.evaluation.case import Case, Identities
from pipeline.evaluation.perceived import Perceived
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.decision import DecisionConfig
from pipeline.values import Embedding, Sighting


def window(
    track: int, number: int, beside: tuple[int, ...] = (), is_last: bool = False
) -> Tracklet:
    """Return 3 s of a track, the next of which begin each 3 s later."""
    indices = np.arange(30 * number, 30 * number + 30)
    return Tracklet(
        stream="door",
        track_id=track,
        silhouettes=np.zeros((30, 64, 44), np.uint8),
        frame_indices=indices,
        times_s=indices / 10,
        seen_s=(0.0 if track != 3 else 30.0, 3.0 * number + 2.9),
        companions=beside,
        is_last=is_last,
    )


def looks(person: int, seed: int) -> Embedding:
    rng = np.random.default_rng(seed)
    noise = 0.1 * rng.standard_normal((256, 16))
    return (np.full((256, 16), person * 0.5) + noise).astype(np.float32)


@pytest.fixture
def case() -> Case:
    """Return track 1 of p1 for five tracklets beside track 2 of p2, then track 3 of p1 again."""
    people = {1: "p1", 2: "p2", 3: "p1"}
    tracklets = [
        window(track, number, (3 - track,), is_last=number == 4)
        for number in range(5)
        for track in (1, 2)
    ]
    tracklets += [window(3, number) for number in (10, 11)]
    embeddings = [looks(int(people[t.track_id][1]), n) for n, t in enumerate(tracklets)]
    nowhere = {"door": Boxes.of([])}
    followed = {"door": {str(t): TrackTruth(who, 50, 50, 50) for t, who in people.items()}}
    usable = [("door", track) for track in people]
    perceived = Perceived(tracklets, nowhere, 1.0)
    return Case(perceived, embeddings, "a" * 64, nowhere, nowhere, followed, usable, {})


def test_joins_are_counted_and_so_are_those_of_two_people(case: Case) -> None:
    one, two, again = case.usable
    assert joins(case, {one: "x", two: "y", again: "x"}) == Joins(1, 1, 1, 0)
    assert joins(case, {one: "x", two: "y", again: "y"}) == Joins(1, 0, 1, 1)
    assert joins(case, {one: "x", two: "y", again: "z"}) == Joins(1, 0, 0, 0)
    assert joins(case, {one: "", two: "", again: ""}) == Joins(1, 0, 0, 0), "nobody is no claim"


def test_an_interruption_takes_the_middle_tracklet_and_makes_another_track(case: Case) -> None:
    broken = interrupted(case)
    ids = [track for _, track in broken.usable]
    later = sorted({*ids} - {1, 2, 3})
    assert len(later) == 2, "the track of two tracklets is left whole"
    of_half = {t: [x for x in broken.perceived.tracklets if x.track_id == t] for t in ids}
    assert [len(of_half[t]) for t in (1, *later)] == [2, 2, 2]
    first, second = of_half[1][-1], of_half[later[0]][0]
    assert second.seen_s[0] - first.seen_s[1] > 2.9
    assert first.companions == (2,)
    assert second.companions == (later[1],), "the other one has another number by then, too"
    assert broken.names["door", later[0]] == "p1"
    assert len(broken.embeddings) == len(broken.perceived.tracklets) == len(case.embeddings) - 2


def test_who_was_hidden_for_a_moment_is_joined_again_by_the_gallery(case: Case) -> None:
    broken = interrupted(case)
    config = GalleryConfig(threshold=3.0, decision=DecisionConfig(purity_margin=None))
    found = joins(broken, broken.identities(config))
    assert (found.pairs, found.joined, found.wrong) == (3, 3, 0)


def test_glued_tracks_are_found_and_pure_ones_left(case: Case) -> None:
    found = glued([case], threshold=4.0, config=DecisionConfig())
    assert found.tracks > 0
    assert found.found == found.right == found.tracks
    assert (found.pure, found.falsely_cut) == (2, 0)


def test_a_track_that_was_split_counts_as_whom_it_was_when(case: Case) -> None:
    boxes = Boxes.of((frame, "1", (0, 0, 10, 10)) for frame in range(100))
    truth = boxes.named(np.array(["p1"] * 40 + ["p2"] * 60))
    case = replace(case, truth={"door": truth}, found={"door": boxes})
    track = "door", 1
    split = Identities.of([sighting("x", 0.2), sighting("z", 4.0), sighting("y", 4.0)])
    assert split[track] == "y", "the last word counts"
    assert case.score(split).f1 == 1.0
    assert case.score({track: "y"}).f1 == 0.6


def sighting(identity: str, start_s: float) -> Sighting:
    return Sighting(identity, "door", 1, start_s, 9.0, 0.5, False, 0.9, 30, (), ())
