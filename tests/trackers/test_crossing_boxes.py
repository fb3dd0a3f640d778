"""The generator of crossing people does what it says of itself."""

from __future__ import annotations

import numpy as np

from tests.trackers import crossing_boxes as crossing
from trackers.association import iou_matrix


def test_a_seed_is_a_scene() -> None:
    first, second, other = (
        crossing.cross(crossing.CrossingConfig(frames=30, seed=seed)) for seed in (1, 1, 2)
    )
    for a, b in zip(first.detections, second.detections, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
        np.testing.assert_array_equal(a.features, b.features)
    assert any(
        not np.array_equal(a.xyxy, b.xyxy)
        for a, b in zip(first.detections, other.detections, strict=True)
    )


def test_a_perfect_detector_finds_everybody_where_they_are() -> None:
    config = crossing.CrossingConfig(people=4, frames=60, errors=crossing.PERFECT)
    scene = crossing.cross(config)
    for truth, found in zip(scene.truth, scene.detections, strict=True):
        np.testing.assert_allclose(found.xyxy, truth.xyxy, atol=1e-3)


def test_people_hide_one_another_and_are_missed_then() -> None:
    scene = crossing.cross(crossing.CrossingConfig(people=12, frames=300, seed=3))
    seen: dict[bool, list[bool]] = {True: [], False: []}
    for truth, found in zip(scene.truth, scene.detections, strict=True):
        overlap = iou_matrix(truth.xyxy, found.xyxy.astype(float)).max(axis=1, initial=0)
        for visible, best in zip(truth.visible.tolist(), overlap.tolist(), strict=True):
            seen[visible < 0.4].append(best >= 0.5)
    assert len(seen[True]) > 100
    assert np.mean(seen[False]) > 0.85
    assert np.mean(seen[True]) < 0.6


def test_whoever_leaves_comes_back_as_somebody_else() -> None:
    truth = crossing.cross(crossing.CrossingConfig(people=6, frames=900, fps=10.0)).truth
    for who in {i for frame in truth for i in frame.ids.tolist()}:
        left = [float(frame.xyxy[frame.ids == who, 0][0]) for frame in truth if who in frame.ids]
        steps = np.abs(np.diff(left))
        assert steps.max(initial=0) < 60  # pixels: nobody jumps over the picture
    assert max(int(frame.ids.max()) for frame in truth) > 6
