"""The folded network by torch, and what it says when memory or a device fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed, RuntimeUnavailable
from gait.model.folded import FoldedGait, fold
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.runtimes import torch_runtime
from gait.runtimes.torch_graphs import RecordedPasses
from gait.runtimes.torch_runtime import TorchRuntime, failures_in_words, unavailable

TINY = TrackletGaitConfig(
    name="tiny", blocks=(0, 1, 1, 0), channels=(16, 16, 16, 16), stem_channels=4
)


def tiny() -> TrackletGait:
    return TrackletGait.random(TINY, torch.Generator().manual_seed(0)).eval()


def walks(count: int, num_frames: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, num_frames, 64, 44), np.float32)


def cosines(x_NDP: NDArray[np.floating], y_NDP: NDArray[np.floating]) -> NDArray[np.floating]:
    norms = np.linalg.norm(x_NDP, axis=1) * np.linalg.norm(y_NDP, axis=1)
    return (x_NDP * y_NDP).sum(axis=1) / norms


def test_float32_is_the_network_itself() -> None:
    model, inputs = tiny(), walks(2, 5)
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    runtime = TorchRuntime(fold(model))
    found = runtime.run(inputs, None)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=5e-5)
    assert not runtime.takes_padding
    assert runtime.description.startswith("float32 by torch ")


def test_float64_stays_the_reference() -> None:
    model = tiny().double()
    inputs = walks(1, 4).astype(np.float64)
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    found = TorchRuntime(fold(model), precision="float64").run(inputs, None)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_bfloat16_serves_where_the_cpu_computes_in_it_and_is_refused_elsewhere() -> None:
    if unavailable("bfloat16", torch.device("cpu")):
        with pytest.raises(RuntimeUnavailable, match="does not compute in bfloat16"):
            TorchRuntime(fold(tiny()), precision="bfloat16")
        return
    inputs = walks(2, 6)
    found = TorchRuntime(fold(tiny()), precision="bfloat16").run(inputs, None)
    assert found.dtype == np.float32
    assert cosines(found, TorchRuntime(fold(tiny())).run(inputs, None)).min() > 0.99


def test_what_no_cpu_instruction_computes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_runtime, "_cpu_computes", lambda precision: False)
    for precision in ("float16", "bfloat16"):
        with pytest.raises(RuntimeUnavailable, match=f"does not compute in {precision}"):
            TorchRuntime(fold(tiny()), precision=precision)
    with pytest.raises(RuntimeUnavailable, match="got int8"):
        TorchRuntime(fold(tiny()), precision="int8")


@pytest.mark.parametrize(
    ("raised", "meant"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), OutOfMemory),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (RuntimeError("CUDA error: out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        (RuntimeError("CUDA error: unspecified launch failure"), DeviceLost),
        (torch.AcceleratorError("CUDA error: no words of ours"), DeviceLost),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeFailed),
    ],
)
def test_torchs_exceptions_get_our_names(raised: Exception, meant: type[RuntimeFailed]) -> None:
    with pytest.raises(RuntimeFailed) as caught, failures_in_words("a test"):
        raise raised
    assert type(caught.value) is meant
    assert caught.value.__cause__ is raised


def test_embeddings_that_are_no_numbers_are_an_error() -> None:
    folded = fold(tiny())
    folded.head.weight_PCD[0, 0, 0] = torch.inf
    with pytest.raises(RuntimeFailed, match="NaN or infinite"):
        TorchRuntime(folded).run(walks(1, 2), None)


def test_a_closed_runtime_does_not_run() -> None:
    runtime = TorchRuntime(fold(tiny()))
    runtime.close()
    with pytest.raises(RuntimeFailed, match="closed"):
        runtime.run(walks(1, 2), None)


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object) -> torch.Tensor:
        raise OSError("no compiler found")

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: no_compiler)
    runtime = TorchRuntime(fold(tiny()), compiled=True)
    assert "no compiler found" in caplog.text
    assert runtime.description.endswith("(uncompiled)")
    expected = TorchRuntime(fold(tiny())).run(walks(1, 3), None)
    np.testing.assert_array_equal(runtime.run(walks(1, 3), None), expected)


class HostLane:
    """Records and replays as a GPU's stream does: the same buffers, no Python of the caller."""

    device = torch.device("cpu")

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        yield

    def record(self, step: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        if self.error is not None:
            raise self.error
        result = step().clone()

        def replay() -> None:
            result.copy_(step())

        return result, replay

    def wait(self) -> None:
        pass


@pytest.fixture(scope="module")
def folded() -> FoldedGait:
    return fold(tiny())


def run(
    passes: RecordedPasses, folded: FoldedGait, inputs: NDArray[np.float32], *lengths: int
) -> NDArray[np.floating]:
    with torch.inference_mode():
        return passes.run(inputs, np.array(lengths), folded)


def test_recorded_passes_of_rounded_shapes_equal_single_runs(folded: FoldedGait) -> None:
    passes, single = RecordedPasses(HostLane()), TorchRuntime(folded)
    for num_frames, lengths in ((7, (7, 3, 5)), (5, (5, 1, 4)), (8, (8, 8, 6)), (6, (2, 6, 3))):
        inputs = walks(3, num_frames)
        found = run(passes, folded, inputs, *lengths)
        for each, length, embedding in zip(inputs, lengths, found, strict=True):
            np.testing.assert_allclose(
                embedding, single.run(each[None, :length], None)[0], atol=1e-6
            )
    assert passes.num_recordings == 1  # all are 3 x 8


def test_a_shape_is_recorded_when_it_comes_again_and_few_are_kept(folded: FoldedGait) -> None:
    passes = RecordedPasses(HostLane(), most=2)
    counts = []
    for num_frames in (4, 8, 4, 8, 12, 12, 4):
        run(passes, folded, walks(1, num_frames), num_frames)
        counts.append(passes.num_recordings)
    assert counts == [0, 0, 1, 2, 2, 2, 2]


def test_what_cannot_be_recorded_runs_all_the_same(
    folded: FoldedGait, caplog: pytest.LogCaptureFixture
) -> None:
    error = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    passes = RecordedPasses(HostLane(error))
    results = [run(passes, folded, walks(1, 4), 4) for _ in range(3)]
    assert passes.num_recordings == 0
    assert caplog.text.count("cannot record CUDA graphs") == 1
    np.testing.assert_array_equal(results[0], results[2])


def test_too_little_memory_to_record_is_told_and_tried_again_with_less(folded: FoldedGait) -> None:
    lane = HostLane()
    passes = RecordedPasses(lane)
    for _ in range(2):
        run(passes, folded, walks(1, 4), 4)
    lane.error = torch.OutOfMemoryError("CUDA out of memory")
    run(passes, folded, walks(4, 4), 4, 4, 4, 4)
    with pytest.raises(torch.OutOfMemoryError):
        run(passes, folded, walks(4, 4), 4, 4, 4, 4)
    assert passes.num_recordings == 0
    lane.error = None
    run(passes, folded, walks(1, 4), 4)
    assert passes.num_recordings == 1


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_gives_the_embeddings_of_the_cpu(precision: str, compiled: bool) -> None:
    runtime = TorchRuntime(fold(tiny()), device="cuda:0", precision=precision, compiled=compiled)
    expected = TorchRuntime(fold(tiny()))
    lengths = np.array([9, 4, 7])
    for _ in range(3):  # as it is, recorded, replayed
        found = runtime.run(walks(3, 9), lengths)
        for each, length, embedding in zip(walks(3, 9), lengths, found, strict=True):
            alone = expected.run(each[None, :length], None)
            assert cosines(embedding[None], alone).min() > 0.99
    runtime.close()
