"""The folded network fed piece by piece: what it remembers of a walk, and how a walk goes on.

Legend of the shape suffixes: N walks, F frames of all walks end to end, T places in time of a
padded batch, S = H * W, C channels, D outputs, P parts.

Only the temporal branches look at other frames, at h = (kernel - 1) / 2 to either side. So a unit
knows a frame's output for good h frames later, and the last map of the network is final `lag`
frames behind the newest: the sum of all h. A unit remembers its last 2 h maps (zeros to the left
of the first frame, as the padding of a whole sequence) and the shortcuts of the h frames it has
not answered yet; the network, the maximum over all final last maps. That suffices to go on exactly.

What a walk's embedding is *now* takes the frames that are not final too, with zeros to the right:
the tail. The k-th temporal unit works on k h of them, and nothing of it is remembered.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from gait.model.folded import FoldedGait, FoldedUnit
from gait.model.trackletgait import TrackletGaitConfig
from gait.runtimes.failures import translated
from gait.silhouette import to_model_input
from gait.tracklet import SILHOUETTE_HW

StatePrecision = Literal["float32", "float16", "bfloat16"]
"""What maps are remembered in; a GPU computes in it too, a CPU always in float32."""

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

Counts = NDArray[np.int64]


@dataclass(slots=True)
class WalkState:
    """What the network remembers of one walk.

    Attributes:
        age: Frames it was given.
        inputs: Each temporal unit's last 2 h maps, shape (2 h, S, C).
        shortcuts: Each temporal unit's shortcuts of the last h frames, shape (h, S, C).
        peak_SC: The maximum over all final last maps.
    """

    age: int
    inputs: list[torch.Tensor]
    shortcuts: list[torch.Tensor]
    peak_SC: torch.Tensor

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(each.nbytes for each in [*self.inputs, *self.shortcuts, self.peak_SC])


@dataclass(frozen=True, slots=True)
class Piece:
    """How one walk goes on.

    Attributes:
        state: What is remembered of it so far; it is moved on.
        silhouettes: What comes next, shape (T, 64, 44), uint8; none is allowed.
        has_tail: Whether to take the frames that are not final into account as well, as if the
            walk ended here.
    """

    state: WalkState
    silhouettes: NDArray[np.uint8]
    has_tail: bool


@dataclass(frozen=True, slots=True)
class _Flow:
    """Which frames are on their way from one unit to the next, for each walk.

    Attributes:
        num: How many.
        final: How many of them, the first ones, will not change any more.
        age: Final frames that have passed before.
    """

    num: Counts
    final: Counts
    age: Counts


class GrowingNetwork:
    """A folded network on one device, for walks that grow.

    Attributes:
        lag: Frames by which the last final map is behind the newest frame.
        state_bytes: Memory of one `WalkState`.
    """

    def __init__(
        self, model: FoldedGait, *, device: torch.device, precision: StatePrecision = "float32"
    ) -> None:
        """Copy a network to `device`.

        Raises:
            RuntimeFailed: The device has no room, or does not answer.
        """
        self._device = device
        self._remembered = _DTYPES[precision]
        computed = self._remembered if device.type == "cuda" else torch.float32
        with self._translating():
            self._model = copy.deepcopy(model).float().to(device).round_to(computed)
        self._units = [_checked(unit) for unit in self._model.units]
        self._maps_SC = _map_sizes(model.config)
        self.lag = sum(half(unit) for unit in self._units)
        self.state_bytes = self._remembered.itemsize * (
            int(np.prod(self._maps_SC[-1]))
            + sum(3 * half(u) * s * c for u, (s, c) in zip(self._units, self._maps_SC, strict=True))
        )

    def new_state(self) -> WalkState:
        """Return what is remembered of a walk without frames.

        Raises:
            RuntimeFailed: The device has no room, or does not answer.
        """
        sizes = [
            (half(unit), *map_SC)
            for unit, map_SC in zip(self._units, self._maps_SC, strict=True)
            if unit.temporal_kernel is not None
        ]
        with self._translating():
            return WalkState(
                age=0,
                inputs=[self._zeros(2 * h, s, c) for h, s, c in sizes],
                shortcuts=[self._zeros(h, s, c) for h, s, c in sizes],
                peak_SC=self._zeros(*self._maps_SC[-1]),
            )

    def advance(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Move walks on and return each one's maximum over time, shape (N, C, H, W), for `embed`.

        Over the final frames only for a piece without a tail; zero if there are none.

        Raises:
            RuntimeFailed: What the device reports; the states of all pieces are then of no use.
        """
        with self._translating(), torch.inference_mode():
            return self._advance(pieces)

    def embed(self, peaks_NCHW: torch.Tensor) -> NDArray[np.float32]:
        """Return the embeddings, shape (N, D, P), of what `advance` returned.

        Raises:
            RuntimeFailed: What the device reports.
        """
        with self._translating(), torch.inference_mode():
            embeddings: NDArray[np.float32] = self._model.head(peaks_NCHW).cpu().numpy()
            return embeddings

    def _advance(self, pieces: Sequence[Piece]) -> torch.Tensor:
        num = np.array([len(piece.silhouettes) for piece in pieces])
        flow = _Flow(num, num, np.array([piece.state.age for piece in pieces]))
        states = [piece.state for piece in pieces]
        tails = np.array([piece.has_tail for piece in pieces])
        x_FCHW = self._model.stem(self._to_device([piece.silhouettes for piece in pieces]))
        index = 0
        for unit in self._units:
            if unit.temporal_kernel is None:
                x_FCHW = unit.leave(unit.enter(x_FCHW), unit.shortcut(x_FCHW))
                continue
            memories = [(state.inputs[index], state.shortcuts[index]) for state in states]
            x_FCHW, flow = _through(unit, x_FCHW, flow, tails, memories)
            index += 1
        peaks_NSC = _maximum(_pixels(x_FCHW), flow, states)
        for piece in pieces:
            piece.state.age += len(piece.silhouettes)
        return _maps(peaks_NSC, x_FCHW.shape[2:])

    def _to_device(self, silhouettes: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        frames_FHW = np.concatenate(silhouettes)
        if not len(frames_FHW):
            return torch.zeros(0, *SILHOUETTE_HW, device=self._device)
        return torch.from_numpy(to_model_input(frames_FHW, np.float32)).to(self._device)

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=self._remembered, device=self._device)

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            raise translated(error, f"streaming encoder on {self._device}") from error


