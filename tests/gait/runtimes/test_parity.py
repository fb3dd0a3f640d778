"""The gate before which every runtime must reproduce torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gait.model.folded import fold
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.runtimes import parity
from gait.runtimes.cache import CACHE_VARIABLE
from gait.runtimes.parity import Candidate, check, judge, known_verdicts
from gait.runtimes.rank1 import EvaluationSet
from gait.runtimes.reference import reference_tracklets
from gait.runtimes.runtime import Precision, RuntimeName
from gait.runtimes.torch_runtime import TorchRuntime

TINY = TrackletGaitConfig(
    name="tiny", blocks=(0, 1, 1, 0), channels=(16, 16, 16, 16), stem_channels=4
)


@pytest.fixture(scope="module")
def model() -> TrackletGait:
    return TrackletGait.random(TINY, torch.Generator().manual_seed(0)).eval()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    few = reference_tracklets()[:6]  # the gate has more; what is tested here does not need them
    monkeypatch.setattr(parity, "reference_tracklets", lambda: few)


class Doubtful:
    """Torch's embeddings, with something added; counts its calls."""

    name: RuntimeName = "tensorrt"
    takes_padding = False

    def __init__(self, model: TrackletGait, error: float, precision: Precision = "float16") -> None:
        self._torch = TorchRuntime(fold(model))
        self._error = error
        self.precision = precision
        self.description = f"{precision} by doubtful 1.0 on a test"
        self.calls = 0

    def run(
        self, silhouettes_NTHW: NDArray[Any], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[Any]:
        self.calls += 1
        embeddings = self._torch.run(silhouettes_NTHW, lengths_N)
        noise = np.random.default_rng(0).normal(size=embeddings.shape[1:])
        return (embeddings + self._error * np.abs(embeddings).mean() * noise).astype(np.float32)

    def close(self) -> None:
        pass


def candidate(runtime: Doubtful) -> Candidate:
    return Candidate(runtime, "abc", "cpu")


def test_the_folded_network_passes_within_rounding(model: TrackletGait) -> None:
    verdict = check(TorchRuntime(fold(model)), model)
    assert verdict.passed
    assert verdict.min_cosine > 0.99999
    assert verdict.max_difference < 5e-5
    assert verdict.num_tracklets == 6


def test_wrong_numbers_are_refused_with_figures(model: TrackletGait) -> None:
    assert check(Doubtful(model, 0.001), model).passed
    verdict = check(Doubtful(model, 0.3), model)
    assert not verdict.passed
    assert verdict.min_cosine < 0.999
    assert "at least 0.999" in verdict.reason


def test_a_verdict_is_read_from_the_cache_the_second_time(model: TrackletGait) -> None:
    first = Doubtful(model, 0.001)
    verdict = judge(candidate(first), model)
    again = Doubtful(model, 0.001)
    assert judge(candidate(again), model) == verdict
    assert first.calls > 0
    assert again.calls == 0
    assert known_verdicts() == [verdict]


@pytest.mark.parametrize(
    "other",
    [
        lambda each: replace(each, model_hash="abd"),
        lambda each: replace(each, graph="another file"),
        lambda each: setattr(each.runtime, "description", "float16 by doubtful 1.1") or each,
        lambda each: setattr(each.runtime, "takes_padding", True) or each,
    ],
    ids=["network", "graph", "version", "padding"],
)
def test_the_verdict_on_another_is_not_used(model: TrackletGait, other: Any) -> None:
    judge(candidate(Doubtful(model, 0.001)), model)
    changed = other(candidate(Doubtful(model, 0.3)))
    assert not judge(changed, model).passed


def test_the_verdict_of_another_machine_is_not_used(
    model: TrackletGait, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(candidate(Doubtful(model, 0.001)), model)
    monkeypatch.setattr(parity, "describe_machine", lambda device: "another processor")
    again = Doubtful(model, 0.001)
    judge(candidate(again), model)
    assert again.calls > 0


def test_a_damaged_verdict_is_made_again(model: TrackletGait, tmp_path: Path) -> None:
    judge(candidate(Doubtful(model, 0.001)), model)
    (path,) = (tmp_path / "cache").glob("verdict-*.json")
    path.write_text('{"passed": true}')
    again = Doubtful(model, 0.3)
    assert not judge(candidate(again), model).passed
    assert again.calls > 0


def halves(num_people: int = 4) -> EvaluationSet:
    """Walks that even random weights tell apart: bars of grey."""
    walks = []
    for person in range(num_people):
        walk = np.zeros((4, 64, 44), np.uint8)
        walk[:, 10 * person : 10 * person + 15] = 255
        walks += [walk[:2], walk[2:]]
    return EvaluationSet(tuple(walks), np.repeat(np.arange(num_people), 2))


def test_int8_must_also_recognise_whom_float32_recognises(
    model: TrackletGait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "evaluation_set", lambda on_step: halves())
    verdict = check(Doubtful(model, 0.001, "int8"), model)
    assert verdict.passed
    assert verdict.rank1 == verdict.rank1_float32 == 1.0
    assert "Rank-1 100.00% against 100.00%" in verdict.figures

    class Forgetful(Doubtful):
        def run(
            self, silhouettes_NTHW: NDArray[Any], lengths_N: NDArray[np.int64] | None
        ) -> NDArray[Any]:
            embeddings = super().run(silhouettes_NTHW, lengths_N)
            is_tracklet = silhouettes_NTHW.max() > 0 and silhouettes_NTHW.shape[1] != 2
            return embeddings if is_tracklet else np.roll(embeddings, 1, axis=0)

    monkeypatch.setattr(parity, "SMALLEST_COSINE", -1.0)
    verdict = check(Forgetful(model, 0.0, "int8"), model)
    assert not verdict.passed
    assert verdict.rank1 == 0.0
    assert "lose at most 0.2% of Rank-1" in verdict.reason


def test_what_a_step_raises_ends_the_trial(model: TrackletGait) -> None:
    class Enough(Exception):
        pass

    def on_step() -> None:
        raise Enough

    runtime = Doubtful(model, 0.0)
    with pytest.raises(Enough):
        judge(candidate(runtime), model, on_step=on_step)
    assert runtime.calls == 0
    assert known_verdicts() == []
