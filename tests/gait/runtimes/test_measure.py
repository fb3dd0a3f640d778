from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gait.errors import OutOfMemory, RuntimeFailed, RuntimeUnavailable
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.runtimes import machine
from gait.runtimes.gemm import Kernel, fastest, kernels
from gait.runtimes.machine import OtherWork, describe_machine
from gait.runtimes.measure import Contender, EncoderBench, Row, Shape
from gait.runtimes.memory import MemoryLedger
from gait.runtimes.original import OriginalGraph, count_flops
from gait.runtimes.parity import Verdict
from gait.runtimes.runtime import Precision, RuntimeName
from gait.runtimes.turns import Times, Turns, pair_ratios

TINY = TrackletGaitConfig(name="tiny", blocks=(0, 1, 1, 0), channels=(16, 16, 16, 16))
PASSED = Verdict(passed=True, reason="", min_cosine=0.9999, max_difference=1e-5, num_tracklets=3)


class Clock:
    """Time that passes only when somebody works; all work may be slowed down at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slowness = 1.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds * self.slowness


class FakeLedger(MemoryLedger):
    """Looks at no memory, which would take longer than everything else here."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        yield
        self.peak_mb = 12.0


class FakeRuntime:
    """Takes so many seconds a frame; a real Runtime in every other way."""

    name: RuntimeName = "torch"
    precision: Precision = "float32"
    takes_padding = False
    description = "fake"

    def __init__(self, work: Callable[[float], None], a_frame_s: float) -> None:
        self._work, self._a_frame_s = work, a_frame_s
        self.most_sequences = 10_000
        self.is_closed = False

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        count, frames = silhouettes_NTHW.shape[:2]
        if count > self.most_sequences:
            raise OutOfMemory(f"{count} sequences are too many")
        self._work(self._a_frame_s * count * frames)
        return np.zeros((count, 256, 16), np.float32)

    def close(self) -> None:
        self.is_closed = True


def contender(name: str, runtime: FakeRuntime, precision: Precision = "float32") -> Contender:
    return Contender(name, precision, lambda: runtime)


def bench(clock: Clock, *contenders: Contender, **options: Any) -> EncoderBench:
    """A bench whose sequences take a million operations a frame, and whose roof is 1 GFLOP/s."""
    settings: dict[str, Any] = {
        "shapes": [Shape(1, 10)],
        "flops": lambda frames: 1e6 * frames,
        "kernels": lambda precision: [Kernel("fake", precision, 1e6, lambda: clock.work(1e-3))],
        "judge": lambda runtime: PASSED,
        "memory": FakeLedger,
        "clock": clock,
        "seconds": 1.0,
    }
    return EncoderBench(contenders, **(settings | options))


def figures(measured: EncoderBench) -> dict[tuple[str, int | None], Row]:
    return {(row.runtime, row.batch): row for row in measured.rows}


def test_speeds_follow_from_the_seconds_of_the_median_call() -> None:
    clock = Clock()
    measured = bench(
        clock, contender("a", FakeRuntime(clock.work, 0.002)), shapes=[Shape(1, 10), Shape(4, 10)]
    )
    measured.run()
    row = figures(measured)["a", 4]
    assert row.sequences_per_s == pytest.approx(50)
    assert row.frames_per_s == pytest.approx(500)
    assert row.p50_ms == pytest.approx(80)
    assert row.p95_ms == pytest.approx(80)
    assert row.gflops == pytest.approx(0.5)
    assert row.fraction_of_peak == pytest.approx(0.5)
    assert row.parity == 0.9999
    assert row.gate is not None
    assert row.gate.startswith("passed")
    assert row.memory_mb == 12
    assert row.speedup is None
    (peak,) = measured.peaks
    assert (peak.precision, peak.kernel) == ("float32", "fake")
    assert peak.gflops == pytest.approx(1)


