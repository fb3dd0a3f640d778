"""From a graph to an engine's plan. The vendor's module comes as an argument."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gait.errors import RuntimeUnavailable
from gait.runtimes.onnx_file import OnnxFile
from gait.runtimes.session import Port
from gait.runtimes.tensorrt_profiles import Ranges
from gait.runtimes.tensorrt_session import Diary

logger = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of the build is over, 0..1."""

_DTYPES: Mapping[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
# The parser looks for weights of other files beside this one; `read_onnx` has refused them before.
_NOWHERE = "/dev/null/graph.onnx"


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One of the two products, ready to use.

    Attributes:
        vendor: Its module.
        title: Name and version.
        log: The vendor's own kind of logger; a process has one for everything.
        diary: Where that one writes.
    """

    vendor: Any
    title: str
    log: Any
    diary: Diary


@dataclass(frozen=True, slots=True)
class UnsupportedNode:
    """A node of a graph that TensorRT cannot run.

    Attributes:
        name: Of the node, or its place in the graph if it has none; empty when the parser blames
            no node.
        operator: As ONNX calls it.
        reason: In the parser's words.
    """

    name: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.operator}): {self.reason}" if self.name else self.reason


@dataclass(frozen=True, slots=True)
class ParseReport:
    """What TensorRT made of a graph.

    Attributes:
        product: Name and version.
        layers: Of its own network, as far as it came.
        inputs: In the graph's order.
        outputs: In the graph's order; the parser keeps no names of their free axes.
        unsupported: What stands in the way; nothing when it can be built.
    """

    product: str
    layers: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    unsupported: tuple[UnsupportedNode, ...]


class Network:
    """A parsed graph.

    Attributes:
        report: What the vendor made of it.
    """

    def __init__(self, product: Product, file: OnnxFile) -> None:
        vendor, mark = product.vendor, product.diary.mark()
        self._product = product
        self._name = file.name
        self._builder = _builder(product)
        flags = 1 << int(vendor.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self._network = self._builder.create_network(flags)
        # Kept, for the network points to weights that the parser and the file hold.
        self._parser, self._file = vendor.OnnxParser(self._network, product.log), file
        is_parsed = self._parser.parse(file.content, _NOWHERE)
        unsupported = _unsupported(self._parser)
        if not is_parsed and not unsupported:
            unsupported = (UnsupportedNode("", "", product.diary.since(mark)),)
        self.report = ParseReport(
            product.title,
            self._network.num_layers,
            tuple(_port(self._network.get_input(i)) for i in range(self._network.num_inputs)),
            tuple(_port(self._network.get_output(i)) for i in range(self._network.num_outputs)),
            unsupported,
        )

    def plan(
        self,
        ranges: tuple[Ranges, ...],
        *,
        capability: tuple[int, int] | None,
        timings: bytes | None,
        progress: Progress | None,
    ) -> tuple[bytes, bytes | None]:
        """Return the plan, and what was learnt about the GPU's speed for the next build.

        Args:
            ranges: Checked shapes to build for.
            capability: Of the GPU it is for; None for all the product knows.
            timings: What an earlier build has learnt.
            progress: What it raises ends the build.

        Raises:
            RuntimeUnavailable: It cannot be built; the message has the vendor's words.
        """
        self._refuse_unsupported()
        mark = self._product.diary.mark()
        config = self._builder.create_builder_config()
        for each in ranges:
            self._add(config, each)
        _aim(self._product.vendor, config, capability)
        timing_cache = self._timing_cache(config, timings)
        monitor = None if progress is None else _monitor(self._product.vendor, progress)
        if monitor is not None:
            config.progress_monitor = monitor
        plan = self._builder.build_serialized_network(self._network, config)
        if monitor is not None and monitor.raised is not None:
            raise monitor.raised
        if plan is None:
            raise RuntimeUnavailable(
                f"{self._name}: {self._product.title} cannot build it: "
                f"{self._product.diary.since(mark)}"
            )
        if progress is not None:
            progress("Engine built", 1.0)  # the vendor does not report its last steps
        learnt = None if timing_cache is None else bytes(timing_cache.serialize())
        return bytes(plan), learnt

    def _refuse_unsupported(self) -> None:
        unsupported = self.report.unsupported
        if unsupported:
            listed = "; ".join(str(node) for node in unsupported[:8])
            more = f"; and {len(unsupported) - 8} more" if len(unsupported) > 8 else ""
            raise RuntimeUnavailable(
                f"{self._name}: {self._product.title} does not support: {listed}{more}"
            )

    def _add(self, config: Any, ranges: Ranges) -> None:
        if not ranges:
            return  # all shapes are fixed
        profile = self._builder.create_optimization_profile()
        for name, shapes in ranges.items():
            profile.set_shape(name, shapes.least, shapes.usual, shapes.most)
        config.add_optimization_profile(profile)

    def _timing_cache(self, config: Any, timings: bytes | None) -> Any:
        # TensorRT for RTX has the calls and a warning that they do nothing.
        if hasattr(self._product.vendor, "IRuntimeCache"):
            return None
        for known in (timings, b""):
            timing_cache = None if known is None else config.create_timing_cache(known)
            if timing_cache is not None and config.set_timing_cache(timing_cache, False):
                return timing_cache
        return None


def _builder(product: Product) -> Any:
    mark = product.diary.mark()
    try:
        return product.vendor.Builder(product.log)
    except (RuntimeError, TypeError) as error:  # how its bindings say that there is none
        raise RuntimeUnavailable(
            f"{product.title} does not start: {product.diary.since(mark)}"
        ) from error


def _port(tensor: Any) -> Port:
    dtype = _DTYPES.get(tensor.dtype.name)
    if dtype is None or tensor.is_shape_tensor:
        kind = "a tensor of shapes" if tensor.is_shape_tensor else tensor.dtype.name
        raise RuntimeUnavailable(
            f"{tensor.name}: expected numbers of {', '.join(_DTYPES)}, got {kind}; export the "
            "graph with other inputs and outputs"
        )
    lengths = enumerate(tensor.shape)
    shape = tuple(int(n) if n >= 0 else _axis_name(tensor, i) for i, n in lengths)
    return Port(tensor.name, shape, np.dtype(dtype))


def _axis_name(tensor: Any, index: int) -> str:
    # An axis without a name is as free as one with a name, but equal to no other.
    return tensor.get_dimension_name(index) or f"{tensor.name}[{index}]"


def _unsupported(parser: Any) -> tuple[UnsupportedNode, ...]:
    found = []
    for error in (parser.get_error(i) for i in range(parser.num_errors)):
        index, operator = error.node(), error.node_operator()
        name = error.node_name() or (f"node {index}" if index >= 0 else "")
        reason = " ".join(error.desc().split())
        found.append(UnsupportedNode(name, operator, f"{error.code().name}: {reason}"))
    return tuple(found)


def _aim(vendor: Any, config: Any, capability: tuple[int, int] | None) -> None:
    """Build for one kind of GPU where the product lets one choose, and knows it.

    TensorRT for RTX builds for several by default, which leaves Turing (7.5) out.
    """
    if capability is None or not hasattr(vendor, "ComputeCapability"):
        return
    target = getattr(vendor.ComputeCapability, f"SM{capability[0]}{capability[1]}", None)
    if target is None:
        logger.warning(
            "TensorRT does not list GPUs of compute capability %s.%s; trying what it builds for "
            "all that it lists",
            *capability,
        )
        return
    config.num_compute_capabilities = 1
    config.set_compute_capability(target, 0)


def _monitor(vendor: Any, progress: Progress) -> Any:
    """Return the vendor's kind of monitor, which keeps what `progress` raises in `raised`."""

    class Monitor(vendor.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            vendor.IProgressMonitor.__init__(self)
            self.raised: BaseException | None = None
            self._phases = Phases()

        def phase_start(self, phase: str, _parent: str | None, num_steps: int) -> None:
            self._phases.start(phase, num_steps)

        def step_complete(self, phase: str, step: int) -> bool:
            self._phases.complete(phase, step)
            try:
                progress(phase, self._phases.fraction())
            except BaseException as error:  # must not travel through the vendor's C++
                self.raised = error
            return self.raised is None

        def phase_finish(self, phase: str) -> None:
            self._phases.finish(phase)

    return Monitor()


class Phases:
    """How much of a work is over whose steps are works of their own."""

    def __init__(self) -> None:
        self._stack: list[list[Any]] = []  # name, number of steps, steps done
        self._highest = 0.0

    def start(self, name: str, num_steps: int) -> None:
        """Begin a work that is one step of the work that was begun last."""
        self._stack.append([name, max(num_steps, 1), 0])

    def complete(self, name: str, step: int) -> None:
        """Note that step number `step`, from 0, of the innermost work of that name is over."""
        for phase in reversed(self._stack):
            if phase[0] == name:
                phase[2] = min(step + 1, phase[1])
                return

    def finish(self, name: str) -> None:
        """End the innermost work of that name and all that was begun inside it."""
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index][0] == name:
                del self._stack[index:]
                return

    def fraction(self) -> float:
        """Return how much is over, 0..1; never less than before."""
        share, total = 1.0, 0.0
        for _, num_steps, done in self._stack:
            share /= num_steps
            total += done * share
        self._highest = max(self._highest, min(total, 1.0))
        return self._highest
