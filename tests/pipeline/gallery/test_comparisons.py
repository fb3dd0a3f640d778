from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gait.data.dataset import SequenceKey
from gait.evaluation.features import Features
from gait.tracklet import Tracklet
from pipeline.errors import OutputError
from pipeline.gallery.comparisons import (
    GENUINE,
    IMPOSTOR,
    UNKNOWN,
    of_labelled,
    of_results,
    steadiness,
)
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.tracklets import TrackletStore
from pipeline.values import Embedding

MakeTracklet = Callable[..., Tracklet]
MakeEmbedding = Callable[..., Embedding]


@pytest.fixture
def results(tmp_path: Path, tracklet: MakeTracklet, embedding: MakeEmbedding) -> Path:
    """Return results: track 1 in three windows, 2 beside it, 3 later, and a walk that grew."""
    folder = ResultsFolder.create(tmp_path / "results", room_bytes=0)
    store = TrackletStore(folder)
    for each in (
        tracklet(1, 0.0, quality=0.5),
        tracklet(1, 3.0, companions=(2,)),
        tracklet(1, 9.0),
        tracklet(2, 3.0),
        tracklet(3, 30.0),
        tracklet(3, 33.0, offset=30),
    ):
        store.write(each, embedding=embedding(each.track_id / 16))
    return folder.path


def test_in_results_a_track_is_one_person_and_tracks_seen_together_are_two(results: Path) -> None:
    found = of_results([results], gap_s=1.0)
    near, far, alone = (found.kinds[found.groups == g] for g in range(3))
    one, two, three = (np.flatnonzero(found.groups == g) for g in range(3))
    assert len(found.groups) == 5  # a walk that has grown is no second walk
    first, second, third = one
    assert found.kinds[first, third] == found.kinds[second, third] == GENUINE
    assert found.kinds[first, second] == UNKNOWN  # no gap between them
    assert (near[:, two] == IMPOSTOR).all()
    assert (far[:, one] == IMPOSTOR).all()
    assert (alone[:, :] == UNKNOWN).all()
    assert len(three) == 1
    assert found.distances[one[0], two[0]] == pytest.approx(1.0, abs=1e-3)
    assert found.qualities is not None
    assert min(found.qualities) == 0.5


def test_tracks_of_two_folders_have_nothing_to_do_with_each_other(results: Path) -> None:
    found = of_results([results, results], gap_s=1.0)
    assert len(np.unique(found.groups)) == 6
    assert (found.kinds[:5, 5:] == UNKNOWN).all()


def test_results_without_embeddings_say_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"output\.tracklets=true"):
        of_results([tmp_path], gap_s=1.0)


def test_whole_people_are_left_out_where_there_are_too_many_sequences() -> None:
    keys = [SequenceKey(f"{n % 10}", "nm", f"{n}") for n in range(40)]
    features = Features(np.zeros((40, 4, 2), np.float32), keys, "a" * 64)
    found = of_labelled(features, None, most=12)
    assert np.unique(found.groups, return_counts=True)[1].tolist() == [4, 4, 4]
    assert found.kinds[0, 0] == UNKNOWN


def test_steady_silhouettes_are_better_than_jumping_ones() -> None:
    person = np.zeros((8, 64, 44), np.uint8)
    person[:, :, 15:29] = 255
    jumping = person.copy()
    jumping[::2, :, 15:18] = 0
    assert steadiness(person) == 1.0
    assert 0.5 < steadiness(jumping) < 0.95
