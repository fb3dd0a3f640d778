"""Published figures beside reproduced ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gait.errors import DataError
from gait.evaluation.protocols import PROTOCOLS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One published figure.

    Attributes:
        config: The configuration's `name`, or else its file's.
        figure: As in `Evaluation.metrics`.
        published: Percent, as printed.
        reproduced: Percent; None while there is no result.
        precision: What the reproduced figure's distances were computed in; empty without one.
    """

    config: str
    figure: str
    published: float
    reproduced: float | None
    precision: str


@dataclass(frozen=True, slots=True)
class _Result:
    metrics: Mapping[str, float | None]
    precision: str


def read_rows(configs: Path, results: Path) -> list[Row]:
    """Return every figure of the `published:` blocks with what was reproduced of it.

    A figure counts as reproduced only if it was made as published: by the reported protocol, in
    the Euclidean metric, without re-ranking. Of several results of a configuration, the newest
    that has the figure counts.

    Args:
        configs: Folder of YAML files. `published:` maps a figure's name to percent; blocks may be
            nested, NM: {rank-1: 98.87} is NM/rank-1.
        results: Folder under which the JSON files of `trackletgait eval` lie; need not exist.

    Raises:
        DataError: A configuration cannot be read, or a published figure is not a number.
    """
    found = _results(results)
    return [
        _row(name, figure, percent, found.get(name, []))
        for path in sorted(configs.glob("*.yaml"))
        for name, figure, percent in _published(path)
    ]


def _row(config: str, figure: str, percent: float, results: list[_Result]) -> Row:
    for result in results:
        value = result.metrics.get(figure)
        if value is not None:
            return Row(config, figure, percent, 100 * value, result.precision)
    return Row(config, figure, percent, None, "")


def _published(path: Path) -> Iterator[tuple[str, str, float]]:
    """Yield name of the configuration, figure and percent; training's other keys do not matter."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot read the configuration: {error}") from error
    if isinstance(content, dict):
        name = str(content.get("name", path.stem))
        for figure, percent in _flat(path, "", content.get("published") or {}):
            yield name, figure, percent


def _flat(path: Path, name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(path, f"{name}/{key}" if name else str(key), inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)
    else:
        raise DataError(f"{path}: published: {name}: expected percent, got {value!r}")


def _results(folder: Path) -> dict[str, list[_Result]]:
    """Return the results that were made as published, by configuration, newest first."""
    found: dict[str, list[_Result]] = {}
    files = sorted(folder.rglob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        content = _read_result(file)
        if content is not None:
            result = _Result(content["metrics"], content["precision"])
            found.setdefault(content["config"], []).append(result)
    return found


def _read_result(file: Path) -> dict[str, Any] | None:
    """Return the content of a result, or None for any other JSON."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        logger.warning("%s: cannot read it, left out: %s", file, error)
        return None
    wanted = {"config", "protocol", "metrics", "precision", "metric", "reranked"}
    if not isinstance(content, dict) or not wanted <= set(content):
        return None
    benchmark = PROTOCOLS.get(content["protocol"])
    as_published = content["metric"] == "euclidean" and not content["reranked"]
    return content if benchmark and benchmark.is_published and as_published else None
