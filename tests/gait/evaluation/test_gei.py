from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import SilhouetteError
from gait.evaluation.gei import energy_images, gei_iou, gei_l2


@pytest.fixture
def sequences() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (length, 64, 44), dtype=np.uint8) for length in (3, 5, 1)]


def test_distances_are_those_of_a_naive_loop(sequences: list[NDArray[np.uint8]]) -> None:
    probes, gallery = sequences[:2], sequences[1:]
    l2, iou = gei_l2(probes, gallery), gei_iou(probes, gallery)
    for i, probe in enumerate(probes):
        for j, other in enumerate(gallery):
            squares = smaller = larger = 0.0
            for y in range(64):
                for x in range(44):
                    a = sum(int(frame[y, x]) for frame in probe) / len(probe) / 255
                    b = sum(int(frame[y, x]) for frame in other) / len(other) / 255
                    squares += (a - b) ** 2
                    smaller, larger = smaller + min(a, b), larger + max(a, b)
            assert l2[i, j] == pytest.approx(squares**0.5, abs=1e-9)
            assert iou[i, j] == pytest.approx(1 - smaller / larger, abs=1e-9)


def test_the_same_shape_is_at_distance_0_whatever_its_frames(
    sequences: list[NDArray[np.uint8]],
) -> None:
    twice = np.concatenate([sequences[0], sequences[0][::-1]])
    assert gei_l2([twice], [sequences[0]])[0, 0] == pytest.approx(0, abs=1e-12)
    assert gei_iou([twice], [sequences[0]])[0, 0] == pytest.approx(0, abs=1e-12)


def test_shapes_without_a_common_pixel_do_not_overlap() -> None:
    left, right = np.zeros((2, 1, 64, 44), dtype=np.uint8)
    left[:, :, :20], right[:, :, 24:] = 255, 255
    assert gei_iou([left], [right])[0, 0] == 1


def test_square_silhouettes_are_cut_as_the_network_cuts_them() -> None:
    square = np.zeros((2, 64, 64), dtype=np.uint8)
    square[:, :, 12:30] = 200
    assert np.array_equal(energy_images([square]), energy_images([square[:, :, 10:54]]))


def test_black_silhouettes_overlap_nothing() -> None:
    black = np.zeros((2, 64, 44), dtype=np.uint8)
    assert gei_iou([black], [black])[0, 0] == 1


def test_no_silhouettes_and_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="sequence 1: expected at least one"):
        energy_images([np.zeros((1, 64, 44), np.uint8), np.zeros((0, 64, 44), np.uint8)])
    with pytest.raises(SilhouetteError, match="got 30x30"):
        energy_images([np.zeros((1, 30, 30), np.uint8)])
