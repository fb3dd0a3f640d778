"""Whether an exported file does what torch does, on real silhouettes of random lengths."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gait.errors import RuntimeFailed
from gait.model.folded import FoldedGait
from gait.model.trackletgait import TrackletGait
from gait.runtimes.reference import reference_tracklets
from gait.runtimes.runtime import Precision
from gait.runtimes.session import Session
from gait.silhouette import to_model_input

LARGEST_DIFFERENCE = 5e-5
"""Of a float32 graph to torch, for embeddings up to 1; in proportion for larger ones."""

SMALLEST_COSINE = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.999, "int8": 0.98}
"""Of the worst part of the worst tracklet to torch in float32."""


@dataclass(frozen=True, slots=True)
class Check:
    """How one batch of real silhouettes came out of the file, compared with torch in float32.

    Attributes:
        batch: Sequences.
        frames: Of the longest.
        max_difference: Largest of all numbers of the embeddings.
        min_cosine: Of the worst part.
        mean_cosine: Over all parts.
    """

    batch: int
    frames: int
    max_difference: float
    min_cosine: float
    mean_cosine: float


def compared(
    onnx: bytes,
    model: TrackletGait | FoldedGait,
    precision: Precision,
    *,
    has_lengths: bool,
    rng: np.random.Generator,
) -> tuple[Check, ...]:
    """Return how a file agrees with a network in torch's float32, run by ONNX Runtime.

    Args:
        onnx: The file.
        model: The network; folding is judged too if it is not folded yet.
        precision: What the file claims to compute in.
        has_lengths: Whether it takes lengths; then they are drawn too.
        rng: Draws lengths, walks and where they begin.

    Raises:
        RuntimeFailed: It does not agree.
    """
    from gait.runtimes.onnx_runtime import open_session

    trusted = copy.deepcopy(model).float().cpu().eval()
    session = open_session(onnx, device="cpu")
    try:
        checks = tuple(
            _check(session, trusted, silhouettes, lengths if has_lengths else None, precision)
            for silhouettes, lengths in _batches(rng, has_lengths)
        )
    finally:
        session.close()
    return checks


def _batches(
    rng: np.random.Generator, has_lengths: bool
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return batches of one frame, of one sequence and of several, cut from real tracklets."""
    sources = [each for each in reference_tracklets() if len(each) > 1]
    longest = max(len(each) for each in sources)
    batches = []
    for batch, frames in (
        (1, 1),
        (1, int(rng.integers(17, longest))),
        (3, int(rng.integers(2, 17))),
    ):
        enough = [each for each in sources if len(each) >= frames]
        cuts = np.stack([_cut(enough, frames, rng) for _ in range(batch)])
        lengths = rng.integers(1, frames + 1, batch) if has_lengths else np.full(batch, frames)
        batches.append((cuts, lengths.astype(np.int64)))
    return batches


def _cut(
    sources: Sequence[NDArray[np.uint8]], frames: int, rng: np.random.Generator
) -> NDArray[Any]:
    source = sources[int(rng.integers(len(sources)))]
    start = int(rng.integers(len(source) - frames + 1))
    return to_model_input(source[start : start + frames])


def _check(
    session: Session,
    trusted: TrackletGait | FoldedGait,
    silhouettes_NTHW: NDArray[np.float32],
    lengths_N: NDArray[np.int64] | None,
    precision: Precision,
) -> Check:
    feeds: dict[str, NDArray[Any]] = {"silhouettes": silhouettes_NTHW}
    if lengths_N is not None:
        feeds["lengths"] = lengths_N
    got_NDP = session.run(feeds)["embeddings"]
    expected_NDP = _one_by_one(trusted, silhouettes_NTHW, lengths_N)
    cosines_NP = _cosines(got_NDP, expected_NDP)
    check = Check(
        batch=silhouettes_NTHW.shape[0],
        frames=silhouettes_NTHW.shape[1],
        max_difference=float(np.abs(got_NDP - expected_NDP).max()),
        min_cosine=float(cosines_NP.min()),
        mean_cosine=float(cosines_NP.mean()),
    )
    _judge(check, precision, float(np.abs(expected_NDP).max()))
    return check


@torch.inference_mode()
def _one_by_one(
    trusted: TrackletGait | FoldedGait,
    silhouettes_NTHW: NDArray[np.float32],
    lengths_N: NDArray[np.int64] | None,
) -> NDArray[np.float32]:
    """Return torch's embeddings of each sequence for itself, so that nothing is padded."""
    lengths = [None] * len(silhouettes_NTHW) if lengths_N is None else lengths_N.tolist()
    return np.concatenate([
        trusted(torch.from_numpy(each[None, :length])).numpy()
        for each, length in zip(silhouettes_NTHW, lengths, strict=True)
    ])  # fmt: skip


def _cosines(x_NDP: NDArray[np.float32], y_NDP: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = x_NDP.astype(np.float64), y_NDP.astype(np.float64)
    norms_NP = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray((x * y).sum(axis=1) / np.maximum(norms_NP, np.finfo(np.float32).tiny))


def _judge(check: Check, precision: Precision, largest: float) -> None:
    allowed = LARGEST_DIFFERENCE * max(1.0, largest)
    # written so that NaN fails
    is_near = precision != "float32" or check.max_difference <= allowed
    if is_near and check.min_cosine >= SMALLEST_COSINE[precision]:
        return
    raise RuntimeFailed(
        f"export: expected the {precision} file to agree with torch (cosine of the worst part at "
        f"least {SMALLEST_COSINE[precision]}"
        + (f", largest difference at most {allowed:.1e}" if precision == "float32" else "")
        + f"), got {check.min_cosine:.5f} and {check.max_difference:.1e} on {check.batch} x "
        f"{check.frames} frames; nothing was written. Use a finer precision"
    )