def test_ratios_hold_while_the_machine_slows_down() -> None:
    clock = Clock()

    def tiring(seconds: float) -> None:
        clock.work(seconds)
        clock.slowness *= 1.001

    measured = bench(
        clock,
        contender("fast", FakeRuntime(tiring, 0.001)),
        baseline=contender("slow", FakeRuntime(tiring, 0.003)),
        seconds=0.5,
    )
    measured.run()
    fast, slow = figures(measured)["fast", 1], figures(measured)["slow", 1]
    assert fast.speedup == pytest.approx(3, rel=0.05)  # speeds themselves fall by a third
    assert slow.speedup == pytest.approx(1)
    assert slow.parity is None


def test_everybody_takes_turns() -> None:
    order: list[str] = []
    clock = Clock()

    def call(name: str) -> Callable[[], None]:
        def work() -> None:
            order.append(name)
            clock.work(1.0)

        return work

    turns = Turns({name: call(name) for name in "abc"}, clock=clock)
    turns.run(rounds=2, seconds=4, once="c")
    assert "".join(order) == "aabbc" * 2
    assert turns.times["a"].rounds == [[1.0, 1.0], [1.0, 1.0]]


def test_a_call_longer_than_its_share_is_made_once_a_round() -> None:
    clock = Clock()
    measured = bench(clock, contender("a", FakeRuntime(clock.work, 10.0)), rounds=3)
    measured.run()
    assert figures(measured)["a", 1].calls == 3


def test_ratios_are_of_rounds_that_both_completed() -> None:
    assert pair_ratios(Times([[2.0], [4.0, 6.0], [9.0]]), Times([[1.0], [5.0]])) == [2.0, 1.0]


def test_what_this_machine_cannot_do_is_a_row_that_says_why() -> None:
    def missing() -> FakeRuntime:
        raise RuntimeUnavailable("there is no GPU")

    clock = Clock()
    measured = bench(
        clock,
        Contender("gpu", "float16", missing),
        contender("a", FakeRuntime(clock.work, 0.002)),
        shapes=[Shape(1, 10), Shape(2, 10)],
    )
    measured.run()
    rows = figures(measured)
    assert rows["gpu", None].problem == "there is no GPU"
    assert rows["gpu", None].frames_per_s is None
    assert rows["a", 2].problem is None
    assert [peak.precision for peak in measured.peaks] == ["float32"]


def test_a_shape_that_does_not_fit_leaves_the_others_alone() -> None:
    clock = Clock()
    small = FakeRuntime(clock.work, 0.002)
    small.most_sequences = 2
    measured = bench(
        clock,
        contender("small", small),
        contender("large", FakeRuntime(clock.work, 0.002)),
        shapes=[Shape(1, 10), Shape(8, 10), Shape(2, 10)],
    )
    measured.run()
    rows = figures(measured)
    assert rows["small", 8].problem == "8 sequences are too many"
    assert rows["small", 8].frames_per_s is None
    assert all(rows[name].problem is None for name in rows if name != ("small", 8))
    assert len(rows) == 6


def test_a_runtime_that_fails_at_the_gate_is_not_measured() -> None:
    def refuse(_: object) -> Verdict:
        raise RuntimeFailed("embeddings are no numbers")

    clock = Clock()
    runtime = FakeRuntime(clock.work, 0.002)
    measured = bench(clock, contender("a", runtime), judge=refuse)
    measured.run()
    assert [row.problem for row in measured.rows] == ["embeddings are no numbers"]
    assert runtime.is_closed


def test_an_interruption_leaves_what_was_measured_and_closes_what_was_opened() -> None:
    clock = Clock()
    left = 2 + 5 + 3  # warmed up at two shapes, a round of both, half of the next

    def work(seconds: float) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        clock.work(seconds)

    runtime = FakeRuntime(work, 1 / 128)
    measured = bench(clock, contender("a", runtime), shapes=[Shape(1, 10), Shape(2, 10)], rounds=5)
    with pytest.raises(KeyboardInterrupt):
        measured.run()
    assert figures(measured)["a", 1].calls == 6
    assert figures(measured)["a", 2].calls == 2
    assert runtime.is_closed


