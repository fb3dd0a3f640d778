from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import SilhouetteError
from gait.sequences import read_sequences
from gait.silhouette import (
    Reason,
    SilhouetteLimits,
    Verdict,
    cut,
    judge,
    normalise,
    to_model_input,
)

WHY = {"has no data.": Reason.NO_PIXELS, "has no center.": Reason.NO_CENTRE}
NAMES = [
    "centre",
    "left_edge",
    "right_edge",
    "wide",
    "grey128",
    "two_blobs",
    "px39",
    "px40",
    "column0",
    "tall_thin",
    "empty",
    "walker",
]


def person(height: int = 100, width: int = 40) -> NDArray[np.bool_]:
    return np.ones((height, width), dtype=bool)


@pytest.mark.golden
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("name", NAMES)
def test_a_mask_is_normalised_bit_for_bit_as_in_the_release(
    name: str, size: int, golden_dir: Path, golden_rules: ModuleType
) -> None:
    told = json.loads((golden_dir / "pretreatment.json").read_text())[f"{name}_{size}"]
    result = normalise(golden_rules.raw_silhouette(name), size)
    if told["kept"]:
        expected = np.load(golden_dir / "pretreatment.npz")[f"{name}_{size}"]
        assert not isinstance(result, Reason)
        np.testing.assert_array_equal(result, expected)
    else:
        assert result is WHY[told["why"][0]]


def test_a_bool_mask_and_its_255_image_give_the_same_silhouette(golden_rules: ModuleType) -> None:
    image = golden_rules.raw_silhouette("walker")
    np.testing.assert_array_equal(normalise(image > 0), normalise(image))


@pytest.mark.parametrize("mask", [np.zeros((0, 5), bool), np.zeros((5, 0), bool), ~person()])
def test_a_mask_of_nothing_has_no_pixels(mask: NDArray[np.bool_]) -> None:
    assert normalise(mask) is Reason.NO_PIXELS
    assert judge(mask).reasons == (Reason.NO_PIXELS,)


def test_a_line_one_pixel_wide_is_no_person_instead_of_a_crash() -> None:
    assert normalise(person(400, 3)) is Reason.NO_CENTRE


@pytest.mark.parametrize("mask", [np.ones((9, 9)), np.ones((9, 9, 3), np.uint8)])
def test_an_array_that_is_no_mask_is_refused(mask: NDArray[np.uint8]) -> None:
    with pytest.raises(SilhouetteError, match="expected bool or uint8"):
        normalise(mask)


@pytest.mark.golden
def test_the_cut_and_the_scaling_agree_with_the_release(
    golden_dir: Path, golden_rules: ModuleType
) -> None:
    square = golden_rules.silhouettes(1, 3, 64, 64)[0] * np.uint8(255)
    expected = np.load(golden_dir / "transforms.npz")["cut_64x64"]
    np.testing.assert_array_equal(to_model_input(square), expected)
    assert cut(np.zeros((2, 128, 128), np.uint8)).shape == (2, 128, 88)
    assert cut(np.zeros((2, 100, 100), np.uint8)).shape == (2, 100, 80)


def test_grey_levels_become_the_nearest_numbers_to_grey_over_255() -> None:
    levels = np.arange(256, dtype=np.uint8)
    image = np.resize(levels, (1, 64, 44))
    for dtype in (np.float32, np.float64):
        result = to_model_input(image, dtype)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, (image / 255).astype(dtype))


def test_silhouettes_are_cut_once_and_never_twice() -> None:
    square = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    once = cut(square)
    np.testing.assert_array_equal(once, square[:, :, 10:54])
    assert cut(once) is once
    assert cut(np.zeros((2, 128, 88), np.uint8)).shape == (2, 128, 88)


@pytest.mark.parametrize("shape", [(64, 44), (2, 44, 64), (2, 64, 60), (2, 32, 32), (2, 64, 44, 1)])
def test_other_shapes_are_no_silhouettes(shape: tuple[int, ...]) -> None:
    with pytest.raises(SilhouetteError, match="64"):
        cut(np.zeros(shape, np.uint8))


def test_silhouettes_of_floats_are_refused() -> None:
    with pytest.raises(SilhouetteError, match="uint8"):
        cut(np.zeros((2, 64, 44), np.float32))  # type: ignore[arg-type]


def test_nothing_speaks_against_an_unobstructed_person_of_the_usual_size() -> None:
    verdict = judge(person(100, 40), previous_area=4000.0)
    assert verdict.is_good
    assert verdict.quality == 1.0
    assert verdict.area == 4000


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (Reason.NO_MASK, judge(None)),
        (Reason.TOUCHES_EDGE, judge(person(), at_edge=True)),
        (Reason.TOO_SMALL, judge(person(47, 20))),
        (Reason.ASPECT, judge(person(100, 10))),
        (Reason.ASPECT, judge(person(100, 90))),
        (Reason.AREA_JUMP, judge(person(), previous_area=2000.0)),
        (Reason.AREA_JUMP, judge(person(), previous_area=8000.0)),
        (Reason.OCCLUDED, judge(person(), overlap=0.5)),
    ],
)
def test_each_flaw_is_named_and_leaves_no_quality(reason: Reason, verdict: Verdict) -> None:
    assert verdict.reasons == (reason,)
    assert verdict.quality == 0.0


def test_several_flaws_are_all_named() -> None:
    verdict = judge(person(20, 40), at_edge=True, overlap=1.0, previous_area=1.0)
    assert verdict.reasons == (
        Reason.TOUCHES_EDGE,
        Reason.TOO_SMALL,
        Reason.ASPECT,
        Reason.AREA_JUMP,
        Reason.OCCLUDED,
    )


def test_the_aspect_is_the_persons_and_not_the_patchs() -> None:
    assert judge(np.pad(person(), ((0, 0), (80, 80)))).is_good


def test_quality_is_the_documented_product() -> None:
    verdict = judge(person(56, 20), overlap=0.25, previous_area=1000.0)
    assert verdict.quality == pytest.approx(56 / 64 * 0.75 * 1000 / 1120)


def test_limits_move_the_lines() -> None:
    strict = SilhouetteLimits(min_height=120)
    assert judge(person(), limits=strict).reasons == (Reason.TOO_SMALL,)


def test_live_masks_and_a_dataset_sample_give_identical_model_input(
    tmp_path: Path, golden_rules: ModuleType
) -> None:
    masks = [golden_rules.raw_silhouette(name) for name in ("walker", "centre", "left_edge")]
    sequence = np.stack([each for each in map(normalise, masks) if not isinstance(each, Reason)])
    sample = tmp_path / "000.pkl"
    sample.write_bytes(pickle.dumps(sequence))
    (read,) = read_sequences(sample)
    live = np.stack([cut(each[None])[0] for each in sequence])
    assert live.shape == (3, 64, 44)
    np.testing.assert_array_equal(to_model_input(read.silhouettes), to_model_input(live))


def test_silhouettes_and_tracklets_need_no_torch() -> None:
    code = (
        "import sys, gait.silhouette, gait.tracklet, gait.sequences, gait.distance\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
