"""The fastest vendor that works is taken, what does not is said, and a lost GPU is survived."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import (
    CheckpointError,
    DeviceLost,
    GaitError,
    OutOfMemory,
    RuntimeFailed,
    RuntimeUnavailable,
)
from gait.runtimes import onnx_runtime, opening, tensorrt
from gait.runtimes.opening import LastingSession, open_session
from gait.runtimes.session import Port, Profile, Session

X = np.ones((2, 3), np.float32)
PROFILES = {"x": Profile((1, 3), (2, 3), (8, 3))}


class FakeSession:
    """Answers with the number it was given, or raises."""

    def __init__(self, description: str, answer: float | GaitError) -> None:
        self.description = description
        self.metadata: Mapping[str, str] = {}
        self.inputs = self.outputs = (Port("x", (), np.dtype(np.float32)),)
        self.answer = answer
        self.closed = 0

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if isinstance(self.answer, GaitError):
            raise self.answer
        return {"y": np.full((2, 3), self.answer, np.float32)}

    def close(self) -> None:
        self.closed += 1


class FakeVendors:
    """Stands in for both vendors on a machine with a GPU; the CPU stays real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tensorrt: GaitError | FakeSession | None = None
        self.cuda: GaitError | FakeSession | None = None
        self.asked: list[tuple[str, str, object]] = []
        real = onnx_runtime.open_session

        def by_tensorrt(onnx: bytes, *, device: str, profiles: object) -> Session:
            self.asked.append(("tensorrt", device, profiles))
            return self._opened(self.tensorrt)

        def by_onnxruntime(onnx: bytes, *, device: str = "cpu", **more: Any) -> Session:
            self.asked.append(("onnxruntime", device, more.get("profiles")))
            return real(onnx, **more) if device == "cpu" else self._opened(self.cuda)

        monkeypatch.setattr(opening, "_has_gpu", lambda: True)
        monkeypatch.setattr(tensorrt, "available", lambda: self._lacks(self.tensorrt))
        monkeypatch.setattr(tensorrt, "open_session", by_tensorrt)
        monkeypatch.setattr(onnx_runtime, "available", self._onnxruntime_lacks)
        monkeypatch.setattr(onnx_runtime, "open_session", by_onnxruntime)

    def _onnxruntime_lacks(self, device: str) -> str | None:
        return None if device == "cpu" else self._lacks(self.cuda)

    @staticmethod
    def _lacks(vendor: object) -> str | None:
        return "is not installed" if vendor is None else None

    @staticmethod
    def _opened(vendor: GaitError | FakeSession | None) -> Session:
        if isinstance(vendor, FakeSession):
            return vendor
        raise vendor or RuntimeUnavailable("is not installed")


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> FakeVendors:
    return FakeVendors(monkeypatch)


def test_on_a_gpu_tensorrt_comes_first(doubling: bytes, vendors: FakeVendors) -> None:
    vendors.tensorrt = FakeSession("by tensorrt", 7)
    session = open_session(doubling, profiles=PROFILES)
    assert vendors.asked == [("tensorrt", "cuda:0", PROFILES)]
    assert session.description == "by tensorrt"
    assert (session.run({"x": X})["y"] == 7).all()
    open_session(doubling, device="cuda:3", profiles=PROFILES)
    assert vendors.asked[-1][1] == "cuda:3"


@pytest.mark.parametrize("error", [RuntimeUnavailable("SM 9.0 is not supported"),
                                   OutOfMemory("the engine does not fit"),
                                   RuntimeFailed("engine is None")])  # fmt: skip
