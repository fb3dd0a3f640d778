"""Golden vectors and networks with the golden weights."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from gait.model.trackletgait import VARIANTS, TrackletGait

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def _rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_rules", GOLDEN / "golden_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _weights(variant: str) -> dict[str, torch.Tensor]:
    entries = json.loads((GOLDEN / f"state_dict_{variant}.json").read_text())["class_num_74"]
    return {
        entry["key"]: torch.from_numpy(np.asarray(_rules().weight(entry["key"], entry["shape"])))
        for entry in entries
    }


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def golden_rules() -> ModuleType:
    return _rules()


@pytest.fixture
def golden_weights() -> Callable[[str], dict[str, torch.Tensor]]:
    """State dict of a variant with 74 classes, float64, in the release's key order."""
    return lambda variant: dict(_weights(variant))


@pytest.fixture
def golden_model() -> Callable[[str, torch.dtype], TrackletGait]:
    """A network in eval mode with the golden weights."""

    def build(variant: str, dtype: torch.dtype) -> TrackletGait:
        model = TrackletGait.random(VARIANTS[variant], torch.Generator(), class_num=74)
        model.to(dtype).load_state_dict(_weights(variant), strict=True)
        return model.eval()

    return build


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # neighbours on the machine make more threads slower, not faster
