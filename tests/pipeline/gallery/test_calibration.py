from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gait.errors import DataError
from pipeline.errors import ConfigError
from pipeline.gallery.calibration import Calibration, bundled_calibration, read_calibration
from pipeline.gallery.comparisons import GENUINE, IMPOSTOR, UNKNOWN, Comparisons
from pipeline.gallery.fitting import About, FitConfig, fit
from pipeline.gallery.searches import draw_searches, expected_calibration_error
from pipeline.stages.encode import read_card
from pipeline.weights import DEFAULT_ENCODER

ABOUT = About("a" * 64, "2026-01-01", "drawn points", "evaluation")
FAST = FitConfig(searches=2000, resamples=20)


def crowd(people: int = 60, each: int = 5, *, seed: int = 0, spread: float = 0.35) -> Comparisons:
    """Return tracklets that are points about their person's, farther off when quality is poor."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(people), each)
    qualities = rng.uniform(0.5, 1.0, len(groups))
    centres = rng.standard_normal((people, 6))[groups]
    noise = rng.standard_normal((len(groups), 6)) * (spread + 1.5 * (1 - qualities))[:, None]
    points = centres + noise
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    kinds = np.where(groups[:, None] == groups, GENUINE, IMPOSTOR).astype(np.int8)
    np.fill_diagonal(kinds, UNKNOWN)
    return Comparisons(distances, kinds, groups, qualities)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(crowd(), ABOUT, FAST)


@pytest.mark.parametrize("size", [1, 10, 40])
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_no_more_strangers_are_taken_for_somebody_than_was_asked_for(
    calibration: Calibration, size: int, rate: float
) -> None:
    others = crowd(seed=1)
    found = draw_searches(others, 4000, np.random.default_rng(2), people=(size, size))
    fpir, _ = found.misses(calibration, rate)
    assert fpir <= rate * 1.25 + 0.01  # the other crowd's people are other people
    if size == 1:
        assert fpir == pytest.approx(rate, rel=0.35)  # and no fewer, where the formula is exact


def test_probabilities_are_frequencies_for_people_nobody_fitted_on(
    calibration: Calibration,
) -> None:
    found = draw_searches(crowd(seed=3), 4000, np.random.default_rng(4))
    probable = found.probabilities(calibration)
    assert expected_calibration_error(probable, found.is_right) < 0.06
    base = found.is_right.mean()
    assert np.mean((probable - found.is_right) ** 2) < 0.8 * base * (1 - base)


def test_a_larger_gallery_or_a_lower_rate_asks_for_a_smaller_distance(
    calibration: Calibration,
) -> None:
    at = [calibration.threshold(0.1, n).distance for n in (1, 10, 100)]
    assert at == sorted(at, reverse=True)
    assert calibration.threshold(0.01, 10).distance < calibration.threshold(0.1, 10).distance


def test_a_threshold_lies_in_its_interval_and_gives_its_rate_back(calibration: Calibration) -> None:
    found = calibration.threshold(0.1, 20)
    assert found.low <= found.distance <= found.high
    assert calibration.false_positive_rate(found.distance, 20) == pytest.approx(0.1, rel=0.05)


def test_a_rate_too_low_to_have_been_measured_says_so(calibration: Calibration) -> None:
    assert calibration.threshold(0.1, 10).is_resolved
    assert not calibration.threshold(1e-6, 100_000).is_resolved


@given(
    distance=st.floats(0, 10),
    farther=st.floats(0, 5),
    quality=st.floats(0, 1) | st.none(),
    people=st.integers(1, 10_000),
)
def test_farther_or_among_more_people_is_never_more_probable(
    calibration: Calibration, distance: float, farther: float, quality: float | None, people: int
) -> None:
    def probability(distance: float, people: int) -> float:
        return calibration.probability(distance, runner_up=4.0, quality=quality, num_people=people)

    near = probability(distance, people)
    assert 0 <= probability(distance + farther, people) <= near <= 1
    assert probability(distance, people + 10) <= near


def test_a_small_distance_says_more_where_quality_is_good(calibration: Calibration) -> None:
    poor, good = (calibration.probability(0.5, quality=q, num_people=20) for q in (0.5, 1.0))
    assert good > poor


def test_the_same_seed_gives_the_same_calibration() -> None:
    small = crowd(12)
    assert fit(small, ABOUT, FAST) == fit(small, ABOUT, FAST)


def test_pairs_of_which_nobody_knows_change_nothing() -> None:
    known = crowd(20)
    kinds = known.kinds.copy()
    kinds[:5, -5:] = kinds[-5:, :5] = UNKNOWN
    fewer = fit(Comparisons(known.distances, kinds, known.groups, known.qualities), ABOUT, FAST)
    assert fewer.impostor_pairs == fit(known, ABOUT, FAST).impostor_pairs - 25


def test_too_few_people_are_refused_with_what_is_missing() -> None:
    with pytest.raises(DataError, match=r"at least 30 pairs .* found 6, 9 and 2"):
        fit(crowd(2, 3), ABOUT, FAST)


def test_a_calibration_is_the_same_when_read_back(calibration: Calibration, tmp_path: Path) -> None:
    calibration.write(tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json", model_hash="a" * 64) == calibration


def test_a_calibration_of_another_encoder_is_refused(
    calibration: Calibration, tmp_path: Path
) -> None:
    calibration.write(tmp_path / "c.json")
    with pytest.raises(
        ConfigError, match="made for model aaaaaaaaaaaa, this run uses bbbbbbbbbbbb"
    ):
        read_calibration(tmp_path / "c.json", model_hash="b" * 64)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-40],
        lambda text: text.replace('"slope":', '"slop":'),
        lambda text: text.replace("calibration-1", "calibration-9"),
        lambda text: text.replace('"margin": ', '"margin": -'),
        lambda text: "[" * 2_000_000,
    ],
)
def test_a_damaged_calibration_is_refused(
    calibration: Calibration, tmp_path: Path, spoil: Callable[[str], str]
) -> None:
    path = tmp_path / "c.json"
    path.write_text(spoil(calibration.model_dump_json(indent=1)))
    with pytest.raises(ConfigError, match=r"calibration .*c\.json: expected"):
        read_calibration(path, model_hash="a" * 64)


def test_a_calibration_that_is_no_json_is_told_as_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("detector: {}")
    with pytest.raises(ConfigError, match=r"damaged one \(the file: Invalid JSON"):
        read_calibration(tmp_path / "my.yaml", model_hash="a" * 64)


def test_a_missing_calibration_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trackletgait calibrate"):
        read_calibration(tmp_path / "none.json", model_hash="a" * 64)


def test_the_bundled_encoder_brings_its_own_and_others_bring_none() -> None:
    card = read_card(DEFAULT_ENCODER)
    assert card is not None
    found = bundled_calibration(card.model_hash)
    assert found is not None
    assert found.probability(1.0, runner_up=1.5, quality=0.95, num_people=10) > 0.5
    assert found.probability(1.6, runner_up=1.6, quality=0.95, num_people=10) < 0.2
    assert bundled_calibration("c" * 64) is None
