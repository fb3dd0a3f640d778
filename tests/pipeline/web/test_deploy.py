"""What lies under deploy/ names only metrics, commands and options that exist."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipeline.cli import app
from pipeline.live.status import LinkStatus
from pipeline.sinks.live import SinkCounts
from pipeline.sources.camera import CameraCounts
from pipeline.sources.camera_state import CameraState, Change
from pipeline.web.metrics import LiveMetrics

DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = [f"trackletgait{half}.service" for half in ("", "-perceive", "-identify")]
METRIC = re.compile(r"\b(?:trackletgait|process)_[a-z_]+")


def shown_metrics() -> set[str]:
    from prometheus_client import generate_latest

    metrics = LiveMetrics()
    metrics.camera_changed(Change("gate", CameraState.LIVE, CameraState.CONNECTING))
    metrics.camera_counts("gate", CameraCounts())
    metrics.camera_frame("gate", 0.0, 0)
    metrics.camera_stride("gate", 1)
    metrics.sighting("gate")
    metrics.sink("log", SinkCounts())
    metrics.latencies.observe("stage", 0.1)
    metrics.link(LinkStatus(endpoint="tcp://hub:5800", counts={"sent": 1}))
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {sample.name for family in families for sample in family.samples}


def options_of(command: list[str]) -> None:
    """Parse a command line as typer would, without running it."""
    group = typer.main.get_command(app)
    commands: dict[str, Any] = getattr(group, "commands")  # noqa: B009
    assert command[0] in commands, f"expected one of {sorted(commands)}, got {command[0]}"
    commands[command[0]].make_context(command[0], list(command[1:]))


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return loaded


def test_the_dashboard_uses_only_metrics_that_exist(dashboard: dict[str, Any]) -> None:
    used = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in METRIC.findall(target["expr"])
    }
    used |= {
        name
        for variable in dashboard["templating"]["list"]
        for name in METRIC.findall(variable.get("definition", ""))
    }
    shown = shown_metrics()
    assert len(used) > 15
    assert used <= shown, f"not there: {used - shown}"


def test_the_dashboard_shows_every_metric_of_ours(dashboard: dict[str, Any]) -> None:
    text = json.dumps(dashboard)
    ours = {name for name in shown_metrics() if name.startswith("trackletgait_")}
    unused = {
        name
        for name in ours
        if name not in text and not name.endswith(("_count", "_sum", "_created"))
    }
    assert not unused


def test_the_dashboards_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_runs_a_command_that_exists(name: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / name)
    program, *command = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "trackletgait"
    options_of(command)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_a_unit(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / name).read_text()
    # There is no such program here; everything else is as it ships.
    unit = tmp_path / name
    unit.write_text(text.replace("/opt/trackletgait/.venv/bin/trackletgait", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if name in line]
    assert ours == []


def test_the_compose_file_is_yaml_and_runs_commands_that_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
    services = compose["services"]
    assert {"mediamtx", "trackletgait", "prometheus", "grafana"} <= set(services)
    options_of(services["trackletgait"]["command"])
    for service in services.values():
        for config in service.get("configs", []):
            yaml.safe_load(compose["configs"][config["source"]]["content"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            is_there = (DEPLOY / source).exists() if source.startswith(".") else True
            assert is_there, volume
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "not for the whole network by default"


def test_the_compose_files_overrides_are_understood() -> None:
    from pipeline.live.config import config_of_addresses

    compose = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
    command = compose["services"]["trackletgait"]["command"]
    overrides = [command[i + 1] for i, word in enumerate(command) if word == "--set"]
    config = config_of_addresses([command[1]], overrides)
    assert config.metrics is not None
    assert config.metrics.host == "0.0.0.0"