def test_shapes_take_turns_too() -> None:
    clock, seen = Clock(), []

    class Watched(FakeRuntime):
        def run(self, silhouettes_NTHW: Any, lengths_N: Any) -> NDArray[np.floating[Any]]:
            seen.append(len(silhouettes_NTHW))
            return super().run(silhouettes_NTHW, lengths_N)

    measured = bench(
        clock,
        contender("a", Watched(clock.work, 0.1)),
        shapes=[Shape(1, 10), Shape(4, 10)],
        rounds=3,
    )
    measured.run()
    assert seen == [1, 4] * 4  # warmed up, and three rounds


def test_the_fastest_product_is_the_roof_and_those_that_fail_are_named() -> None:
    clock = Clock()

    def broken() -> None:
        raise RuntimeFailed("no such instruction")

    best, speeds = fastest(
        [
            Kernel("slow", "int8", 1e6, lambda: clock.work(1e-3)),
            Kernel("fast", "int8", 1e6, lambda: clock.work(5e-4)),
            Kernel("none", "int8", 1e6, broken),
        ],
        seconds=0.01,
        clock=clock,
    )
    assert best is not None
    assert best.name == "fast"
    assert [speed.gflops for speed in speeds] == [pytest.approx(1), pytest.approx(2), None]
    assert speeds[2].problem == "no such instruction"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_products_of_matrices_run_on_this_machine(precision: Precision) -> None:
    for kernel in kernels(precision):
        kernel.run()  # a torch without oneDNN raises RuntimeFailed, others must not


def test_operations_are_two_for_each_multiplication() -> None:
    # the temporal convolutions and the rest grow with the frames, the heads do not
    heads = 2 * 16 * 16 * 256
    two, four = count_flops(TINY, 2), count_flops(TINY, 4)
    per_frame = (four - two) / 2
    assert four == pytest.approx(4 * per_frame + heads)
    stem = 2 * 64 * 44 * 16
    assert per_frame > stem


def test_the_original_graph_gives_the_networks_own_embeddings() -> None:
    model = TrackletGait.random(TINY, torch.Generator().manual_seed(0)).eval()
    silhouettes = np.random.default_rng(0).random((2, 3, 64, 44), np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(silhouettes)).numpy()
    for channels_last in (False, True):
        runtime = OriginalGraph(model, channels_last=channels_last)
        np.testing.assert_allclose(runtime.run(silhouettes, None), expected, atol=1e-5)
        runtime.close()


def test_memory_that_is_held_and_memory_that_is_given_back_are_both_counted() -> None:
    program = """
from gait.runtimes.memory import MemoryLedger
ledger = MemoryLedger()
with ledger.watching():
    held = b"x" * 25_000_000
with ledger.watching():
    len(b"x" * 50_000_000)
print(ledger.peak_mb)
"""  # alone in a process: here, what earlier tests left would be given back meanwhile
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    if done.stdout == b"None\n":
        pytest.skip("the system does not tell the peak of memory")
    assert 70 < float(done.stdout) < 90


def test_a_machine_is_described_by_what_decides_its_speed() -> None:
    described = describe_machine(packages=["torch", "no-such-package"])
    assert f"torch {torch.__version__}" in described
    assert "no-such-package" not in described


def test_what_others_kept_at_work_makes_a_machine_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    others_s: list[float | None] = [100.0, 100.001, 1100.0, None]
    monkeypatch.setattr(machine, "_others_cpu_s", lambda: others_s.pop(0))
    alone = OtherWork()
    time.sleep(0.05)
    assert alone.warnings() == ()
    assert (alone.busy_cores() or 0.0) > 1.0
    assert alone.busy_cores() is None


def test_our_own_work_is_not_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: "cpu 100000 0 0 0 0 0 0 0 0 0\ncpu0 ...")
    before_s = machine._others_cpu_s()
    until_s = time.process_time() + 0.2
    while time.process_time() < until_s:
        pass
    after_s = machine._others_cpu_s()
    assert before_s is not None
    assert after_s is not None
    assert before_s - after_s >= 0.15
