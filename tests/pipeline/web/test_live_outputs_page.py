"""The page on live outputs says what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gait.strict import StrictModel
from gait.yaml_config import validate
from pipeline.sinks.live import EVENT_KINDS
from pipeline.sinks.live_config import LiveSinkConfig
from pipeline.sources.camera_state import CameraState
from pipeline.web.metrics import LiveMetrics

PAGE = (Path(__file__).parents[3] / "docs" / "live-outputs.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


class Sinks(StrictModel):
    sinks: list[LiveSinkConfig]


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "yaml"])
def test_every_example_of_a_configuration_can_be_read(block: str) -> None:
    loaded: Any = yaml.safe_load(block)
    sinks = loaded["sinks"] if isinstance(loaded, dict) else loaded
    assert validate(Sinks, {"sinks": sinks}, "page").sinks


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "python"])
def test_every_program_compiles(block: str) -> None:
    compile(block, "page", "exec")


def test_the_receivers_check_takes_our_signature_and_no_other() -> None:
    from pipeline.sinks.webhook import signature

    (program,) = (text for kind, text in BLOCKS if kind == "python" and "is_ours" in text)
    names: dict[str, Any] = {}
    exec(program, names)
    timestamp = str(int(names["time"].time()))
    headers = {
        "X-Trackletgait-Timestamp": timestamp,
        "X-Trackletgait-Signature": "sha256=" + signature(b"secret", timestamp, b"body"),
    }
    assert names["is_ours"](b"secret", headers, b"body")
    assert not names["is_ours"](b"secret", headers, b"other body")
    assert not names["is_ours"](b"other", headers, b"body")


def test_every_kind_state_and_metric_is_named() -> None:
    for word in (*EVENT_KINDS, *(state.value for state in CameraState)):
        assert f"`{word}`" in PAGE
    for family in LiveMetrics().registry.collect():
        if family.name.startswith("trackletgait_"):
            short = "_" + family.name.rpartition("_")[2]
            assert family.name in PAGE or f"`{short}_total`" in PAGE, family.name
