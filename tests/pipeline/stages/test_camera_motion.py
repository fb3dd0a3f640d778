"""A textured picture is moved by a known matrix, and the stage must find that matrix."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import PipelineConfig
from pipeline.perception import Perception
from pipeline.stages.camera_motion import CameraMotion, FlowConfig
from pipeline.telemetry import Telemetry
from pipeline.values import Batch, Frame
from trackers.boxes import Detections

SIZE = (400, 300)
NOBODY = Detections()


def texture(seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def moved(image: NDArray[np.uint8], motion: NDArray[np.float64]) -> NDArray[np.uint8]:
    there = cv2.warpAffine(image, motion, SIZE, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(there, dtype=np.uint8)


def turn(degrees: float, x: float, y: float, zoom: float = 1.0) -> NDArray[np.float64]:
    matrix = np.asarray(cv2.getRotationMatrix2D((200, 150), degrees, zoom), dtype=np.float64)
    matrix[:, 2] += x, y
    return matrix


def frame(image: NDArray[np.uint8], index: int, *, stream: str = "cam", epoch: int = 0) -> Frame:
    return Frame(image, stream, index, index / 25, epoch)


def between(
    stage: CameraMotion, first: Frame, second: Frame, found: Detections = NOBODY
) -> NDArray[np.float64] | None:
    stage.measure([first], [NOBODY])
    (detections,) = stage.measure([second], [found])
    return detections.camera_motion


def corners(motion: NDArray[np.float64]) -> NDArray[np.float64]:
    points = np.array([[0, 0, 1], [400, 0, 1], [0, 300, 1], [400, 300, 1]])
    return np.asarray(points @ motion.T)


@pytest.mark.parametrize("width", [200, 640])
def test_the_motion_of_the_picture_is_found_in_pixels_of_the_frame(width: int) -> None:
    stage = FlowConfig(width=width).build()
    truth = turn(1.0, 5.0, -3.0)
    measured = between(stage, frame(texture(), 0), frame(moved(texture(), truth), 1))
    assert measured is not None
    np.testing.assert_allclose(corners(measured), corners(truth), atol=1.0)


def test_flow_finds_a_zoom() -> None:
    truth = turn(0.0, 0.0, 0.0, zoom=1.04)
    measured = between(FlowConfig().build(), frame(texture(), 0), frame(moved(texture(), truth), 1))
    assert measured is not None
    np.testing.assert_allclose(corners(measured), corners(truth), atol=1.0)


def test_people_who_walk_before_a_still_camera_do_not_move_it() -> None:
    boxes = np.array([[40, 0, 180, 300], [220, 0, 360, 300]], dtype=np.float32)
    found = Detections(boxes, np.full(2, 0.9, dtype=np.float32))
    second, clothes = texture().copy(), texture(1)
    first = second.copy()
    first[:, 40:180], second[:, 48:188] = clothes[:, 40:180], clothes[:, 40:180]
    first[:, 220:360], second[:, 228:368] = clothes[:, 220:360], clothes[:, 220:360]
    stage = FlowConfig().build()
    stage.measure([frame(first, 0)], [found])
    (detections,) = stage.measure([frame(second, 1)], [found])
    assert detections.camera_motion is not None
    np.testing.assert_allclose(corners(detections.camera_motion), corners(np.eye(2, 3)), atol=0.5)


def test_a_cut_or_a_blank_picture_yields_no_motion() -> None:
    blank = np.full((300, 400, 3), 90, dtype=np.uint8)
    assert between(FlowConfig().build(), frame(texture(), 0), frame(texture(1), 1)) is None
    assert between(FlowConfig().build(), frame(blank, 0), frame(blank, 1)) is None


def test_nothing_is_measured_across_epochs_sizes_streams_and_ends() -> None:
    stage = FlowConfig().build()
    assert stage.measure([frame(texture(), 0)], [NOBODY])[0].camera_motion is None
    assert stage.measure([frame(texture(), 1)], [NOBODY])[0].camera_motion is not None
    for other in (
        frame(texture(), 2, epoch=1),
        frame(texture()[:200], 3, epoch=1),
        frame(texture(), 0, stream="another"),
    ):
        assert stage.measure([other], [NOBODY])[0].camera_motion is None
    stage.finish("another")
    again = stage.measure([frame(texture(), 1, stream="another")], [NOBODY])
    assert again[0].camera_motion is None


def test_the_same_pictures_give_the_same_motion() -> None:
    pictures = frame(texture(), 0), frame(moved(texture(), turn(0.5, 2, 1)), 1)
    first, second = (between(FlowConfig().build(), *pictures) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_perception_measures_it_where_the_configuration_says_so() -> None:
    assert PipelineConfig().camera_motion is None
    config = PipelineConfig.model_validate({"camera_motion": "flow"})
    with Perception(config, Telemetry()) as perception:
        perception.detector = FindsNobody()
        first, second = frame(texture(), 0), frame(moved(texture(), turn(0, 4, 0)), 1)
        _, found = perception._detect(Batch([first, second], ended=["cam"]))
        assert found.camera_motion is not None
        assert found.camera_motion[0, 2] == pytest.approx(4, abs=0.5)
        (again,) = perception._detect(Batch([second]))
        assert again.camera_motion is None


class FindsNobody:
    description = "finds nobody"
    model_hash: str | None = None

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        return [NOBODY for _ in frames]

    def close(self) -> None:
        pass
