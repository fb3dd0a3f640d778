from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gait.errors import CheckpointError, ConfigError
from gait.model.checkpoint import save_checkpoint, save_weights
from gait.model.trackletgait import TrackletGait
from gait.training.config import TrainingConfig
from gait.training.start import first_network

MakeConfig = Callable[..., TrainingConfig]


@pytest.fixture
def trained(make_config: MakeConfig) -> TrackletGait:
    return TrackletGait.random(make_config().network, torch.Generator().manual_seed(7), 5)


def test_a_run_starts_from_the_weights_and_classes_it_is_given(
    make_config: MakeConfig, trained: TrackletGait, tmp_path: Path
) -> None:
    save_checkpoint(trained, tmp_path / "whole.safetensors")
    started = first_network(make_config(start=str(tmp_path / "whole.safetensors")), 5)
    expected = trained.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in started.state_dict().items())


@pytest.mark.parametrize("half", [False, True])
def test_a_head_that_is_not_given_or_does_not_fit_is_fresh(
    make_config: MakeConfig, trained: TrackletGait, tmp_path: Path, half: bool
) -> None:
    path = tmp_path / "other.safetensors"
    save_weights(trained, path, half=half) if half else save_checkpoint(trained, path)
    started, fresh = (
        first_network(config, 3) for config in (make_config(start=str(path)), make_config())
    )
    assert started.BNNecks is not None
    assert fresh.BNNecks is not None
    assert torch.equal(started.BNNecks.fc_bin, fresh.BNNecks.fc_bin)
    torch.testing.assert_close(started.FCs.fc_bin, trained.FCs.fc_bin, rtol=1e-3, atol=1e-5)


def test_weights_of_another_network_are_refused_with_what_differs(
    make_config: MakeConfig, trained: TrackletGait, tmp_path: Path
) -> None:
    save_checkpoint(trained, tmp_path / "tiny.safetensors")
    config = make_config(start=str(tmp_path / "tiny.safetensors"), network={"stem_channels": 5})
    with pytest.raises(ConfigError, match=r"tiny\.safetensors with stem_channels: "):
        first_network(config, 5)


def test_weights_that_are_not_there_are_named(make_config: MakeConfig) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors"):
        first_network(make_config(start="nowhere.safetensors"), 5)