def test_what_fails_to_open_is_logged_and_the_next_is_taken(
    doubling: bytes,
    vendors: FakeVendors,
    error: GaitError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    vendors.tensorrt, vendors.cuda = error, RuntimeUnavailable("no cuDNN")
    session = open_session(doubling)
    assert [name for name, *_ in vendors.asked] == ["tensorrt", "onnxruntime", "onnxruntime"]
    assert (session.run({"x": X})["y"] == 2).all()
    assert f"{error}; trying the next way" in caplog.text
    assert "no cuDNN; trying the next way" in caplog.text


def test_a_device_that_was_asked_for_is_not_replaced_by_another(
    doubling: bytes, vendors: FakeVendors
) -> None:
    vendors.cuda = RuntimeUnavailable("no cuDNN")
    with pytest.raises(RuntimeUnavailable, match="no cuDNN"):
        open_session(doubling, device="cuda:0")
    open_session(doubling, device="cpu")
    assert vendors.asked[-1][:2] == ("onnxruntime", "cpu")


def test_a_vendor_that_was_asked_for_is_not_replaced_by_another(
    doubling: bytes, vendors: FakeVendors
) -> None:
    with pytest.raises(RuntimeUnavailable, match="is not installed"):
        open_session(doubling, vendor="tensorrt")
    with pytest.raises(RuntimeUnavailable, match="tensorrt: expected a device cuda"):
        open_session(doubling, vendor="tensorrt", device="cpu")
    with pytest.raises(RuntimeUnavailable, match="openvino: expected the device cpu"):
        open_session(doubling, vendor="openvino", device="cuda:0")
    vendors.tensorrt = FakeSession("", 7)
    assert "onnxruntime" in open_session(doubling, vendor="onnxruntime").description


def test_a_damaged_file_is_nobodys_failure(doubling: bytes, vendors: FakeVendors) -> None:
    vendors.tensorrt = CheckpointError("graph: damaged")
    with pytest.raises(CheckpointError):
        open_session(doubling)
    assert len(vendors.asked) == 1


def test_without_a_gpu_the_cpu_serves(doubling: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_has_gpu", lambda: False)
    for vendor in ("auto", "onnxruntime"):
        session = open_session(doubling, vendor=vendor)  # type: ignore[arg-type]
        assert "(CPU)" in session.description
        assert (session.run({"x": X})["y"] == 2).all()


def test_openvino_serves_when_asked(doubling: bytes) -> None:
    pytest.importorskip("openvino")
    session = open_session(doubling, vendor="openvino")
    assert "openvino" in session.description
    assert (session.run({"x": X})["y"] == 2).all()


def test_a_lost_gpu_is_replaced_by_the_cpu_once_and_said(
    doubling: bytes, vendors: FakeVendors, caplog: pytest.LogCaptureFixture
) -> None:
    lost = vendors.tensorrt = FakeSession("by tensorrt", 7)
    session = open_session(doubling, device="cuda:0", profiles=PROFILES)
    session.run({"x": X})
    lost.answer = DeviceLost("CUDA failure 700")
    for _ in range(2):
        assert (session.run({"x": X})["y"] == 2).all()
    assert "CUDA failure 700; going on with graph by onnxruntime" in caplog.text
    assert caplog.text.count("going on") == 1
    assert "(CPU)" in session.description
    assert lost.closed == 1


def test_out_of_memory_is_left_to_the_caller(doubling: bytes, vendors: FakeVendors) -> None:
    vendors.tensorrt = FakeSession("by tensorrt", OutOfMemory("2 GB"))
    session = open_session(doubling, device="cuda:0", profiles=PROFILES)
    with pytest.raises(OutOfMemory):
        session.run({"x": X})


def test_a_successor_that_is_lost_too_has_none() -> None:
    lost = FakeSession("second", DeviceLost("gone too"))
    session = LastingSession(FakeSession("first", DeviceLost("gone")), lambda: lost)
    for _ in range(2):
        with pytest.raises(DeviceLost, match="gone too"):
            session.run({"x": X})
    session.close()
    assert lost.closed == 1


def test_without_a_successor_the_first_loss_is_told() -> None:
    def fails() -> Session:
        raise RuntimeUnavailable("onnxruntime is not usable here")

    session = LastingSession(FakeSession("first", DeviceLost("gone")), fails)
    for _ in range(2):
        with pytest.raises(DeviceLost, match="gone"):
            session.run({"x": X})


def test_threads_that_lose_the_device_together_share_one_successor() -> None:
    opened: list[FakeSession] = []
    together = threading.Barrier(4)

    class LosesAll(FakeSession):
        def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            together.wait(timeout=60)
            raise DeviceLost("gone")

    def reopen() -> FakeSession:
        opened.append(FakeSession("second", 2))
        return opened[-1]

    session = LastingSession(LosesAll("first", 1), reopen)
    answers: list[float] = []
    threads = [
        threading.Thread(target=lambda: answers.append(session.run({"x": X})["y"][0, 0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [2, 2, 2, 2]
    assert len(opened) == 1
