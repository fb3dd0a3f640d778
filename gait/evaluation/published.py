"""Published figures beside reproduced ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

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


class _Result(BaseModel):
    """What we read of a result; it may hold more."""

    model_config = ConfigDict(strict=True)

    config: str
    protocol: str
    metric: str
    reranked: bool
    precision: str
    metrics: dict[str, float | None]

    @property
    def is_as_published(self) -> bool:
        benchmark = PROTOCOLS.get(self.protocol)
        is_published = benchmark is not None and benchmark.is_published
        return is_published and self.metric == "euclidean" and not self.reranked


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
        try:
            result = _Result.model_validate_json(file.read_bytes())
        except OSError as error:
            logger.warning("%s: cannot read it, left out: %s", file, error)
        except ValidationError as error:  # most JSON is no result
            if error.errors()[0]["type"] == "json_invalid":
                logger.warning("%s: damaged, left out: %s", file, error.errors()[0]["msg"])
        else:
            if result.is_as_published:
                found.setdefault(result.config, []).append(result)
    return found
