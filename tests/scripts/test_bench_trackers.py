"""What the trackers' benchmark computes itself: its tables, its scenes, and how it asks others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gait.errors import DataError
from pipeline.evaluation.tracking_folder import MotBoxes
from pipeline.evaluation.tracking_scores import Tally
from trackers.boxes import Detections

ROOT = Path(__file__).parents[2]


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Let scripts import each other, as they do when one is run."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    with beside(ROOT / "scripts"):
        return importlib.import_module("bench_trackers")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    with beside(ROOT / "scripts"):
        return importlib.import_module("tracker_tables")


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    with beside(ROOT / "scripts"):
        return importlib.import_module("tracker_scenes")


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    with beside(ROOT / "scripts"):
        return importlib.import_module("peer_trackers")


def boxes(*rows: tuple[int, int, float]) -> MotBoxes:
    """Return boxes of 10 x 20 pixels: frame, id, left."""
    frames, ids, left = (np.array(each) for each in zip(*rows, strict=True))
    xyxy = np.stack([left, 0 * left, left + 10, 0 * left + 20], axis=1).astype(float)
    return MotBoxes(frames, ids, xyxy, np.ones((len(ids), 1)), np.arange(len(ids)))


def labels(*rows: tuple[int, str, float]) -> dict[str, Any]:
    """Return who is who by hand: frame, person, left."""
    frame, person, left = (np.array(each) for each in zip(*rows, strict=True))
    xyxy = np.stack([left, 0 * left, left + 10, 0 * left + 20], axis=1)
    return {"frame": frame, "person": person, "xyxy": xyxy}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_clip_is_counted_by_what_was_labelled_in_it(tables: ModuleType) -> None:
    """Track 1 is A for 40 frames, 2 is B and then A, nobody follows C."""
    long = [(frame, 1, 0.0) for frame in range(40)]
    short = [(frame, 2, 100.0 if frame < 5 else 200.0) for frame in range(10)]
    hand = labels(
        *[(frame, "A", 0.0) for frame in (0, 10, 20)],
        *[(0, "B", 100.0), (6, "A", 200.0), (2, "B", 100.0), (3, "C", 300.0)],
    )
    ran = {"ours": tables.Ran(boxes={"vtest": boxes(*long, *short)})}
    row = cells(tables.clip_table(ran, hand)[-1])
    # Two ids for A, one for B, none for C; 6 of 7 found, 5 of 6 on their track's person; of all
    # labels 3 are in a track of 4 s on which they agree; tracks of 40 and 10 frames.
    assert row == ["**ours**", "2", "1.00", "85.7", "83.3", "42.9", "2.5 s"]


def test_the_best_come_first_and_ours_are_bold(tables: ModuleType) -> None:
    def tally(pairs: int) -> Tally:
        count = np.full(19, float(pairs))
        return Tally(count, count, count, true_boxes=10, found_boxes=pairs, people=1, tracks=1)

    ran = {
        "norfair": tables.Ran(tallies={"a": tally(4), "b": tally(4)}),
        "our SORT": tables.Ran(tallies={"a": tally(9)}),
    }
    lines = tables.accuracy_table(ran)
    assert [cells(line)[:2] for line in lines[2:]] == [
        ["**our SORT**", "94.9"],
        ["norfair", "63.2"],
    ]
    assert len({line.count("|") for line in lines}) == 1


def test_only_what_stands_between_its_markers_is_written_anew(
    tables: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- clip: begin -->\nold\n<!-- clip: end -->\nafter\n")
    tables.write_section(page, "clip", ["| new |"])
    expected = "before\n<!-- clip: begin -->\n\n| new |\n\n<!-- clip: end -->\nafter\n"
    assert page.read_text() == expected
    with pytest.raises(DataError, match="expected the markers of speed"):
        tables.write_section(page, "speed", [])
    assert page.read_text() == expected


def test_others_get_the_boxes_and_looks_that_ours_get(
    scenes: ModuleType, peer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    found = [
        Detections(
            np.tile(np.array([0, 0, 9, 9], np.float32), (n, 1)),
            rng.random(n).astype(np.float32),
            features=rng.random((n, 3)).astype(np.float32),
        )
        for n in (2, 0, 3)
    ]
    scenes.save_frames(tmp_path / "frames.npz", found)
    given: list[Any] = []

    def keeps(fps: float, *, same: bool) -> Any:
        def prepare(*parts: Any) -> Any:
            given.append(parts)
            return parts

        return prepare, lambda parts: parts, lambda parts: [(7, *b, 0.5) for b in parts[0]]

    monkeypatch.setitem(peer.TRACKERS, "keeps", keeps)
    job = {"tracker": "keeps", "same": True, "fps": 25, "frames": str(tmp_path / "frames.npz")}
    answer = peer.run({**job, "out": str(tmp_path / "out.txt")})
    assert len(answer["seconds"]) == 3
    for each, (xyxy, confidence, features) in zip(found, given, strict=True):
        np.testing.assert_array_equal(xyxy, each.xyxy)
        np.testing.assert_array_equal(confidence, each.confidence)
        np.testing.assert_array_equal(features, each.features)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["1", "1", "3", "3", "3"]
    assert lines[0] == "1,7,0.000,0.000,9.000,9.000,0.5000,-1,-1,-1"


def test_overlaps_for_trackeval_are_those_of_boxes_with_width_and_height(peer: ModuleType) -> None:
    first = np.array([[0, 0, 10, 10], [50, 50, 5, 5]], dtype=float)
    second = np.array([[5, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 20]], dtype=float)
    expected = np.array([[1 / 3, 1, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(peer._iou(first, second), expected)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return an environment in which none of the others is installed."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    return tmp_path


def test_a_peer_answers_each_job_and_ends_with_the_block(
    bench: ModuleType, environment: Path
) -> None:
    with bench.Peers(environment, ()) as peers:
        process = peers._process
        assert isinstance(peers.ask(versions=True), dict)
        with pytest.raises(DataError, match="KeyError: 'nobody'"):
            peers.ask(tracker="nobody", fps=25, same=False)
        assert isinstance(peers.ask(versions=True), dict)  # one failure is not the end
    assert process.returncode == 0


def test_a_peer_that_dies_is_an_error_and_not_a_wait(bench: ModuleType, environment: Path) -> None:
    with bench.Peers(environment, ()) as peers:
        peers.ask(versions=True)
        peers._process.kill()
        peers._process.wait()
        with pytest.raises(DataError, match="gone"):
            peers.ask(versions=True)
