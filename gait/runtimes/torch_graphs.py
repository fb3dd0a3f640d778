"""Passes that are recorded once and replayed: no launch of hundreds of kernels from Python.

A CUDA graph has fixed shapes and fixed places in memory, so there is one for each rounded shape,
each with its own buffers; what is smaller is padded, which the folded network proves harmless.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gait.runtimes.batching import padded_batch, padded_frames

logger = logging.getLogger(__name__)

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_WARM_UPS = 3  # what torch's guide does before it records: autotuning and allocation are over then
_MOST_FRAMES = 2048  # of a recording: its memory is kept, about 5 MB a frame in float32
_MOST_SEEN = 1024


class Lane(Protocol):
    """Where work is queued in order: a stream of a device."""

    device: torch.device

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Queue here what is called within."""
        ...

    def record(self, step: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        """Return where a step's result will lie, and what repeats the step."""
        ...

    def wait(self) -> None:
        """Return when all that is queued is done."""
        ...


class CudaLane:
    """A CUDA stream of one's own; what other threads do on other streams goes on beside it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Queue here what is called within."""
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield

    def record(self, step: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        """Return where a step's result will lie, and what repeats the step."""
        for _ in range(_WARM_UPS):
            step()
        self.wait()
        graph = torch.cuda.CUDAGraph()
        # "thread_local": the detector may allocate on the same device meanwhile.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            result = step()
        return result, graph.replay

    def wait(self) -> None:
        """Return when all that is queued is done."""
        self._stream.synchronize()


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    """One recorded pass.

    Attributes:
        host_NTHW: Pinned where the lane is a GPU's.
        silhouettes_NTHW: What the pass reads.
        lengths_N: The same.
        embeddings_NDP: What it writes.
        replay: Does it again.
    """

    host_NTHW: torch.Tensor
    silhouettes_NTHW: torch.Tensor
    lengths_N: torch.Tensor
    embeddings_NDP: torch.Tensor
    replay: Callable[[], None]

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64]
    ) -> torch.Tensor:
        count, num_frames = silhouettes_NTHW.shape[:2]
        self.host_NTHW[:count, :num_frames] = torch.from_numpy(silhouettes_NTHW)
        self.silhouettes_NTHW[:count, :num_frames].copy_(
            self.host_NTHW[:count, :num_frames], non_blocking=True
        )
        lengths = np.zeros(len(self.lengths_N), np.int64)
        lengths[:count] = lengths_N
        self.lengths_N.copy_(torch.from_numpy(lengths), non_blocking=True)
        self.replay()
        return self.embeddings_NDP[:count]


class RecordedPasses:
    """Runs a network by recordings; calls wait for each other."""

    def __init__(self, lane: Lane, *, most: int = 16) -> None:
        """Start without recordings.

        Args:
            lane: Where to run.
            most: Recordings kept, those used last. More serve more shapes at full speed, at the
                price of memory for what goes in and out (22 KB a frame); what a pass needs in
                between, all share.
        """
        self._lane = lane
        self._most = most
        self._recordings: OrderedDict[tuple[int, ...], _Recording] = OrderedDict()
        self._seen: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self._is_recording = True

    def run(
        self,
        silhouettes_NTHW: NDArray[np.floating[Any]],
        lengths_N: NDArray[np.int64],
        forward: Forward,
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings, by a recording if the rounded shape has been seen before."""
        count, num_frames, *size_HW = silhouettes_NTHW.shape
        shape = (padded_batch(count), padded_frames(num_frames), *size_HW)
        with self._lock, self._lane.entered():
            recording = self._recording(shape, forward)
            if recording is not None:
                embeddings = recording.run(silhouettes_NTHW, lengths_N)
            else:
                # Rounded too: to a compiler, one frame is another program than several.
                padded_NTHW = np.zeros((count, *shape[1:]), np.float32)
                padded_NTHW[:, :num_frames] = silhouettes_NTHW
                embeddings = forward(
                    self._moved(torch.from_numpy(padded_NTHW)),
                    self._moved(torch.from_numpy(lengths_N)),
                )
            host = torch.empty_like(embeddings, device="cpu", pin_memory=self._is_pinned)
            host.copy_(embeddings, non_blocking=True)
            self._lane.wait()
        array: NDArray[np.floating[Any]] = np.array(host.numpy())  # pinned memory goes back
        return array

    @property
    def num_recordings(self) -> int:
        """How many are kept."""
        return len(self._recordings)

    @property
    def _is_pinned(self) -> bool:
        return self._lane.device.type == "cuda"

    def _moved(self, host: torch.Tensor) -> torch.Tensor:
        pinned = host.pin_memory() if self._is_pinned else host
        return pinned.to(self._lane.device, non_blocking=True)

    def _recording(self, shape: tuple[int, ...], forward: Forward) -> _Recording | None:
        if shape in self._recordings:
            self._recordings.move_to_end(shape)
            return self._recordings[shape]
        if not self._is_recording or shape[0] * shape[1] > _MOST_FRAMES:
            return None
        if shape not in self._seen:  # a shape that never comes again is not worth recording
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(shape)
            return None
        return self._record(shape, forward)

    def _record(self, shape: tuple[int, ...], forward: Forward) -> _Recording | None:
        while len(self._recordings) >= self._most:
            self._recordings.popitem(last=False)
        silhouettes = torch.zeros(shape, device=self._lane.device)
        lengths = torch.full((shape[0],), shape[1], device=self._lane.device)
        try:
            result, replay = self._lane.record(lambda: forward(silhouettes, lengths))
        except torch.OutOfMemoryError:
            self._recordings.clear()  # the caller comes again with less
            raise
        except RuntimeError as error:
            # The pass itself may still work, and says what is wrong if it does not.
            logger.warning("encoder: cannot record CUDA graphs (%s); running without", error)
            self._is_recording = False
            self._recordings.clear()
            return None
        host = torch.zeros(shape, pin_memory=self._is_pinned)
        recording = _Recording(host, silhouettes, lengths, result, replay)
        self._recordings[shape] = recording
        return recording
