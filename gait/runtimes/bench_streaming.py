"""Growing walks against computing windows anew: frames a second, and who wins where."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gait.encoder import MAX_FRAMES, Encoder
from gait.runtimes.machine import OtherWork, describe_machine
from gait.runtimes.turns import Clock, Times, Turns, median, pair_ratios
from gait.streaming import StreamingEncoder

FORMAT = 1
_PACKAGES = ("torch", "onnxruntime")
_PREFILLED = 64  # more than the longest lag, from where on every embedding costs the same


@dataclass(frozen=True, slots=True)
class StreamingWanted:
    """What to measure.

    Attributes:
        strides: New silhouettes between two embeddings of a walk.
        windows: Silhouettes of an embedding that is computed anew.
        history: Silhouettes of a walk at its end, where all of it is computed anew every time; on
            average half of it is.
        threads: Cores everybody may use on a CPU.
        seconds: For each.
        rounds: Turns of each.
    """

    strides: tuple[int, ...] = (1, 8, 30)
    windows: tuple[int, ...] = (30, 64)
    history: int = 240
    threads: int = 1
    seconds: float = 2.0
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class StreamingRow:
    """What one way did at one stride.

    Attributes:
        way: How the embedding is made.
        stride: New silhouettes between two embeddings.
        sees: Silhouettes an embedding is of; None for all there have been.
        frames_per_s: New silhouettes a second.
        p50_ms: Of one embedding, with what precedes it.
        p95_ms: The same.
        streaming_ratio: How many times faster streaming without lag is at this stride, median of
            the rounds' ratios; where it is below 1, this way wins.
    """

    way: str
    stride: int
    sees: int | None
    frames_per_s: float
    p50_ms: float
    p95_ms: float
    streaming_ratio: float | None


@dataclass(frozen=True, slots=True)
class StreamingReport:
    """What was measured.

    Attributes:
        network: Weights and what serves windows.
        machine: What it ran on.
        threads: Cores everybody might use on a CPU.
        warnings: What makes the figures doubtful.
        interrupted: Whether it was stopped before its end.
        lag: Silhouettes by which the embeddings of the rows "late" are behind.
        state_mb: Memory of one walk.
        history: Silhouettes of a whole walk.
        rows: By stride.
    """

    network: str
    machine: str
    threads: int
    warnings: tuple[str, ...]
    interrupted: bool
    lag: int
    state_mb: float
    history: int
    rows: tuple[StreamingRow, ...]

    def to_json(self) -> str:
        """Return it as one JSON object."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)


def bench_streaming(
    encoder: Encoder,
    wanted: StreamingWanted,
    *,
    device: str,
    clock: Clock = time.perf_counter,
    on_progress: Callable[[str], None] = lambda _: None,
) -> StreamingReport:
    """Let a walk grow, and compute windows of it anew, in turns; Ctrl-C ends it early.

    Args:
        encoder: What computes windows; its network also streams, by torch.
        wanted: What to measure.
        device: "cpu" or "cuda:N".
        clock: What tells the time.
        on_progress: Called with what comes next.
    """
    torch.set_num_threads(wanted.threads)
    others, interrupted = OtherWork(), False
    with StreamingEncoder(encoder.network, device=device) as streaming:
        turns, walks = _turns(encoder, streaming, wanted, clock)
        try:
            for name in turns.times:
                on_progress(f"warming up: {name}")
                turns.warm_up(name)
            on_progress("measuring in turns")
            turns.run(rounds=wanted.rounds, seconds=wanted.seconds)
        except KeyboardInterrupt:
            interrupted = True
        lag, state_mb = streaming.lag, streaming.state_bytes / 1e6
    return StreamingReport(
        network=encoder.description,
        machine=describe_machine(device=device, packages=_PACKAGES),
        threads=wanted.threads,
        warnings=others.warnings(),
        interrupted=interrupted,
        lag=lag,
        state_mb=state_mb,
        history=wanted.history,
        rows=tuple(_rows(turns, walks, wanted)),
    )


class _Walk:
    """A walk that takes `stride` silhouettes a call; begun anew before it has its 720."""

    def __init__(self, encoder: StreamingEncoder, stride: int, *, is_late: bool) -> None:
        self.stride, self.is_late = stride, is_late
        self._encoder, self._key = encoder, (stride, is_late)
        self._length = 0
        self._frames = _noise(max(stride, _PREFILLED))

    @property
    def name(self) -> str:
        """Of its turn."""
        return f"streaming{', late' if self.is_late else ''}, stride {self.stride}"

    def make_room(self) -> None:
        """Begin anew where the next silhouettes would be too many to be looked at."""
        if self._length and self._length + self.stride <= MAX_FRAMES:
            return
        self._encoder.end([self._key])
        self._encoder.extend([(self._key, self._frames[:_PREFILLED])])
        self._length = _PREFILLED

    def grow(self) -> None:
        """Take the next silhouettes and give the embedding."""
        self._encoder.extend([(self._key, self._frames[: self.stride])])
        self._length += self.stride
        self._encoder.embed([self._key], is_final_only=self.is_late)


def _turns(
    encoder: Encoder, streaming: StreamingEncoder, wanted: StreamingWanted, clock: Clock
) -> tuple[Turns, list[_Walk]]:
    walks = [
        _Walk(streaming, stride, is_late=is_late)
        for is_late in (False, True)
        for stride in wanted.strides
    ]
    calls: dict[str, Callable[[], object]] = {walk.name: walk.grow for walk in walks}
    for length in _lengths(wanted):
        calls[_window_name(length)] = _embedding(encoder, _noise(length))
    return Turns(calls, before={walk.name: walk.make_room for walk in walks}, clock=clock), walks


def _embedding(encoder: Encoder, silhouettes: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: encoder.embed([silhouettes])


def _lengths(wanted: StreamingWanted) -> list[int]:
    """Return what is computed anew: the windows, and the whole at its average length."""
    return list(dict.fromkeys([*wanted.windows, _average(wanted)]))


def _average(wanted: StreamingWanted) -> int:
    return max(1, wanted.history // 2)


def _window_name(length: int) -> str:
    return f"{length} silhouettes anew"


def _rows(turns: Turns, walks: Sequence[_Walk], wanted: StreamingWanted) -> list[StreamingRow]:
    rows: list[StreamingRow] = []
    for stride in wanted.strides:
        own = {walk.is_late: turns.times[walk.name] for walk in walks if walk.stride == stride}
        ways = [
            ("streaming", None, own[False]),
            ("streaming, late", None, own[True]),
            *(
                (f"window of {window} anew", window, turns.times[_window_name(window)])
                for window in wanted.windows
            ),
            ("whole history anew", None, turns.times[_window_name(_average(wanted))]),
        ]
        rows += [
            _row(way, stride, sees, times, own[False]) for way, sees, times in ways if times.rounds
        ]
    return rows


def _row(way: str, stride: int, sees: int | None, times: Times, streaming: Times) -> StreamingRow:
    median_s = times.percentile(50)
    return StreamingRow(
        way,
        stride,
        sees,
        frames_per_s=stride / median_s,
        p50_ms=1000 * median_s,
        p95_ms=1000 * times.percentile(95),
        streaming_ratio=median(pair_ratios(times, streaming)),
    )


def _noise(length: int) -> NDArray[np.uint8]:
    """Return silhouettes of no one: what is in a picture does not change how long it takes."""
    rng = np.random.default_rng(0)
    return (255 * rng.integers(0, 2, (length, 64, 44))).astype(np.uint8)