def half(unit: FoldedUnit) -> int:
    """Return how many frames to either side a unit looks at."""
    return 0 if unit.temporal_kernel is None else unit.temporal_kernel // 2


def tail_frames(model: FoldedGait) -> float:
    """Return what a tail costs, in frames: 15.1 for standard, whose tail touches 27 frames.

    The k-th temporal unit begins with the k - 1 halves before its own and ends with one more.
    """
    stem, units = _operations(model)
    pending, tail = 0, 0.0
    for unit, (before_mix, after_mix) in zip(model.units, units, strict=True):
        tail += pending * before_mix
        pending += half(_checked(unit))
        tail += pending * after_mix
    return tail / (stem + sum(before + after for before, after in units))


def _operations(model: FoldedGait) -> tuple[int, list[tuple[int, int]]]:
    """Return the operations for one frame: of the stem, and of each unit before its mixing
    (with the shortcut) and from there on.
    """
    ghost = copy.deepcopy(model).to("meta")  # shapes without numbers
    operations: list[int] = []
    with FlopCounterMode(display=False) as counter:

        def spent() -> int:
            return int(counter.get_total_flops()) - sum(operations)

        x_FCHW = ghost.stem(torch.empty(1, *SILHOUETTE_HW, device="meta"))
        operations.append(spent())
        for unit in (_checked(each) for each in ghost.units):
            y_FCHW, shortcut_FCHW = unit.enter(x_FCHW), unit.shortcut(x_FCHW)
            operations.append(spent())
            if unit.temporal_kernel is not None:
                y_NCTS = _pixels(y_FCHW).expand(unit.temporal_kernel, -1, -1)
                unit.mix(y_NCTS.permute(2, 0, 1)[None], is_padded=False)
            x_FCHW = unit.leave(y_FCHW, shortcut_FCHW)
            operations.append(spent())
    stem, *rest = operations
    return stem, list(zip(rest[::2], rest[1::2], strict=True))


def _through(
    unit: FoldedUnit,
    x_FCHW: torch.Tensor,
    flow: _Flow,
    tails: NDArray[np.bool_],
    memories: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, _Flow]:
    """Send frames through a temporal unit: return what comes out, and which frames that is.

    Answer t of a walk, counted from 0, is of the frame h before the t-th that came in; the first
    ones of a young walk are of frames before its beginning, and dropped.
    """
    h = half(unit)
    y_FCHW, shortcut_FCHW = unit.enter(x_FCHW), unit.shortcut(x_FCHW)
    first, stop = np.maximum(h - flow.age, 0), flow.num + h * tails
    out = _Flow(
        num=np.maximum(stop - first, 0),
        final=np.maximum(flow.final - first, 0),
        age=np.maximum(flow.age - h, 0),
    )
    room = h if tails.any() else 0
    y_NTSC = _line_up([inputs for inputs, _ in memories], _pixels(y_FCHW), flow.num, room)
    s_NTSC = _line_up([shortcuts for _, shortcuts in memories], _pixels(shortcut_FCHW), flow.num)
    for column, aligned in enumerate((y_NTSC, s_NTSC)):
        _remember([memory[column] for memory in memories], aligned, flow.final)
    if y_NTSC.shape[1] <= 2 * h:  # nobody gets an answer
        return unit.leave(y_FCHW[:0], shortcut_FCHW[:0]), out
    mixed_NCTS = unit.mix(y_NTSC.permute(0, 3, 1, 2), is_padded=False)
    size_HW = y_FCHW.shape[2:]
    y_FCHW = _maps(_take(mixed_NCTS.permute(0, 2, 3, 1), first, stop), size_HW)
    return unit.leave(y_FCHW, _maps(_take(s_NTSC, first, stop), size_HW)), out


