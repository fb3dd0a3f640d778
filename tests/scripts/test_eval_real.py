"""Evaluating on real video: which encoders are judged."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gait.errors import ConfigError
from pipeline.errors import ModelError

SCRIPT = Path(__file__).parents[2] / "scripts" / "eval_real.py"


@pytest.fixture(scope="module")
def eval_real() -> ModuleType:
    spec = importlib.util.spec_from_file_location("eval_real", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["eval_real"] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


def test_encoders_are_called_by_bundled_name_or_path(eval_real: ModuleType) -> None:
    found = eval_real.encoders(["trackletgait-nano"], ["nano:1"], "cpu")
    assert list(found) == ["nano, random weights (seed 1)", "**trackletgait-nano**"]
    assert [each.encoder.is_trained for each in found.values()] == [False, True]


@pytest.mark.parametrize("random", ["banana:0", "nano:x"])
def test_a_random_network_that_cannot_be_is_told_by_its_name(
    eval_real: ModuleType, random: str
) -> None:
    with pytest.raises(ConfigError, match=f"--random {random}"):
        eval_real.encoders([], [random], "cpu")


def test_a_mistyped_encoder_is_told_the_encoders(eval_real: ModuleType) -> None:
    with pytest.raises(ModelError, match="did you mean trackletgait-nano"):
        eval_real.encoders(["tracklet-nano"], [], "cpu")
