"""Every configuration that ships, and what configurations refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gait.data.dataset import SequenceKey
from gait.errors import ConfigError
from gait.evaluation import PROTOCOLS, evaluate
from gait.model.trackletgait import BASELINES, VARIANTS
from gait.training.config import OptimiserConfig, TrainingConfig, differences, load_config

CONFIGS = Path(__file__).parents[3] / "configs" / "gait"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def shipped(name: str, *overrides: str) -> TrainingConfig:
    return load_config(CONFIGS / f"{name}.yaml", overrides)


def published_names(block: dict[str, Any], prefix: str = "") -> set[str]:
    return {
        found
        for key, value in block.items()
        for found in (
            published_names(value, f"{prefix}{key}/")
            if isinstance(value, dict)
            else {f"{prefix}{key}"}
        )
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_configuration_loads_under_its_own_name(name: str) -> None:
    config = shipped(name)
    assert config.name == name
    optimiser = config.optimiser
    assert (
        optimiser.schedule == "cosine" or max(optimiser.milestones, default=0) < config.iterations
    )
    assert optimiser.warmup <= config.iterations / 8  # the ablations have few steps
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_there_is_a_configuration_for_every_published_row() -> None:
    rows = {f"trackletgait_{each}" for each in
            ("gait3d", "grew", "ou-mvlp", "casia-b", "ccpg", "sustech1k")}  # fmt: skip
    assert rows <= set(NAMES)
    assert all(shipped(name).published for name in rows)


def test_published_figures_are_not_inherited() -> None:
    assert not shipped("ablation_downsampling-max").published
    assert shipped("gaitbase_gait3d").published == {"rank-1": 64.6}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gait3d", (3000, "standard", 32, 4, [40, 80, 100], 120)),
        ("grew", (20000, "standard", 32, 4, [80, 120, 150], 180)),
        ("ou-mvlp", (5153, "standard", 32, 8, [60, 80, 100], 120)),
        ("casia-b", (74, "small", 8, 16, [20, 40, 50], 60)),
        ("ccpg", (100, "small", 8, 16, [20, 40, 50], 60)),
        ("sustech1k", (250, "small", 8, 8, [20, 30, 40], 50)),
    ],
)
def test_settings_are_those_of_the_specifications_table(
    name: str, settings: tuple[Any, ...]
) -> None:
    from gait.data.datasets import DATASETS

    config = shipped(f"trackletgait_{name}")
    assert (
        DATASETS[config.data.dataset or ""].num_train,
        config.network.name,
        config.batch.num_ids,
        config.batch.per_id,
        [milestone // 1000 for milestone in config.optimiser.milestones],
        config.iterations // 1000,
    ) == settings
    assert config.network == VARIANTS[settings[1]]


@pytest.mark.parametrize("name", ["gaitbase", "deepgaitv2-p3d"])
def test_baselines_are_configured_as_they_are_built(name: str) -> None:
    assert shipped(f"{name}_gait3d").network == BASELINES[name]


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("ablation_")])
def test_an_ablation_changes_one_thing_only(name: str) -> None:
    changed = differences(shipped("trackletgait_gait3d"), shipped(name))
    blocks = {line.partition(":")[0].split(".")[0] for line in changed}
    assert len(blocks - {"name"}) == 1


@pytest.mark.parametrize("name", [n for n in NAMES if shipped(n).published])
def test_published_figures_have_names_that_the_evaluation_gives(
    name: str, golden_rules: ModuleType
) -> None:
    config = shipped(name)
    protocol = config.evaluation.protocol or ""
    listing: dict[str, Callable[[], Any]] = {
        "casia-b": golden_rules.casiab,
        "ou-mvlp": golden_rules.oumvlp,
        "sustech1k": golden_rules.sustech1k,
        "ccpg": golden_rules.ccpg,
        "gait3d": golden_rules.gait3d,
        "grew-local": golden_rules.grew,
    }
    columns = listing[protocol]()
    keys = [SequenceKey(*row) for row in zip(*columns[:3], strict=True)]
    embeddings = np.random.default_rng(0).normal(size=(len(keys), 4, 2)).astype(np.float32)
    probe_set = frozenset(columns[3]) if protocol == "gait3d" else None
    found = evaluate(protocol, embeddings, keys, probe_set=probe_set)
    assert published_names(config.published) <= set(found.metrics)
    assert PROTOCOLS[protocol].dataset == config.data.dataset


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimiser.lr=0.1", "rate"),
        ("network.blocks=[1,4,4]", "network.blocks"),
        ("network.downsampling=haarr", "haar"),
        ("sampling.lengths=[5]", "divisors"),
        ("data.dataset=gait4d", "casia-b"),
        ("evaluation.protocol=casia", "casia-b-cross-view"),
        ("optimiser.rate=1e-3", "1.0e-3"),
        ("losses.triplet.exclusion_ratio=2", "exclusion_ratio"),
        ("iterations=0", "iterations"),
        ("name=../up", "name"),
        ("compute.precision=fp16", "float16"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_their_place(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        shipped("trackletgait_gait3d", override)


def test_the_rate_falls_at_the_milestones() -> None:
    optimiser = shipped("trackletgait_gait3d").optimiser
    rates = [optimiser.rate_at(i, 120_000) for i in (0, 39_999, 40_000, 80_000, 100_000)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.0001], rel=1e-12)


def test_a_cosine_falls_from_the_rate_to_nothing_after_a_warm_up_in_equal_steps() -> None:
    optimiser = OptimiserConfig(rate=0.2, schedule="cosine", warmup=4)
    rates = [optimiser.rate_at(i, 100) for i in range(101)]
    half_cosine = 0.2 * 0.5 * (1 + np.cos(np.pi * np.arange(101) / 100))
    np.testing.assert_allclose(rates[4:], half_cosine[4:], rtol=1e-12, atol=1e-18)
    np.testing.assert_allclose(rates[:4] / half_cosine[:4], [0.2, 0.4, 0.6, 0.8], rtol=1e-12)
    assert OptimiserConfig(rate=0.2, warmup=4).rate_at(1, 100) == pytest.approx(0.08)


def test_a_cosine_cannot_be_prolonged() -> None:
    old, new = shipped("synthgait_nano"), shipped("synthgait_nano", "iterations=9000")
    assert differences(old, new) == ["iterations: was 6000, now 9000"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_networks_that_ship_are_trained_as_they_are_built(variant: str) -> None:
    assert shipped(f"synthgait_{variant}").network == VARIANTS[variant]


def test_a_resumed_run_may_change_how_long_it_goes_and_where_the_data_lies() -> None:
    old = shipped("own-data")
    new = shipped(
        "own-data", "iterations=30000", "data.path=x", "data.workers=5", "checkpoints.every=7"
    )
    assert differences(old, new) == []
    changed = shipped("own-data", "seed=3", "optimiser.rate=0.2")
    assert differences(old, changed) == ["optimiser.rate: was 0.1, now 0.2", "seed: was 0, now 3"]


def test_a_configuration_survives_its_way_through_a_card() -> None:
    config = shipped("trackletgait_ccpg")
    assert TrainingConfig.model_validate(json.loads(config.model_dump_json())) == config
