"""A results folder is held against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gait.errors import DataError
from pipeline.evaluation.boxes import Boxes
from pipeline.evaluation.check import MIN_FRAMES, check
from pipeline.evaluation.scene import CameraTruth, read_truth, write_truth
from pipeline.sinks.checked import Checked, CheckedPerson, read_checked, write_checked
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.recorder import Recorder
from pipeline.sinks.sightings import SightingLog
from pipeline.sources.inputs import walker_samples
from pipeline.sources.source import ReadConfig
from pipeline.sources.video import VideoSource
from pipeline.values import Frame, Sighting
from trackers.boxes import Tracks

PLACES = {"ann": 10.0, "bob": 60.0, "cat": 110.0}
FRAMES = 2 * MIN_FRAMES


def truth(*people: str, frames: int = FRAMES) -> CameraTruth:
    rows = [
        (index, who, (PLACES[who], 5, PLACES[who] + 20, 45))
        for index in range(frames)
        for who in people
    ]
    ids = np.array([list(PLACES).index(who) for _, who, _ in rows], dtype=np.int64)
    return CameraTruth(Boxes.of(rows), ids, np.ones(len(rows)))


def sighting(stream: str, track_id: int, identity: str | None) -> Sighting:
    return Sighting(
        identity=identity,
        stream=stream,
        track_id=track_id,
        start_s=0.0,
        end_s=3.0,
        distance=None,
        is_new=False,
        quality=1.0,
        num_silhouettes=30,
        tracklets=(),
        reasons=(),
    )


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder.create(tmp_path / "results", room_bytes=0)


def record(folder: ResultsFolder, stream: str, people: dict[str, str | None]) -> list[Sighting]:
    """One track a person, exactly where the person is."""
    boxes = [(PLACES[who], 5, PLACES[who] + 20, 45) for who in people]
    ids = np.arange(len(people), dtype=np.int64)
    tracks = Tracks(ids, np.array(boxes, np.float32), np.ones(len(ids), np.float32), ids)
    with Recorder(folder, stream) as recorder:
        for index in range(FRAMES):
            frame = Frame(np.zeros((50, 150, 3), np.uint8), stream, index, index / 10)
            recorder.write(frame, tracks, [None] * len(people))
    return [sighting(stream, i, name) for i, name in enumerate(people.values())]


def checked(
    folder: ResultsFolder, *runs: tuple[str, dict[str, str | None]], **truths: CameraTruth
) -> Checked:
    with SightingLog(folder) as log:
        for stream, people in runs:
            for one in record(folder, stream, people):
                log.write(one)
    return check(folder, truths)


def right(result: Checked) -> dict[str, bool]:
    return {each.person: each.is_right for each in result.people}


def test_a_person_of_one_name_on_both_cameras_is_right(folder: ResultsFolder) -> None:
    result = checked(
        folder,
        ("a", {"ann": "1", "bob": "2"}),
        ("b", {"ann": "1", "bob": "3"}),
        a=truth("ann", "bob"),
        b=truth("ann", "bob"),
    )
    assert right(result) == {"ann": True, "bob": False}
    assert (result.num_right, result.num_asked) == (1, 2)
    assert result.id_f1 == 0.75


def test_a_name_that_two_people_share_is_right_for_neither(folder: ResultsFolder) -> None:
    result = checked(
        folder,
        ("a", {"ann": "1", "bob": "1"}),
        ("b", {"ann": "1", "bob": "1"}),
        a=truth("ann", "bob"),
        b=truth("ann", "bob"),
    )
    assert right(result) == {"ann": False, "bob": False}
    assert [each.person for each in result.owners("1")] == ["ann", "bob"]


def test_a_name_somebody_elsewhere_has_too_is_wrong(folder: ResultsFolder) -> None:
    runs = [("a", {"ann": "1"}), ("b", {"ann": "1"}), ("street", {"cat": "1"})]
    result = checked(folder, *runs, a=truth("ann"), b=truth("ann"))  # type: ignore[arg-type]
    assert right(result) == {"ann": False}


def test_who_was_not_named_on_one_camera_is_wrong(folder: ResultsFolder) -> None:
    runs = [("a", {"ann": "1", "bob": "2"}), ("b", {"ann": None})]
    both = truth("ann", "bob")
    result = checked(folder, *runs, a=both, b=both)  # type: ignore[arg-type]
    assert {p.person: p.identities for p in result.people} == {
        "ann": {"a": "1", "b": None},
        "bob": {"a": "2", "b": None},
    }
    assert result.num_right == 0


def test_who_is_on_one_camera_only_or_too_briefly_is_not_asked_for(folder: ResultsFolder) -> None:
    result = checked(
        folder,
        ("a", {"ann": "1", "bob": "2"}),
        ("b", {"bob": "2"}),
        a=truth("ann", "bob"),
        b=truth("bob", frames=MIN_FRAMES - 1),
    )
    assert result.num_asked == 0
    assert right(result) == {"ann": True, "bob": True}


def test_what_was_checked_is_read_back(folder: ResultsFolder) -> None:
    assert read_checked(folder) is None
    person = CheckedPerson(person="ann", identities={"a": "1", "b": None}, is_right=False)
    result = Checked(streams=("a", "b"), id_f1=0.5, people=(person,))
    write_checked(folder, result)
    assert read_checked(folder) == result
    assert not ResultsFolder.create(folder.path, room_bytes=0).checked.exists()


def test_the_truth_is_read_back(tmp_path: Path) -> None:
    one = truth("ann", "bob")
    write_truth(tmp_path / "t.json", {"a": one})
    other = read_truth(tmp_path / "t.json")["a"]
    np.testing.assert_array_equal(one.boxes.xyxy, other.boxes.xyxy)
    np.testing.assert_array_equal(one.track_ids, other.track_ids)
    assert one.boxes.who.tolist() == other.boxes.who.tolist()
    (tmp_path / "t.json").write_text('{"a": [[1, 2]]}')
    with pytest.raises(DataError, match="expected camera names with rows of boxes"):
        read_truth(tmp_path / "t.json")


def test_the_clips_that_ship_show_the_people_their_truth_names() -> None:
    videos, path = walker_samples()
    truths = read_truth(path)
    assert list(truths) == [video.stem for video in videos]
    people = [set(camera.counted()[0].who.tolist()) for camera in truths.values()]
    assert people[0] == people[1]
    assert len(people[0]) >= 6
    for video, camera in zip(videos, truths.values(), strict=True):
        assert video.stat().st_size < 1_500_000
        with VideoSource(video, video.stem, ReadConfig(stride=20)) as source:
            frames = list(source)
        assert camera.boxes.frames.max() >= frames[-1].index - 40
        assert camera.boxes.xyxy[:, 2].max() <= frames[0].image.shape[1]
        assert camera.boxes.xyxy[:, 3].max() <= frames[0].image.shape[0]
