from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import DataError
from gait.synthetic.bodies import Bodies
from gait.synthetic.camera import Camera
from gait.synthetic.mask_errors import MaskErrors
from gait.synthetic.motion import walk
from gait.synthetic.noise import BANDS, Lumps, SegmentationNoise
from gait.synthetic.render import silhouettes
from gait.synthetic.style import Style

Masks = NDArray[np.uint8]

NOTHING = Lumps(rate=0)
CLEAN = SegmentationNoise(
    fade=0, unevenness=0, rounding=0, webbing=0, swell_spread=0, jitter=(0.0,) * BANDS,
    flicker=0, bites=NOTHING, blobs=NOTHING, wrong=0, blocky=0, whole=False,
)  # fmt: skip


def changed(**values: object) -> SegmentationNoise:
    return SegmentationNoise.model_validate({**CLEAN.model_dump(), **values})


def walker(seed: int, height_px: float, frames: int = 16) -> Masks:
    """Somebody who walks past at 20 frames a second."""
    rng = np.random.default_rng(seed)
    body = Bodies.load().sample(rng)
    times = np.arange(frames) / 20
    motion = walk(Style.sample(rng), leg_length_m=body.leg_length_m, time_s=times, rng=rng)
    points = body.posed(motion)
    points[..., :2] -= motion.position[:, None]
    camera = Camera.around((0, 0, body.height_m / 2), rng.uniform(0, 6), 0.2, 10.0)
    pixels = camera.project(points)[0]
    pixels = pixels * np.float32(height_px / np.ptp(pixels[0, :, 1]))
    low, margin = pixels.min(axis=(0, 1)), 0.15 * height_px
    width, height = np.ceil(np.ptp(pixels, axis=(0, 1)) + 2 * margin).astype(int).tolist()
    return silhouettes(pixels - low + np.float32(margin), body.faces, (height, width))


@pytest.fixture(scope="module")
def masks() -> Masks:
    return walker(0, 100)


def post(frames: int = 4, height: int = 200, width: int = 50) -> Masks:
    """Something upright with a straight outline."""
    image = np.zeros((frames, height + 60, width + 200), np.uint8)
    image[:, 30:-30, 100:-100] = 255
    return image


def mean_iou(exact: Masks, spoilt: Masks) -> float:
    a, b = exact > 0, spoilt > 0
    return float(((a & b).sum(axis=(1, 2)) / (a | b).sum(axis=(1, 2))).mean())


def test_strength_zero_changes_nothing(masks: Masks) -> None:
    calm = SegmentationNoise.learnt().model_copy(update={"strength": 0.0})
    np.testing.assert_array_equal(calm.apply(masks, np.random.default_rng(0)), masks)


def test_noise_without_any_of_its_parts_changes_nothing(masks: Masks) -> None:
    np.testing.assert_array_equal(CLEAN.apply(masks, np.random.default_rng(0)), masks)


