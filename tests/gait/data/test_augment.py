from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from gait.data.augment import AugmentConfig, Draws, rotate, stretch
from gait.errors import SilhouetteError
from gait.silhouette import to_model_input

NEVER = AugmentConfig(perspective=0, mirror=0, rotation=0)


def _silhouettes(rules: ModuleType, num: int = 4, width: int = 64) -> torch.Tensor:
    """Sequences (N, 3, 64, width) with the grey edges that resizing leaves."""
    sharp = rules.silhouettes(num, 3, 64, width).reshape(-1, 64, width) * np.uint8(255)
    grey = np.stack([cv2.GaussianBlur(each, (3, 3), 0.7) for each in sharp])
    return torch.from_numpy(grey.reshape(num, 3, 64, width))


def _draws(num: int, **changed: Any) -> Draws:
    nothing = np.zeros(num, dtype=bool)
    same: dict[str, Any] = {
        "perspective": nothing,
        "corners": np.tile([0, 63, 0, 63], (num, 1)),
        "mirror": nothing,
        "rotation": nothing,
        "degrees": np.zeros(num),
    }
    return Draws(**same | changed)


def _by_opencv(
    silhouettes: NDArray[np.uint8], draws: Draws, row: int, pivot: tuple[int, int]
) -> NDArray[np.float64]:
    """One sequence as the release treats it: frame by frame, in its order of transforms."""
    height, width = silhouettes.shape[1:]
    top_left, top_right, bottom_left, bottom_right = draws.corners[row].tolist()
    source = [[top_left, 0], [top_right, 0], [bottom_right, height], [bottom_left, height]]
    target = [[0, 0], [width, 0], [width, height], [0, height]]
    plane = cv2.getPerspectiveTransform(np.array(source, np.float32), np.array(target, np.float32))
    turn = cv2.getRotationMatrix2D(pivot, float(draws.degrees[row]), 1)
    frames = []
    for frame in silhouettes:
        if draws.perspective[row]:
            frame = cv2.warpPerspective(frame, plane, (width, height)).astype(np.uint8)
        changed = frame[:, (width - 44) // 2 : (width + 44) // 2] / 255
        if draws.mirror[row]:
            changed = changed[:, ::-1]
        if draws.rotation[row]:
            changed = cv2.warpAffine(np.ascontiguousarray(changed), turn, (44, 64))
        frames.append(changed)
    return np.stack(frames)


def _golden_draw(golden_dir: Path, name: str) -> list[float]:
    """Return the values drawn after the first, which decides whether anything happens."""
    told = json.loads((golden_dir / "transforms_draws.json").read_text())[name]
    return [value for *_, value in told[1:]]


@pytest.mark.golden
@pytest.mark.parametrize("width", [64, 44])
@pytest.mark.parametrize("seed", [0, 1])
def test_perspective_agrees_with_the_release(
    width: int, seed: int, golden_dir: Path, golden_rules: ModuleType
) -> None:
    name = f"perspective{width}_seed{seed}"
    square = torch.from_numpy(golden_rules.silhouettes(1, 3, 64, 64) * 255.0).float()
    middle = slice((64 - width) // 2, (64 + width) // 2)
    corners = np.array([_golden_draw(golden_dir, name)], dtype=np.int64)
    result = stretch(square[..., middle], corners)[0]
    np.testing.assert_array_equal(result, np.load(golden_dir / "transforms.npz")[name])


@pytest.mark.golden
@pytest.mark.parametrize("seed", [0, 1])
def test_rotation_agrees_with_the_release(
    seed: int, golden_dir: Path, golden_rules: ModuleType
) -> None:
    name = f"rotate_seed{seed}"
    square = torch.from_numpy(golden_rules.silhouettes(1, 3, 64, 64) * np.uint8(255))
    degrees = np.array(_golden_draw(golden_dir, name))
    result = NEVER.build()(square, _draws(1, rotation=np.array([True]), degrees=degrees))[0]
    expected = np.load(golden_dir / "transforms.npz")[name]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.golden
def test_cutting_and_mirroring_agree_with_the_release(
    golden_dir: Path, golden_rules: ModuleType
) -> None:
    golden = np.load(golden_dir / "transforms.npz")
    square = torch.from_numpy(golden_rules.silhouettes(1, 3, 64, 64) * np.uint8(255))
    np.testing.assert_array_equal(NEVER.build()(square, _draws(1))[0], golden["cut_64x64"])
    mirrored = NEVER.build()(square, _draws(1, mirror=np.array([True])))[0]
    expected = to_model_input(np.ascontiguousarray(golden["flip"]))
    np.testing.assert_array_equal(mirrored, expected)


@pytest.mark.parametrize("width", [64, 44])
@pytest.mark.parametrize(("pivot", "point"), [("release", (32, 22)), ("centre", (22, 32))])
def test_a_batch_equals_opencv_frame_by_frame(
    width: int, pivot: str, point: tuple[int, int], golden_rules: ModuleType
) -> None:
    silhouettes = _silhouettes(golden_rules, num=60, width=width)
    often = {"perspective": 0.6, "mirror": 0.5, "rotation": 0.6, "pivot": pivot}
    augmentation = AugmentConfig.model_validate(often).build()
    draws = augmentation.draw(60, width, np.random.default_rng(0))
    result = augmentation(silhouettes, draws).numpy()
    assert result.shape == (60, 3, 64, 44)
    assert result.dtype == np.float32
    for row, sequence in enumerate(silhouettes.numpy()):
        expected = _by_opencv(sequence, draws, row, point)
        np.testing.assert_allclose(result[row], expected, rtol=0, atol=1e-6, err_msg=str(row))


@pytest.mark.gpu
def test_an_accelerator_gives_what_the_cpu_gives(golden_rules: ModuleType) -> None:
    silhouettes = _silhouettes(golden_rules, num=60)
    augmentation = AugmentConfig(perspective=0.6, mirror=0.5, rotation=0.6).build()
    draws = augmentation.draw(60, 64, np.random.default_rng(0))
    expected = augmentation(silhouettes, draws)
    result = augmentation(silhouettes.cuda(), draws).cpu()
    # a fused multiply-add may round a position halfway between two 1/32 pixels the other way
    assert ((result - expected).abs() > 1e-6).double().mean() < 1e-4


def test_rotations_by_any_angle_equal_opencv(golden_rules: ModuleType) -> None:
    silhouettes = _silhouettes(golden_rules, num=181, width=44)
    every = np.ones(181, dtype=bool)
    degrees = np.linspace(-90, 90, 181)
    turned = rotate(silhouettes.float() / 255, degrees, (32, 22)).numpy()
    draws = _draws(181, rotation=every, degrees=degrees)
    for row, sequence in enumerate(silhouettes.numpy()):
        expected = _by_opencv(sequence, draws, row, (32, 22))
        np.testing.assert_allclose(turned[row], expected, rtol=0, atol=1e-6)


def test_a_draw_is_shared_by_all_frames_of_a_sequence(golden_rules: ModuleType) -> None:
    still = _silhouettes(golden_rules)[:, :1].expand(-1, 5, -1, -1)
    always = AugmentConfig(perspective=1, mirror=1, rotation=1).build()
    result = always(still, np.random.default_rng(0))
    assert torch.equal(result, result[:, :1].expand_as(result))
    assert not torch.equal(result[0], result[1])


def test_without_augmentation_the_input_is_that_of_evaluation_bit_for_bit() -> None:
    levels = torch.arange(256, dtype=torch.uint8).repeat(2 * 64 * 64 // 256).reshape(1, 2, 64, 64)
    result = NEVER.build()(levels, np.random.default_rng(0))[0]
    np.testing.assert_array_equal(result, to_model_input(levels[0].numpy()))


def test_the_input_is_left_as_it_was(golden_rules: ModuleType) -> None:
    for width in (64, 44):
        silhouettes = _silhouettes(golden_rules, width=width)
        before = silhouettes.clone()
        AugmentConfig(perspective=1, mirror=1, rotation=1).build()(
            silhouettes, np.random.default_rng(0)
        )
        assert torch.equal(silhouettes, before)


def test_the_same_generator_gives_the_same_batch(golden_rules: ModuleType) -> None:
    silhouettes, augmentation = _silhouettes(golden_rules, num=20), AugmentConfig().build()
    first, again, other = (augmentation(silhouettes, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("width", "margin"), [(44, 10), (64, 10), (88, 20), (128, 20)])
def test_draws_have_the_releases_ranges_and_probabilities(width: int, margin: int) -> None:
    draws = AugmentConfig().build().draw(20_000, width, np.random.default_rng(0))
    for share in (draws.perspective, draws.mirror, draws.rotation):
        assert share.mean() == pytest.approx(0.2, abs=0.01)
    far = width - margin
    assert draws.corners.min(axis=0).tolist() == [0, far, 0, far]
    assert draws.corners.max(axis=0).tolist() == [margin - 1, width - 1, margin - 1, width - 1]
    assert -10 <= draws.degrees.min() < -9.9
    assert 9.9 < draws.degrees.max() <= 10
    # two at once are drawn independently
    assert (draws.perspective & draws.rotation).mean() == pytest.approx(0.04, abs=0.01)


def test_one_probability_changes_no_other_draw() -> None:
    common, often = (
        AugmentConfig(perspective=p).build().draw(50, 64, np.random.default_rng(0)) for p in (0, 1)
    )
    assert common.mirror.tolist() == often.mirror.tolist()
    assert common.degrees.tolist() == often.degrees.tolist()


def test_a_rotation_is_counter_clockwise_about_its_pivot() -> None:
    image = torch.zeros(1, 1, 64, 44)
    image[0, 0, 30, 32] = 1  # eight pixels below the pivot
    turned = rotate(image, np.array([90.0]), (32, 22))[0, 0]
    assert turned[22, 40].item() == pytest.approx(1)  # and now to the right of it
    assert math.isclose(turned.sum().item(), 1, abs_tol=1e-6)


def test_what_is_no_batch_of_silhouettes_is_refused() -> None:
    augmentation, rng = AugmentConfig().build(), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"expected uint8 .*, got torch.float32"):
        augmentation(torch.zeros(2, 3, 64, 64), rng)
    with pytest.raises(ValueError, match=r"got torch.uint8 of shape \(3, 64, 64\)"):
        augmentation(torch.zeros(3, 64, 64, dtype=torch.uint8), rng)
    with pytest.raises(SilhouetteError, match="got 64x45"):
        augmentation(torch.zeros(2, 3, 64, 45, dtype=torch.uint8), rng)
    with pytest.raises(ValueError, match="draws: expected 2, one a sequence, got 3"):
        augmentation(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), _draws(3))


@pytest.mark.parametrize("wrong", [{"perspective": 1.1}, {"mirror": -0.1}, {"pivot": "middle"}])
def test_settings_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AugmentConfig.model_validate(wrong)
