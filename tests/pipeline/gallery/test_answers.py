"""What a match says beside who it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from gait.tracklet import Tracklet
from pipeline.errors import ConfigError
from pipeline.gallery.calibration import Calibration, Cut, Line, ProbabilityMap
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.gallery import Gallery
from pipeline.values import Match
from tests.pipeline.gallery.matching import at, match, open_gallery

MakeTracklet = Callable[..., Tracklet]


def test_the_runner_up_is_the_nearest_person_it_is_not(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    first = match(gallery, tracklet(1, stream="door"), at(0))
    assert (first.runner_up, first.runner_up_distance) == (None, None)
    second = match(gallery, tracklet(1, stream="yard"), at(3))
    assert (second.runner_up, second.runner_up_distance) == ("person-001", second.distance)
    third = match(gallery, tracklet(1, stream="hall"), at(0.5))
    assert (third.identity, third.runner_up) == ("person-001", "person-002")
    assert third.runner_up_distance == pytest.approx(2.5, abs=1e-2)


def test_the_threshold_says_where_it_comes_from(calibration: Path, tracklet: MakeTracklet) -> None:
    def first(of_encoder: float, **given: float | str) -> Match:
        config = GalleryConfig.model_validate(given)
        with config.build(model_hash="a" * 64, threshold=of_encoder) as gallery:
            match(gallery, tracklet(1, stream="yard"), at(0))
            return match(gallery, tracklet(), at(0))

    assert first(7.0).threshold_name == "encoder"
    assert first(7.0, threshold=2.0).threshold_name == "config"
    rated = first(7.0, calibration=str(calibration), false_positive_rate=0.1)
    assert rated.threshold == pytest.approx(1.2)
    assert rated.threshold_name == "FPIR 10% of 1"
    assert 0.5 < (rated.probability or 0) < 1


def test_a_newcomer_is_as_probable_as_the_nearest_is_not(
    calibration: Path, tracklet: MakeTracklet
) -> None:
    config = GalleryConfig(threshold=1.0, calibration=str(calibration))
    with config.build(model_hash="a" * 64, threshold=None) as gallery:
        assert match(gallery, tracklet(1), at(0)).probability is None
        near, far = (
            match(gallery, tracklet(1, stream=f"yard {d}"), at(d)).probability for d in (1.5, 5)
        )
        assert near is not None
        assert far is not None
        assert 0 < near < far <= 1


def test_a_rate_without_a_calibration_or_beside_a_threshold_is_refused() -> None:
    with pytest.raises(ConfigError, match="trackletgait calibrate"):
        GalleryConfig(false_positive_rate=0.01).build(model_hash="a" * 64, threshold=1.0)
    with pytest.raises(ValidationError, match="got both"):
        GalleryConfig(false_positive_rate=0.01, threshold=1.0)


def test_a_match_is_explained_by_parts_exemplar_and_windows(tracklet: MakeTracklet) -> None:
    with open_gallery(explain=True) as gallery:
        assert match(gallery, tracklet(4, 6.0, stream="yard"), at(0)).explanation is None
        match(gallery, tracklet(1, 0.0), at(0.9))
        why = match(gallery, tracklet(1, 3.0), at(0.5)).explanation
    assert why is not None
    assert len(why.parts) == 16
    assert np.mean(why.parts) == pytest.approx(0.5, abs=1e-2)
    assert (why.exemplar, why.stream, why.times_s) == ("yard/4/60", "yard", (6.0, 8.9))
    windows = [(window.uid, round(window.distance, 1)) for window in why.windows]
    assert windows == [("door/1/0", 0.9), ("door/1/30", 0.5)]


def test_a_runner_up_whom_another_process_forgets_in_the_middle_is_not_told(
    tracklet: MakeTracklet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_gallery(explain=True) as gallery:
        match(gallery, tracklet(1, stream="yard"), at(0))
        match(gallery, tracklet(1, stream="hall"), at(3))
        add = gallery.store.add

        def late(*args: object, **more: object) -> object:
            gallery.store.forget(gallery.store.find("person-002"))
            return add(*args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(gallery.store, "add", late)
        answer = match(gallery, tracklet(1), at(0.5))
        assert (answer.identity, answer.runner_up) == ("person-001", None)


def test_an_exemplar_that_another_process_replaces_in_the_middle_explains_nothing(
    tracklet: MakeTracklet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_gallery(explain=True) as gallery:
        match(gallery, tracklet(4, stream="yard"), at(0))
        monkeypatch.setattr(gallery.store, "kept", lambda *_: iter(()))
        answer = match(gallery, tracklet(1), at(0.9))
        assert (answer.identity, answer.explanation) == ("person-001", None)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    line = Line(intercept=3.0, slope=1.0)
    made = Calibration(
        model_hash="a" * 64, made="2026-01-01", source="a test", kind="evaluation",
        genuine_pairs=100, impostor_pairs=100, people=10,
        cuts=(
            Cut(false_match_rate=0.01, distance=1.0, low=1.0, high=1.0),
            Cut(false_match_rate=0.1, distance=1.2, low=1.1, high=1.3),
        ),
        probabilities=ProbabilityMap(
            poor=line, good=line, qualities=None, margin=0.0, people=0.5, far=2.0
        ),
    )  # fmt: skip
    made.write(tmp_path / "calibration.json")
    return tmp_path / "calibration.json"