def test_the_same_generator_spoils_alike_and_another_does_not(masks: Masks) -> None:
    first, again, other = (
        SegmentationNoise.learnt().apply(masks, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_more_strength_spoils_more(masks: Masks) -> None:
    learnt = SegmentationNoise.learnt()
    overlap = [
        mean_iou(
            masks,
            learnt.model_copy(update={"strength": strength}).apply(masks, np.random.default_rng(0)),
        )
        for strength in (0.5, 1.0, 2.0)
    ]
    assert overlap == sorted(overlap, reverse=True)


def test_the_learnt_noise_spoils_as_much_as_the_segmenter_did() -> None:
    """IoU of our segmenter with the exact masks at these heights: see docs/synthetic.md.

    Bare bodies are thinner than the clothed ones measured there, so the same shift costs more.
    """
    usual = SegmentationNoise.learnt().model_copy(update={"unevenness": 0.0})
    for height, expected in ((75, 0.88), (110, 0.91), (165, 0.95)):
        walks = [walker(seed, height, frames=10) for seed in range(4)]
        spoilt = [
            usual.apply(each, np.random.default_rng(i), fps=20) for i, each in enumerate(walks)
        ]
        overlap = [mean_iou(a, b) for a, b in zip(walks, spoilt, strict=True)]
        assert np.mean(overlap) == pytest.approx(expected, abs=0.05)
        assert all(each.any(axis=(1, 2)).all() for each in spoilt)
        centres = [np.argwhere(each[0]).mean(axis=0) for pair in (walks, spoilt) for each in pair]
        np.testing.assert_allclose(centres[:4], centres[4:], atol=0.05 * height)


def test_the_outline_swims_by_what_is_asked() -> None:
    spoilt = changed(jitter=(0.03,) * BANDS, grain=0.1, lasting=0.0).apply(
        post(frames=60), np.random.default_rng(0)
    )
    left = (spoilt[:, 50:-50, :125] > 0).sum(axis=2) - 25
    assert left.std() == pytest.approx(0.03 * 200, rel=0.15)
    assert left.mean() == pytest.approx(0, abs=1)


def test_swelling_grows_where_it_is_asked() -> None:
    swell = (0.0,) * 4 + (0.02,) * 4
    spoilt = changed(swell=swell).apply(post(), np.random.default_rng(0)) > 0
    assert spoilt[0, 60].sum() == 50  # 30 rows below the top of 200
    assert spoilt[0, 190].sum() == 50 + 2 * 0.02 * 200


def test_near_people_are_spoilt_by_as_many_pixels_as_far_ones() -> None:
    fading = changed(swell=(0.02,) * BANDS, fade=1.0)
    for height in (100, 200):
        spoilt = fading.apply(post(height=height), np.random.default_rng(0))
        assert (spoilt[0, height // 2] > 0).sum() == 50 + 2 * 0.02 * 100


def test_a_longer_memory_repeats_the_errors_of_the_frame_before(masks: Masks) -> None:
    same = []
    for memory in (0.02, 0.5):
        noise = changed(jitter=(0.02,) * BANDS, lasting=0.0, memory_s=memory)
        wrong = (noise.apply(masks, np.random.default_rng(0)) > 0) ^ (masks > 0)
        same.append((wrong[1:] & wrong[:-1]).sum() / (wrong[1:] | wrong[:-1]).sum())
    assert same[1] > 1.5 * same[0]


def test_memory_is_time_and_not_frames() -> None:
    """Over T seconds as much begins at any frame rate: 40 frames a second see it twice as often."""
    bites = Lumps(rate=5.0, radius=0.1, inside=0.5, duration_s=0.2)
    share = []
    for fps in (10.0, 40.0):
        long = post(frames=600, height=40, width=10)[:, 20:-20, 90:-90]
        spoilt = changed(bites=bites).apply(long, np.random.default_rng(0), fps=fps)
        share.append((spoilt != long).any(axis=(1, 2)).mean())
    assert share[0] == pytest.approx(share[1], abs=0.12)


def test_bites_only_take_and_blobs_only_add(masks: Masks) -> None:
    lumps = Lumps(rate=60.0, radius=0.06)
    bitten = changed(bites=lumps).apply(masks, np.random.default_rng(0)) > 0
    stuck = changed(blobs=lumps).apply(masks, np.random.default_rng(0)) > 0
    person = masks > 0
    assert not (bitten & ~person).any()
    assert bitten.sum() < person.sum()
    assert not (person & ~stuck).any()
    assert stuck.sum() > person.sum()


@pytest.mark.parametrize("band", [0, 7])
def test_lumps_lie_where_they_are_asked(masks: Masks, band: int) -> None:
    where = tuple(float(each == band) for each in range(BANDS))
    lumps = Lumps(rate=100.0, radius=0.02, spread=0.0, stretch=1.0, where=where)
    wrong = changed(blobs=lumps).apply(masks, np.random.default_rng(0)) != masks
    rows = np.flatnonzero(wrong.any(axis=(0, 2)))
    person = np.flatnonzero(masks.any(axis=(0, 2)))
    share = (rows - person[0]) / np.ptp(person)
    assert band / BANDS - 0.06 < share.min()
    assert share.max() < (band + 1) / BANDS + 0.06


def test_webbing_fills_a_gap_and_rounding_loses_a_thin_part() -> None:
    comb = post(width=60)
    comb[:, 100:230, 128:132] = 0  # a gap of 0.02 heights between two legs
    comb[:, 60:70, 160:200] = 255  # an arm of 0.05 heights
    webbed = changed(webbing=0.04).apply(comb, np.random.default_rng(0)) > 0
    rounded = changed(rounding=0.04).apply(comb, np.random.default_rng(0)) > 0
    assert webbed[0, 150:200, 130].all()
    assert webbed[0, 65, 170]
    assert not rounded[0, 65, 180]


def test_blocky_masks_are_made_of_squares() -> None:
    spoilt = changed(blocky=1.0, block=0.05).apply(post(), np.random.default_rng(0))
    steps = np.diff(spoilt[0].astype(int), axis=1) != 0
    assert set(np.flatnonzero(steps.any(axis=0)) % 10 - 9) == {0}


def test_only_the_largest_piece_is_kept(masks: Masks) -> None:
    cut = masks.copy()
    cut[:, 70:73] = 0
    whole = changed(whole=True).apply(cut, np.random.default_rng(0))
    assert all(cv2.connectedComponents(each)[0] == 2 for each in whole)
    assert not whole[:, 73:].any()


def test_an_empty_frame_stays_empty_and_so_does_an_empty_walk(masks: Masks) -> None:
    gap = masks.copy()
    gap[5] = 0
    spoilt = SegmentationNoise.learnt().apply(gap, np.random.default_rng(0))
    assert not spoilt[5].any()
    assert spoilt[4].any()
    empty = np.zeros_like(masks)
    np.testing.assert_array_equal(
        SegmentationNoise.learnt().apply(empty, np.random.default_rng(0)), empty
    )


def test_bad_masks_and_frame_rates_are_refused(masks: Masks) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected uint8"):
        CLEAN.apply(masks.astype(np.float32), rng)
    with pytest.raises(ValueError, match=r"shape \(T, H, W\)"):
        CLEAN.apply(masks[0], rng)
    with pytest.raises(ValueError, match="frame rate above 0"):
        CLEAN.apply(masks, rng, fps=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"strenght": 1}', "strenght"),
        ('{"strength": "1"}', "valid number"),
        ('{"swell": [0, 0]}', "at least 8"),
        ('{"swell": [0, 0, 0, 0, 0, 0, 0, NaN]}', "finite"),
        ('{"bites": {"rate": Infinity}}', "finite"),
        ('{"blobs": {"duration_s": 1e300}}', "less than or equal"),
        ('{"grain": 1e-9}', "greater than or equal"),
        ("{", "JSON"),
        ("\xff", "JSON"),
    ],
)
def test_damaged_numbers_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "noise.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        SegmentationNoise.learnt(path)


def test_missing_numbers_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fit_noise"):
        SegmentationNoise.learnt(tmp_path / "noise.json")


def test_the_numbers_that_ship_name_every_field() -> None:
    learnt = SegmentationNoise.learnt()
    assert learnt.model_fields_set == set(SegmentationNoise.model_fields)
    assert learnt.bites.model_fields_set == set(Lumps.model_fields)
    assert math.isclose(learnt.strength, 1.0)


def test_errors_of_exact_masks_are_none(masks: Masks) -> None:
    errors = MaskErrors.between([(masks, masks)])
    assert errors.iou == errors.area_ratio == errors.perimeter_ratio == 1.0
    assert errors.with_missing == errors.with_extra == errors.holes == errors.thin_lost == 0.0
    assert not errors.swell.any()
    assert not errors.jitter.any()


def test_errors_are_measured_as_they_were_made() -> None:
    exact = post(frames=10)
    spoilt = exact.copy()
    spoilt[:, :, 98:100] = exact[:, :, 100:102]  # two pixels wider on one side
    spoilt[:, 30:50] = 0  # 20 rows of the head gone
    spoilt[:5, 100:110, 150:170] = 255  # in half the frames 10 x 20 pixels stick out
    errors = MaskErrors.between([(exact, spoilt)])
    assert errors.swell[6] == pytest.approx(0.005, rel=0.1)  # two pixels of 200 on one of two sides
    assert errors.with_missing == 1.0
    assert errors.missing[0] == pytest.approx(1000 * (20 - 6) * 50 / 200**2, rel=0.1)
    assert errors.with_extra == 0.5
    assert errors.extra_area == pytest.approx(1000 * 10 * (20 - 6) / 200**2, rel=0.1)
    assert errors.same_missing == 1.0
    with pytest.raises(ValueError, match="at least 8 frames"):
        MaskErrors.between([(exact, np.zeros_like(exact))])
