"""One step in training mode against the release: loss, every gradient, every buffer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from gait.losses.cross_entropy import CrossEntropyConfig
from gait.losses.triplet import TripletConfig
from gait.model.trackletgait import TrackletGait

Build = Callable[[str, torch.dtype], TrackletGait]

DTYPES = {"f64": torch.float64, "f32": torch.float32}
# Relative to a gradient's length. A bias before a batch norm has no gradient but rounding noise.
RTOL = {"f64": 1e-8, "f32": 1e-3}
VANISHING = {"f64": 1e-9, "f32": 1e-2}
OUTPUT = {
    ("small", "f64"): {"rtol": 0.0, "atol": 1e-10},
    ("small", "f32"): {"rtol": 1e-4, "atol": 2e-4},
    # Two-valued pixels leave a channel of layer1's shortcut nearly constant; its batch norm
    # enlarges rounding ten thousandfold, and memory formats alone differ by 6e-10.
    ("standard", "f64"): {"rtol": 0.0, "atol": 2e-9},
}


@pytest.mark.golden
@pytest.mark.parametrize(
    ("variant", "dtype"),
    [
        ("small", "f64"),
        ("small", "f32"),
        pytest.param("standard", "f64", marks=pytest.mark.slow),
    ],
)
def test_loss_gradients_and_buffers_agree_with_the_release(
    variant: str,
    dtype: str,
    golden_model: Build,
    golden_dir: Path,
    golden_rules: ModuleType,
) -> None:
    prefix = f"{variant}_train_8x8_{dtype}"
    golden = np.load(golden_dir / "model.npz")
    told = json.loads((golden_dir / "model_intermediates.json").read_text())[prefix]
    model = golden_model(variant, DTYPES[dtype]).train()
    labels = torch.tensor([3, 3, 10, 10, 0, 0, 73, 73])

    embeddings = model(torch.from_numpy(golden_rules.silhouettes(8, 8)).to(DTYPES[dtype]))
    _, logits = model.classify(embeddings)
    triplet = TripletConfig(margin=5.0).build()(embeddings, labels)
    total = triplet.loss + CrossEntropyConfig().build()(logits, labels).loss
    total.backward()

    for name, output in (("embeddings", embeddings), ("logits", logits)):
        np.testing.assert_allclose(
            output.detach().numpy(), golden[f"{prefix}_{name}"], **OUTPUT[variant, dtype]
        )
    assert total.item() == pytest.approx(golden[f"{prefix}_total"].item(), rel=RTOL[dtype] / 10)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        found, expected = parameter.grad.norm().item(), told["grad_l2"][key]
        if expected < VANISHING[dtype]:
            assert found < VANISHING[dtype], key
        else:
            assert found == pytest.approx(expected, rel=RTOL[dtype]), key
    for key, length in told["buffer_l2_after_one_forward"].items():
        found = model.get_buffer(key).to(torch.float64).norm().item()
        assert found == pytest.approx(length, rel=RTOL[dtype] / 100), key
