"""The gate: nothing serves before it has reproduced torch in float32 on real tracklets.

Embeddings made by one runtime are compared with those of another, from last month's gallery or the
next camera's machine; so it is not enough that a runtime tells people apart by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from gait.errors import RuntimeUnavailable
from gait.model.trackletgait import TrackletGait
from gait.runtimes import cache
from gait.runtimes.batching import batches
from gait.runtimes.machine import describe_machine
from gait.runtimes.rank1 import evaluation_set, rank1
from gait.runtimes.reference import reference_tracklets
from gait.runtimes.runtime import Runtime
from gait.silhouette import to_model_input
from gait.strict import StrictModel

logger = logging.getLogger(__name__)

SMALLEST_COSINE = 0.999
"""Of the worst part of the worst tracklet, between a runtime and torch in float32."""

LARGEST_LOSS = 0.002
"""Of Rank-1, by int8."""

_FORMAT = "2"
"""Raised whenever the gate changes: older verdicts do not count then."""

_KIND = "verdict"
_FRAMES_A_CALL = 128

Walks = Sequence[NDArray[np.uint8]]
Embeddings = list[NDArray[np.floating[Any]]]


class Verdict(StrictModel):
    """How a runtime did at the gate.

    Attributes:
        passed: Whether it may serve.
        reason: Why not; empty if it may.
        min_cosine: Of the worst part of the worst tracklet, with torch in float32.
        max_difference: Largest of all numbers.
        num_tracklets: Compared.
        rank1: On the evaluation set; None where it was not asked for (all but int8).
        rank1_float32: Of torch in float32 on the same.
        runtime: What was judged.
        model_hash: Of the network it ran.
        machine: Where.
    """

    passed: bool
    reason: str
    min_cosine: float
    max_difference: float
    num_tracklets: int
    rank1: float | None = None
    rank1_float32: float | None = None
    runtime: str = ""
    model_hash: str = ""
    machine: str = ""

    @property
    def figures(self) -> str:
        """What was measured, in a few words."""
        text = f"cosine {self.min_cosine:.6f}, difference {self.max_difference:.1e}"
        if self.rank1 is not None and self.rank1_float32 is not None:
            text += f", Rank-1 {self.rank1:.2%} against {self.rank1_float32:.2%}"
        return text


@dataclass(frozen=True, slots=True)
class Candidate:
    """What wants to serve, and all that its verdict depends on.

    Attributes:
        runtime: Ready to run.
        model_hash: Of the network it claims to run.
        device: Where it runs: "cpu" or "cuda:N".
        graph: SHA-256 of the file it was made from; empty if from none.
    """

    runtime: Runtime
    model_hash: str
    device: str
    graph: str = ""


def judge(
    candidate: Candidate, model: TrackletGait, *, on_step: Callable[[], None] = lambda: None
) -> Verdict:
    """Return the verdict on a runtime, from the cache if it has been judged here before.

    Args:
        candidate: What wants to serve.
        model: The network it claims to run, on the CPU in float32.
        on_step: Called every now and then; what it raises ends the trial.

    Raises:
        RuntimeFailed: The runtime cannot run, or answers with what is no number.
        RuntimeUnavailable: The cache folder cannot be used.
    """
    kept = known_verdict(candidate)
    if kept is not None:
        return kept
    title = candidate.runtime.description
    logger.info("encoder: comparing %s with torch in float32", title)
    verdict = check(candidate.runtime, model, on_step=on_step).model_copy(
        update={
            "runtime": title,
            "model_hash": candidate.model_hash,
            "machine": describe_machine(device=candidate.device),
        }
    )
    cache.store(_entry(candidate), verdict.model_dump_json(indent=1).encode())
    return verdict


def known_verdict(candidate: Candidate) -> Verdict | None:
    """Return the verdict of an earlier trial of the same on this machine; None without one.

    Raises:
        RuntimeUnavailable: The cache folder cannot be used.
    """
    return _read(cache.load(_entry(candidate)))


def check(
    runtime: Runtime, model: TrackletGait, *, on_step: Callable[[], None] = lambda: None
) -> Verdict:
    """Return how a runtime compares with torch in float32; int8 also by who it takes for whom.

    Torch runs the network as it was trained, so that folding and exporting are judged too.

    Args:
        runtime: What wants to serve.
        model: The network it claims to run, on the CPU in float32.
        on_step: Called every now and then; what it raises ends the trial.

    Raises:
        RuntimeFailed: The runtime cannot run, or answers with what is no number.
        RuntimeUnavailable: The cache folder cannot be used.
        ValueError: `model` is not float32 on the CPU.
    """
    weight = next(model.parameters())
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ValueError(f"model: expected float32 on cpu, got {weight.dtype} on {weight.device}")
    tracklets = reference_tracklets()
    verdict = _compared(
        embed_by(runtime, tracklets, on_step), embed_by_torch(model, tracklets, on_step)
    )
    if runtime.precision != "int8" or not verdict.passed:
        return verdict
    return _with_rank1(verdict, runtime, model, on_step)


def _with_rank1(
    verdict: Verdict, runtime: Runtime, model: TrackletGait, on_step: Callable[[], None]
) -> Verdict:
    walks = evaluation_set(on_step=on_step)
    expected = rank1(
        lambda some: embed_by_torch(model, some, on_step), walks, "Rank-1 of torch in float32"
    )
    found = rank1(
        lambda some: embed_by(runtime, some, on_step), walks, f"Rank-1 of {runtime.description}"
    )
    verdict = verdict.model_copy(update={"rank1": found, "rank1_float32": expected})
    if found >= expected - LARGEST_LOSS:
        return verdict
    reason = f"expected to lose at most {LARGEST_LOSS:.1%} of Rank-1"
    return verdict.model_copy(update={"passed": False, "reason": reason})


def known_verdicts() -> list[Verdict]:
    """Return all verdicts in the cache, in no order; damaged ones are left out.

    Raises:
        RuntimeUnavailable: The cache folder cannot be used.
    """
    found = []
    for path in cache.cache_folder().glob(f"{_KIND}-*.json"):
        try:
            verdict = _read(cache.load(path))
        except RuntimeUnavailable as error:
            logger.warning("%s", error)
            continue
        if verdict is not None:
            found.append(verdict)
    return found


def _read(content: bytes | None) -> Verdict | None:
    try:
        return None if content is None else Verdict.model_validate_json(content)
    except ValidationError:
        return None  # damaged, or of another version: judged anew


def _compared(found: Embeddings, expected: Embeddings) -> Verdict:
    cosines = np.array([
        _smallest_cosine(one, other) for one, other in zip(found, expected, strict=True)
    ])  # fmt: skip
    difference = max(
        float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True)
    )
    smallest = float(cosines.min())
    passed = smallest >= SMALLEST_COSINE
    return Verdict(
        passed=passed,
        reason="" if passed else f"expected a cosine of at least {SMALLEST_COSINE}",
        min_cosine=smallest,
        max_difference=difference,
        num_tracklets=len(found),
    )


def _smallest_cosine(x_DP: NDArray[Any], y_DP: NDArray[Any]) -> float:
    x, y = x_DP.astype(np.float64), y_DP.astype(np.float64)
    lengths_P = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    return float(((x * y).sum(axis=0) / np.maximum(lengths_P, np.finfo(np.float64).tiny)).min())


def embed_by(
    runtime: Runtime, walks: Walks, on_step: Callable[[], None] = lambda: None
) -> Embeddings:
    """Return what a runtime makes of walks, in batches as it will serve them."""
    lengths = [len(each) for each in walks]
    embeddings: dict[int, NDArray[np.floating[Any]]] = {}
    for batch in batches(lengths, takes_padding=runtime.takes_padding, most_frames=_FRAMES_A_CALL):
        on_step()
        silhouettes = np.zeros((len(batch.indices), batch.num_frames, 64, 44), np.float32)
        for row, index in zip(silhouettes, batch.indices, strict=True):
            row[: lengths[index]] = to_model_input(walks[index])
        own = np.array([lengths[index] for index in batch.indices], np.int64)
        found = runtime.run(silhouettes, own if runtime.takes_padding else None)
        embeddings.update(zip(batch.indices, found, strict=True))
    return [embeddings[index] for index in range(len(walks))]


@torch.inference_mode()
def embed_by_torch(
    model: TrackletGait, walks: Walks, on_step: Callable[[], None] = lambda: None
) -> Embeddings:
    """Return what the network itself, as it was trained, makes of walks, one by one."""
    embeddings: Embeddings = []
    for walk in walks:
        on_step()
        embeddings.append(model(torch.from_numpy(to_model_input(walk)[None])).numpy()[0])
    return embeddings


def _entry(candidate: Candidate) -> Path:
    runtime = candidate.runtime
    key = {
        "format": _FORMAT,
        "model_hash": candidate.model_hash,
        "graph": candidate.graph,
        "runtime": runtime.description,
        "takes_padding": str(runtime.takes_padding),
        "machine": describe_machine(device=candidate.device),
        "torch": torch.__version__,
    }
    return cache.entry(_KIND, key, ".json")
