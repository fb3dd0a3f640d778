"""What an evaluation found: figures by name, tables as the papers print them, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.evaluation.openset import OpenSet


@dataclass(frozen=True, slots=True)
class Table:
    """Figures as a paper prints them. Values are fractions; percent is for the printer.

    Attributes:
        title: What is shown, with its protocol.
        columns: Headings over the values.
        rows: A heading and one value a column; NaN where there is nothing to say.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The cumulative match characteristic of one condition.

    Attributes:
        name: The condition; empty when there is only one.
        values: Shape (K,): share of probes whose first match is at rank k or better.
    """

    name: str
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Count:
    """How many sequences a condition compared.

    Attributes:
        name: The condition; empty when there is only one.
        probes: Probe sequences.
        counted: Probes that the means are over: some protocols skip those without a match.
        gallery: Gallery sequences.
    """

    name: str
    probes: int
    counted: int
    gallery: int


@dataclass(slots=True)
class Findings:
    """What a protocol collects while it runs; see `Evaluation` for the meaning of each."""

    metrics: dict[str, float] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    open_sets: list[OpenSet] = field(default_factory=list)
    submission: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The result of one protocol.

    Attributes:
        protocol: Its name in `PROTOCOLS`.
        title: The protocol in words; print it with every figure.
        metric: "euclidean" or "cosine".
        precision: What distances were computed in.
        reranked: Whether k-reciprocal re-ranking changed the distances.
        metrics: Fractions by name: "rank-1", "mAP", "NM/rank-1", "reid/CL/mINP",
            "NM/FNIR@FPIR=1%".
        tables: As the papers print them.
        counts: How many sequences each condition compared.
        curves: CMC of each condition, of the protocols that rank a whole gallery.
        open_sets: FNIR, FPIR and thresholds of each condition, if they were asked for.
        submission: The text of a submission file, of the protocol that makes one.
    """

    protocol: str
    title: str
    metric: str
    precision: str
    reranked: bool
    metrics: Mapping[str, float]
    tables: tuple[Table, ...]
    counts: tuple[Count, ...]
    curves: tuple[Curve, ...] = ()
    open_sets: tuple[OpenSet, ...] = ()
    submission: str | None = None

    def to_json(self, **about: str) -> str:
        """Return everything but the submission as JSON; what is not a number is null.

        Args:
            about: More to say at the top, such as the model's name.
        """
        content = {
            **about,
            "protocol": self.protocol,
            "title": self.title,
            "metric": self.metric,
            "precision": self.precision,
            "reranked": self.reranked,
            "metrics": dict(self.metrics),
            "counts": [
                {"name": c.name, "probes": c.probes, "counted": c.counted, "gallery": c.gallery}
                for c in self.counts
            ],
            "tables": [
                {"title": t.title, "columns": t.columns, "rows": dict(t.rows)} for t in self.tables
            ],
            "cmc": {curve.name: curve.values.tolist() for curve in self.curves},
            "open_set": [each.to_dict() for each in self.open_sets],
        }
        return json.dumps(_without_nan(content), indent=1, ensure_ascii=False, allow_nan=False)

    def to_csv(self) -> str:
        """Return the tables in long form, percent: `table,row,column,percent`, empty for NaN."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("table", "row", "column", "percent"))
        for table in self.tables:
            for row, values in table.rows:
                for column, value in zip(table.columns, values, strict=True):
                    percent = "" if math.isnan(value) else f"{100 * value:.4f}"
                    writer.writerow((table.title, row, column, percent))
        return text.getvalue()


def named(name: str, figure: str) -> str:
    """Return the name of a condition's figure: "NM/rank-1", or "rank-1" for the only one."""
    return f"{name}/{figure}" if name else figure


def _without_nan(value: Any) -> Any:
    """Return JSON content with null for NaN and infinity, which JSON has not."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
