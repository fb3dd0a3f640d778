"""The same person looks alike in two frames, and unlike others."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter

from pipeline.stages.appearance import (
    APPEARANCES,
    Appearance,
    AppearanceConfig,
    HistogramConfig,
    MobileNetConfig,
)
from pipeline.values import Frame
from trackers.boxes import Detections, Mask


@pytest.fixture(scope="module", params=sorted(APPEARANCES))
def stage(request: pytest.FixtureRequest) -> Appearance:
    return APPEARANCES[request.param]().build()


def boxes(*xyxy: tuple[float, ...]) -> Detections:
    n = len(xyxy)
    return Detections(
        xyxy=np.array(xyxy, dtype=np.float32).reshape(n, 4),
        confidence=np.full(n, 0.5, dtype=np.float32),
    )


# The couple in red and black, and a man in black, in both frames.
THEN = boxes((646, 126, 663, 180), (663, 126, 682, 180), (238, 158, 268, 232))
NOW = boxes((594, 149, 619, 222), (619, 153, 643, 222), (356, 220, 387, 309))


def test_features_are_unit_vectors_in_the_boxes_order(
    stage: Appearance, street: list[Frame]
) -> None:
    found = stage.describe([street[0], street[1], street[0]], [THEN, NOW, boxes()])
    assert [len(d) for d in found] == [3, 3, 0]
    for described, given in zip(found, (THEN, NOW, boxes()), strict=True):
        assert described.features is not None
        assert described.features.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(described.features, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(described.xyxy, given.xyxy)
        np.testing.assert_array_equal(described.confidence, given.confidence)
    widths = {d.features.shape[1] for d in found if d.features is not None}
    assert len(widths) == 1


def test_a_person_is_described_the_same_alone_and_among_others(
    stage: Appearance, street: list[Frame]
) -> None:
    (together,) = stage.describe([street[0]], [THEN])
    for row in range(3):
        (alone,) = stage.describe([street[0]], [boxes(tuple(THEN.xyxy[row].tolist()))])
        assert together.features is not None
        assert alone.features is not None
        np.testing.assert_allclose(alone.features[0], together.features[row], atol=1e-4)


def test_the_woman_in_red_looks_most_like_herself_later(
    stage: Appearance, street: list[Frame]
) -> None:
    then, now = stage.describe(street, [THEN, NOW])
    assert then.features is not None
    assert now.features is not None
    assert (then.features @ now.features.T)[0].argmax() == 0


def test_no_frames_and_no_boxes_are_fine(stage: Appearance, street: list[Frame]) -> None:
    assert stage.describe([], []) == []
    (none,) = stage.describe(street[:1], [boxes()])
    assert none.features is not None
    assert none.features.shape[0] == 0
    assert none.features.shape[1] > 100


@pytest.mark.parametrize(
    "box",
    [(-50, -50, 5000, 5000), (760, 570, 900, 900), (900, 900, 950, 1000), (100, 100, 100, 100)],
)
def test_odd_boxes_are_described_all_the_same(
    stage: Appearance, street: list[Frame], box: tuple[float, ...]
) -> None:
    (found,) = stage.describe(street[:1], [boxes(box)])
    assert found.features is not None
    np.testing.assert_allclose(np.linalg.norm(found.features), 1, atol=1e-5)


def test_masks_are_kept() -> None:
    mask = Mask(np.ones((2, 2), dtype=bool), 0, 0)
    given = Detections(np.array([[0, 0, 2, 2]], np.float32), np.ones(1, np.float32), masks=(mask,))
    frame = Frame(np.zeros((9, 9, 3), np.uint8), "s", 0, 0.0)
    (found,) = HistogramConfig().build().describe([frame], [given])
    assert found.masks == (mask,)


def test_a_histogram_tells_where_a_colour_is_worn() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[:30, :20], image[30:, :20] = (0, 0, 255), (255, 0, 0)  # red over blue
    image[:30, 20:40], image[30:, 20:40] = (255, 0, 0), (0, 0, 255)  # blue over red
    image[:, 40:60] = image[:, :20]
    frame = Frame(image, "s", 0, 0.0)
    people = boxes((0, 0, 20, 60), (20, 0, 40, 60), (40, 0, 60, 60))
    (found,) = HistogramConfig(strips=2).build().describe([frame], [people])
    assert found.features is not None
    alike = found.features @ found.features.T
    assert alike[0, 2] == pytest.approx(1)
    assert alike[0, 1] < 0.6  # the values are equal, the colours are not


def test_the_kind_chooses_the_stage_in_the_table() -> None:
    adapter: TypeAdapter[HistogramConfig | MobileNetConfig] = TypeAdapter(AppearanceConfig)
    for kind, config in APPEARANCES.items():
        assert type(adapter.validate_python({"kind": kind})) is config
