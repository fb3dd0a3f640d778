"""Engines that run, fail and are absent."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed, RuntimeUnavailable
from gait.runtimes import tensorrt
from gait.runtimes.cuda_memory import Workspace, describe_gpu, why_no_cuda
from gait.runtimes.session import Profile
from gait.runtimes.tensorrt_network import Phases
from gait.runtimes.tensorrt_session import Diary, TensorRTSession
from tests.gait.runtimes.tensorrt_vendor import (
    SILHOUETTES,
    FakeVendor,
    Machine,
    expected,
    feeds,
    means,
    walks,
)

# Running


def test_results_are_those_of_the_inputs_whatever_the_order_of_sizes(
    session: TensorRTSession,
) -> None:
    for batch, frames in [(3, 20), (1, 8), (64, 128), (2, 9), (8, 200), (1, 30)]:
        given = feeds(batch, frames, seed=frames)
        np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))


def test_short_sequences_are_padded_without_effect(session: TensorRTSession) -> None:
    for frames in range(1, 8):
        given = feeds(3, frames)
        np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))


def test_a_batch_below_the_least_is_padded_and_cut_again(machine: Machine) -> None:
    machine.install(FakeVendor())
    profiles = {
        "silhouettes": Profile((4, 8, 4, 3), (4, 8, 4, 3), (4, 8, 4, 3)),
        "lengths": Profile((4,), (4,), (4,)),
    }
    session = machine.open(profiles=profiles)
    given = feeds(3, 5)
    result = session.run(given)["embeddings"]
    np.testing.assert_array_equal(result, expected(given))


def test_without_lengths_short_sequences_run_in_a_range_of_their_own(machine: Machine) -> None:
    machine.install(FakeVendor((SILHOUETTES,)))
    session = machine.open()
    for frames in (30, 3, 300, 8):
        x = walks(2, frames)
        result = session.run({"silhouettes": x})["embeddings"]
        np.testing.assert_array_equal(result[:, 0], means(x, np.full(2, frames)))


@pytest.mark.parametrize(("batch", "frames"), [(65, 8), (200, 3), (9, 200), (17, 129)])
def test_a_batch_above_the_most_is_cut(session: TensorRTSession, batch: int, frames: int) -> None:
    given = feeds(batch, frames)
    np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))


@pytest.mark.parametrize(("batch", "frames"), [(1, 1025), (9, 1025), (1, 10_000)])
def test_a_sequence_longer_than_the_engine_takes_is_refused_in_words(
    session: TensorRTSession, batch: int, frames: int
) -> None:
    with pytest.raises(ValueError, match=r"batch 1 to 64, frames 8 to 128\) or .*; split what"):
        session.run(feeds(batch, frames))


@pytest.mark.parametrize(("batch", "frames"), [(0, 8), (2, 0)])
def test_nothing_cannot_be_run(session: TensorRTSession, batch: int, frames: int) -> None:
    given = {"silhouettes": walks(batch, frames), "lengths": np.ones(batch, np.int64)}
    with pytest.raises(ValueError, match="at least one of each"):
        session.run(given)


def test_wrong_inputs_are_refused_before_the_vendor_sees_them(session: TensorRTSession) -> None:
    given = feeds(2, 9)
    with pytest.raises(ValueError, match="expected float32, got float64"):
        session.run({**given, "silhouettes": given["silhouettes"].astype(np.float64)})
    with pytest.raises(ValueError, match="expected the inputs silhouettes, lengths"):
        session.run({"silhouettes": given["silhouettes"]})


def test_the_engine_gets_memory_for_the_shapes_of_a_call_not_for_the_largest(
    machine: Machine, session: TensorRTSession
) -> None:
    session.run(feeds(2, 10))
    assert machine.vendor.contexts[0].lent == 2 * 10 * 4 * 3


def test_threads_get_their_own_results(session: TensorRTSession) -> None:
    wrong: list[int] = []

    def use(seed: int) -> None:
        for _ in range(20):
            given = feeds(seed + 1, 8 + seed, seed)
            if not np.array_equal(session.run(given)["embeddings"], expected(given)):
                wrong.append(seed)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_closed_session_says_so(session: TensorRTSession) -> None:
    session.close()
    session.close()
    with pytest.raises(ValueError, match="is closed"):
        session.run(feeds(1, 8))


def test_it_says_what_runs_where(machine: Machine) -> None:
    assert machine.open().description == "graph by Fake 1.0 on Fake RTX (cuda:0)"


# Failing


def test_a_refused_execution_has_the_vendors_last_words(
    machine: Machine, session: TensorRTSession
) -> None:
    def refuse() -> bool:
        machine.vendor.complain("Error Code 7: something internal")
        return False

    machine.vendor.on_execute = refuse
    with pytest.raises(RuntimeFailed, match="refused to execute; Error Code 7") as caught:
        session.run(feeds(1, 8))
    assert type(caught.value) is RuntimeFailed


def test_out_of_memory_frees_what_was_held_and_fewer_can_follow(
    machine: Machine, session: TensorRTSession
) -> None:
    def only_small() -> bool:
        if machine.vendor.contexts[0].lent > 8 * 8 * 4 * 3:
            machine.vendor.complain("Error Code 2: OutOfMemory (Requested size was 9 bytes.)")
            return False
        return True

    machine.vendor.on_execute = only_small
    with pytest.raises(OutOfMemory):
        session.run(feeds(16, 8))
    assert session._workspace._buffers == {}
    given = feeds(8, 8)
    np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))


def test_torch_running_out_of_memory_is_out_of_memory_too(
    session: TensorRTSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(OutOfMemory, match="fewer at once"):
        session.run(feeds(2, 8))


def test_a_lost_device_is_noticed_when_the_vendor_does_not_name_it(
    machine: Machine, session: TensorRTSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Workspace) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    machine.vendor.on_execute = lambda: False
    monkeypatch.setattr(Workspace, "synchronise", gone)
    with pytest.raises(DeviceLost, match="unspecified launch failure"):
        session.run(feeds(1, 8))


def test_a_session_of_a_lost_device_can_be_closed(
    machine: Machine, session: TensorRTSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Workspace) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    machine.vendor.on_execute = lambda: False
    for method in ("synchronise", "release"):
        monkeypatch.setattr(Workspace, method, gone)
    with pytest.raises(DeviceLost):
        session.run(feeds(1, 8))
    session.close()


def test_an_exception_of_the_bindings_is_translated(
    machine: Machine, session: TensorRTSession
) -> None:
    def fall() -> bool:
        raise RuntimeError("cudaError 700: an illegal memory access was encountered")

    machine.vendor.on_execute = fall
    with pytest.raises(DeviceLost):
        session.run(feeds(1, 8))


# Being there


def test_without_either_product_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setattr(tensorrt, "_load_product", tensorrt._load_product.__wrapped__)
    lacking = tensorrt.available()
    assert lacking is not None
    assert "pip install --no-deps tensorrt-rtx" in lacking


def test_the_full_product_goes_first_unless_its_libraries_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stub() -> tuple[str, Any]:
        raise FileNotFoundError("Could not find: libnvinfer.so.11")

    monkeypatch.setattr(tensorrt, "_load_product", tensorrt._load_product.__wrapped__)
    monkeypatch.setattr(tensorrt, "_rtx_product", lambda: ("RTX", FakeVendor()))
    monkeypatch.setattr(tensorrt, "_full_product", lambda: ("Full", FakeVendor()))
    assert tensorrt.product_title() == "Full 1.0"
    monkeypatch.setattr(tensorrt, "_full_product", stub)
    assert tensorrt.product_title() == "RTX 1.0"


@pytest.mark.skipif(why_no_cuda() is None, reason="there is a GPU")
def test_without_a_gpu_a_session_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"cuda:0: (this torch|there is no NVIDIA GPU)"):
        describe_gpu("cuda:0")


def test_a_device_that_is_no_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="expected cuda or cuda:N, got 'cpu'"):
        describe_gpu("cpu")


def test_importing_the_adapter_loads_neither_torch_nor_a_vendor() -> None:
    code = (
        "import sys, gait.runtimes.tensorrt; "
        "print([m for m in ('torch', 'tensorrt', 'tensorrt_rtx') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Parts


def test_the_diary_passes_messages_on_and_remembers_complaints(
    caplog: pytest.LogCaptureFixture,
) -> None:
    diary = Diary()
    diary.add("ERROR", "before")
    mark = diary.mark()
    with caplog.at_level(logging.INFO):
        diary.add("WARNING", "a hint")
        diary.add("VERBOSE", "chatter")
        diary.add("ERROR", "first\n  line")
    assert diary.since(mark) == "first line"
    assert "a hint" in caplog.text
    assert "chatter" not in caplog.text
    assert diary.since(diary.mark()) == "it does not say why"


def test_progress_through_nested_phases_never_falls() -> None:
    phases = Phases()
    seen = []
    phases.start("build", 2)
    for _ in range(2):
        phases.start("inner", 4)
        for step in range(4):
            phases.complete("inner", step)
            seen.append(phases.fraction())
        phases.finish("inner")
        phases.complete("build", _)
        seen.append(phases.fraction())
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(1 / 8)
    assert seen[-1] == 1.0
