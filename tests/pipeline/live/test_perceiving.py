"""How the models of recorded files become those of a live run."""

from __future__ import annotations

import pytest

from gait.runtimes.machine import cores
from pipeline.config import PipelineConfig
from pipeline.live.perceiving import as_live


@pytest.mark.parametrize("step", ["detector", "segmenter"])
def test_each_step_uses_all_cores_and_none_runs_ahead(step: str) -> None:
    config = as_live(PipelineConfig())
    assert config.runtime.ahead == 0
    assert getattr(config, step).threads == cores()


@pytest.mark.parametrize("step", ["detector", "segmenter"])
def test_who_says_how_many_cores_a_step_may_use_is_obeyed(step: str) -> None:
    config = as_live(PipelineConfig.model_validate({step: {"threads": 1}}))
    assert getattr(config, step).threads == 1


def test_steps_without_threads_are_left_alone() -> None:
    given = PipelineConfig.model_validate({"detector": {"kind": "replay", "file": "boxes.txt"}})
    assert as_live(given).detector is given.detector
