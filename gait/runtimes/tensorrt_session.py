"""An engine that runs: pinned memory, its own stream, everything asynchronous until the end."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed
from gait.runtimes.cuda_memory import Workspace
from gait.runtimes.failures import translated
from gait.runtimes.session import Port, check_feeds
from gait.runtimes.tensorrt_profiles import Fitted, Ranges, fit

logger = logging.getLogger(__name__)

_LAST_LINES = 20
_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.INFO,  # hints for who made the graph; several for each of ours
    "INFO": logging.DEBUG,
}
_SCRATCH = "the engine's own memory"  # no tensor has a name like that


class Diary:
    """What the vendor says: passed on to `logging`, and its last complaints kept for messages.

    Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._lines: deque[tuple[int, str]] = deque(maxlen=_LAST_LINES)

    def add(self, severity: str, text: str) -> None:
        """Take one message; `severity` is the name of one of `ILogger.Severity`."""
        level = _LEVELS.get(severity)
        if level is None:  # verbose: thousands of lines a build
            return
        logger.log(level, "%s", text)
        if level >= logging.ERROR:
            with self._lock:
                self._count += 1
                self._lines.append((self._count, " ".join(text.split())))

    def mark(self) -> int:
        """Return where the diary ends now."""
        with self._lock:
            return self._count

    def since(self, mark: int) -> str:
        """Return the complaints after a mark in one line, or that there were none."""
        with self._lock:
            lines = [line for number, line in self._lines if number > mark]
        return "; ".join(lines) or "it does not say why"


class ExecutionContext(Protocol):
    """What is used of the vendor's `IExecutionContext`; both products have it."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Choose a range of shapes."""
        ...

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Say an input's shape."""
        ...

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        """Return a shape, once those of the inputs are known."""
        ...

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Say where a tensor lies."""
        ...

    def update_device_memory_size_for_shapes(self) -> int:
        """Return how many bytes it needs for these shapes."""
        ...

    def set_device_memory(self, memory: int, size: int) -> None:
        """Give it those bytes."""
        ...

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Put the work on a stream."""
        ...


@dataclass(frozen=True, slots=True)
class Interface:
    """What an engine takes and gives.

    Attributes:
        inputs: In the graph's order.
        outputs: In the graph's order.
        ranges: Shapes it was built for.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    ranges: tuple[Ranges, ...]


class TensorRTSession:
    """A `gait.runtimes.session.Session` by TensorRT. Calls wait for each other.

    The memory an engine needs is taken for the shapes of a call, not for the largest it was built
    for, and kept at the largest that was seen.

    Attributes:
        description: File, product, version and GPU.
        metadata: What the graph's author wrote into the file.
        inputs: In the graph's order.
        outputs: In the graph's order.
        ranges: Shapes it was built for. Smaller inputs are padded, larger batches cut, and
            longer sequences refused.
    """

    def __init__(
        self,
        context: ExecutionContext,
        interface: Interface,
        workspace: Workspace,
        diary: Diary,
        *,
        description: str,
        metadata: Mapping[str, str],
        on_compiled: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over an execution context.

        Args:
            context: The vendor's, whose memory is to be given to it.
            interface: Of its engine.
            workspace: Its own.
            diary: Where the vendor's messages go.
            description: As the attribute.
            metadata: As the attribute.
            on_compiled: Called after the first run and on closing: what was compiled can be kept.
        """
        self.description = description
        self.metadata = metadata
        self.inputs = interface.inputs
        self.outputs = interface.outputs
        self.ranges = interface.ranges
        self._context: ExecutionContext | None = context
        self._workspace = workspace
        self._diary = diary
        self._on_compiled = on_compiled
        self._lock = threading.Lock()
        self._range = 0
        self._has_run = False

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name; see `gait.runtimes.session.Session.run`.

        Raises:
            ValueError: As there, or the shapes are beyond what the engine was built for.
            OutOfMemory: Fewer inputs at once may fit.
            DeviceLost: The device is gone.
            RuntimeFailed: Anything else; the message has the vendor's last words.
        """
        check_feeds(self.inputs, feeds)
        calls = fit(feeds, self.inputs, self.ranges)
        with self._lock:
            if self._context is None:
                raise ValueError(f"{self.description}: is closed")
            results = [self._run(self._context, call) for call in calls]
            if not self._has_run:
                self._has_run = True
                self._on_compiled()
        if len(results) == 1:
            return results[0]
        return {port.name: np.concatenate([r[port.name] for r in results]) for port in self.outputs}

    def close(self) -> None:
        """Give back everything the session holds; it cannot run afterwards."""
        with self._lock:
            if self._context is None:
                return
            if self._has_run:
                self._on_compiled()
            self._on_compiled = lambda: None  # it may hold the engine
            self._context = None
            with contextlib.suppress(RuntimeError):  # of a device that is lost
                self._workspace.release()

    def _run(self, context: ExecutionContext, call: Fitted) -> dict[str, NDArray[Any]]:
        mark = self._diary.mark()
        try:
            with self._workspace.current():
                self._choose(context, call.index)
                self._bind_inputs(context, call.feeds)
                wanted = self._bind_outputs(context)
                self._lend_memory(context)
                _require(context.execute_async_v3(self._workspace.stream), "execute")
                outputs = self._workspace.fetch(wanted)
        except Exception as error:  # the vendor's and torch's derive from nothing narrower
            raise self._failure(error, mark) from error
        return {name: array[: call.batch] for name, array in outputs.items()}

    def _choose(self, context: ExecutionContext, index: int) -> None:
        if index != self._range:
            stream = self._workspace.stream
            _require(context.set_optimization_profile_async(index, stream), "choose a profile")
            self._range = index

    def _bind_inputs(self, context: ExecutionContext, feeds: Mapping[str, NDArray[Any]]) -> None:
        for name, array in feeds.items():
            _require(context.set_input_shape(name, array.shape), f"take {name} {array.shape}")
            address = self._workspace.upload(name, array)
            _require(context.set_tensor_address(name, address), f"read {name}")

    def _bind_outputs(
        self, context: ExecutionContext
    ) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        wanted = {}
        for port in self.outputs:
            shape = tuple(int(length) for length in context.get_tensor_shape(port.name))
            if min(shape, default=0) < 0:
                raise RuntimeError(f"the size of {port.name} depends on numbers, got {shape}")
            size = int(np.prod(shape, dtype=np.int64)) * port.dtype.itemsize
            address = self._workspace.reserve(port.name, size)
            _require(context.set_tensor_address(port.name, address), f"write {port.name}")
            wanted[port.name] = shape, port.dtype
        return wanted

    def _lend_memory(self, context: ExecutionContext) -> None:
        size = context.update_device_memory_size_for_shapes()
        context.set_device_memory(self._workspace.reserve(_SCRATCH, size), size)

    def _failure(self, error: Exception, mark: int) -> RuntimeFailed:
        """Return what a failure means, after a look whether the device still answers."""
        texts = [str(error), self._diary.since(mark)]
        try:
            self._workspace.synchronise()
        except Exception as lost:
            texts.append(str(lost))
        failure = translated(RuntimeError("; ".join(texts)), self.description)
        if isinstance(failure, DeviceLost):
            self._on_compiled = lambda: None  # nothing can be read from it any more
        elif isinstance(failure, OutOfMemory):
            self._workspace.release()
        return failure


def _require(is_done: bool, doing: str) -> None:
    if not is_done:
        raise RuntimeError(f"TensorRT refused to {doing}")