def _maximum(x_FSC: torch.Tensor, flow: _Flow, states: Sequence[WalkState]) -> torch.Tensor:
    """Return the maximum over all frames of each walk, shape (N, S, C); remember the final one.

    Maps are never below zero, so zeros behind a shorter walk do no harm.
    """
    x_NTSC = _line_up([state.peak_SC[None] for state in states], x_FSC, flow.num)
    peaks_NSC = x_NTSC.amax(1)
    finals_NSC = peaks_NSC
    if (flow.final < flow.num).any():
        places_T = np.arange(x_NTSC.shape[1])
        is_open_NT = torch.from_numpy(places_T > flow.final[:, None]).to(x_FSC.device)
        finals_NSC = x_NTSC.masked_fill(is_open_NT[..., None, None], 0).amax(1)
    torch._foreach_copy_([state.peak_SC for state in states], list(finals_NSC.unbind()))
    return peaks_NSC


def _line_up(
    memories: Sequence[torch.Tensor], x_FSC: torch.Tensor, num: Counts, room: int = 0
) -> torch.Tensor:
    """Return each walk's remembered maps, then its new ones, then zeros, shape (N, T, S, C).

    T leaves `room` behind the longest walk.
    """
    known, longest = len(memories[0]), int(num.max())
    x_NTSC = x_FSC.new_empty(len(num), known + longest + room, *x_FSC.shape[1:])
    if known:
        torch._foreach_copy_([row[:known] for row in x_NTSC], list(memories))
    if (num == longest).all():
        x_NTSC[:, known : known + longest] = x_FSC.reshape(len(num), longest, *x_FSC.shape[1:])
        x_NTSC[:, known + longest :] = 0
    else:
        x_NTSC[:, known:] = 0
        places_F = _places(x_NTSC, np.full_like(num, known), known + num)
        x_NTSC.flatten(0, 1).index_copy_(0, places_F, x_FSC)
    return x_NTSC


def _remember(memories: Sequence[torch.Tensor], x_NTSC: torch.Tensor, final: Counts) -> None:
    """Move memories on by each walk's final frames."""
    size = len(memories[0])
    walks: list[int] = np.flatnonzero(final).tolist() if size else []
    if walks:
        torch._foreach_copy_(
            [memories[walk] for walk in walks],
            [x_NTSC[walk, final[walk] : final[walk] + size] for walk in walks],
        )


def _take(x_NTSC: torch.Tensor, first: Counts, stop: Counts) -> torch.Tensor:
    """Return each walk's maps from `first` to before `stop`, end to end, shape (F, S, C)."""
    if not first.any() and (stop == x_NTSC.shape[1]).all():
        return x_NTSC.flatten(0, 1)
    return x_NTSC.flatten(0, 1).index_select(0, _places(x_NTSC, first, stop))


def _places(x_NTSC: torch.Tensor, first: Counts, stop: Counts) -> torch.Tensor:
    """Return where in the first two axes, taken as one, those maps are."""
    places_T = np.arange(x_NTSC.shape[1])
    is_there_NT = (places_T >= first[:, None]) & (places_T < stop[:, None])
    return torch.from_numpy(np.flatnonzero(is_there_NT)).to(x_NTSC.device)


def _pixels(x_FCHW: torch.Tensor) -> torch.Tensor:
    """Return shape (F, S, C): as the maps lie in memory, in torch's format channels_last."""
    return x_FCHW.permute(0, 2, 3, 1).flatten(1, 2)


def _maps(x_FSC: torch.Tensor, size_HW: Sequence[int]) -> torch.Tensor:
    return x_FSC.reshape(len(x_FSC), *size_HW, x_FSC.shape[2]).permute(0, 3, 1, 2)


def _checked(unit: object) -> FoldedUnit:
    assert isinstance(unit, FoldedUnit)
    return unit


def _map_sizes(config: TrackletGaitConfig) -> list[tuple[int, int]]:
    """Return pixels and channels of each unit's maps."""
    pixels = SILHOUETTE_HW[0] * SILHOUETTE_HW[1]
    sizes = []
    for unit in config.units:
        pixels //= 1 if unit.downsampling is None else 4
        sizes.append((pixels, unit.channels_out))
    return sizes
