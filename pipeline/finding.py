"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "absent", "problem"]
"""`absent` is an option that is not installed; `problem` keeps something from working."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    subject: str
    verdict: Verdict
    detail: str
