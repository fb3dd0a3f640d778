"""What `data prepare` did: how many frames became silhouettes, and which did not and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gait.data.atomic import write_atomically
from gait.data.prepare import Prepared

REPORT_NAME = "prepare-report.json"

SHORT = 5
"""A sequence of fewer silhouettes deserves a look (spec f)."""


@dataclass(frozen=True, slots=True)
class PreparationReport:
    """The outcome of all sequences of a preparation, those done earlier included."""

    settings: dict[str, str]
    sequences: list[Prepared]

    @classmethod
    def of(cls, settings: dict[str, str], sequences: Iterable[Prepared]) -> PreparationReport:
        """Return the report, sequences sorted by key."""
        return cls(settings, sorted(sequences, key=lambda each: each.key))

    @property
    def num_frames(self) -> int:
        """Raw frames found."""
        return sum(each.num_frames for each in self.sequences)

    @property
    def num_kept(self) -> int:
        """Silhouettes written."""
        return sum(each.num_kept for each in self.sequences)

    @property
    def skipped(self) -> dict[str, int]:
        """How many frames gave no silhouette, by reason, most frequent first."""
        counts: Counter[str] = Counter()
        for each in self.sequences:
            counts.update({reason: len(names) for reason, names in each.skipped.items()})
        return dict(counts.most_common())

    @property
    def nothing(self) -> list[Prepared]:
        """Sequences without a single silhouette: they have no file."""
        return [each for each in self.sequences if not each.num_kept]

    @property
    def short(self) -> list[Prepared]:
        """Sequences of fewer than five silhouettes."""
        return [each for each in self.sequences if 0 < each.num_kept < SHORT]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, with the name of every skipped frame."""
        return {
            **self.settings,
            "sequences": len(self.sequences),
            "written": len(self.sequences) - len(self.nothing),
            "frames": self.num_frames,
            "kept": self.num_kept,
            "skipped": self.skipped,
            "sequences_without_silhouettes": [str(each.key) for each in self.nothing],
            "sequences_under_5_silhouettes": {str(e.key): e.num_kept for e in self.short},
            "skipped_frames": {str(e.key): e.skipped for e in self.sequences if e.skipped},
        }

    def write(self, out: Path) -> Path:
        """Write `prepare-report.json` into `out` and return its path.

        Raises:
            DataError: It cannot be written.
        """
        path = out / REPORT_NAME
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode() + b"\n")
        return path
