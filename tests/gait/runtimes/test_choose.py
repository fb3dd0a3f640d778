"""Which runtime serves the encoder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gait.errors import RuntimeFailed, RuntimeUnavailable
from gait.export import Exported
from gait.model.folded import fold
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.runtimes import cache, choose, parity
from gait.runtimes.cache import CACHE_VARIABLE
from gait.runtimes.choose import Order
from gait.runtimes.meanwhile import Meanwhile, OnStep
from gait.runtimes.parity import Candidate
from gait.runtimes.reference import reference_tracklets
from gait.runtimes.runtime import Precision, Runtime, RuntimeName
from gait.runtimes.torch_runtime import TorchRuntime

TINY = TrackletGaitConfig(
    name="tiny", blocks=(0, 1, 1, 0), channels=(16, 16, 16, 16), stem_channels=4
)
INPUTS = np.random.default_rng(0).random((2, 5, 64, 44), np.float32)


@pytest.fixture(scope="module")
def model() -> TrackletGait:
    return TrackletGait.random(TINY, torch.Generator().manual_seed(0)).eval()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    few = reference_tracklets()[:4]
    monkeypatch.setattr(parity, "reference_tracklets", lambda: few)
    return tmp_path / "cache"


class Vendor:
    """Torch under another name; `error` is added to what it answers."""

    takes_padding = False

    def __init__(self, name: RuntimeName, precision: Precision, model: TrackletGait, error: float):
        self.name = name
        self.precision = precision
        self.description = f"{precision} by {name} 1.0"
        self._torch = TorchRuntime(fold(model))
        self._error = error
        self.is_closed = False

    def run(
        self, silhouettes_NTHW: NDArray[Any], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[Any]:
        embeddings = self._torch.run(silhouettes_NTHW, lengths_N)
        noise = np.random.default_rng(0).normal(size=embeddings.shape[1:])
        return (embeddings + self._error * np.abs(embeddings).mean() * noise).astype(np.float32)

    def close(self) -> None:
        self.is_closed = True


Errors = dict[RuntimeName, float | Exception]
Vendors = Callable[[Errors], list[Vendor]]


@pytest.fixture
def vendors(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Vendors:
    """Replaces vendors by fakes that err as much as said, or raise; returns who was opened."""

    def install(errors: Errors) -> list[Vendor]:
        opened: list[Vendor] = []

        def open_fake(name: RuntimeName, order: Order, on_step: OnStep) -> Candidate:
            error = errors[name]
            if isinstance(error, Exception):
                raise error
            opened.append(Vendor(name, order.precision, order.model, error))
            return Candidate(opened[-1], order.model_hash, "cpu")

        monkeypatch.setattr(choose, "_open", open_fake)
        monkeypatch.setattr(choose, "why_not", lambda *_: None)
        return opened

    return install


@contextlib.contextmanager
def choose_at_once(model: TrackletGait, **options: Any) -> Iterator[Runtime]:
    with contextlib.closing(choose.choose(model, device="cpu", wait=False, **options)) as runtime:
        yield runtime


def test_the_first_that_passes_serves_and_says_how_it_did(
    model: TrackletGait, vendors: Vendors
) -> None:
    vendors({"onnxruntime": 0.001})
    runtime = choose.choose(model, device="cpu")
    assert runtime.name == "onnxruntime"
    assert runtime.description.startswith("float32 by onnxruntime 1.0 (cosine to torch ")


def test_wrong_numbers_are_refused_and_the_next_one_serves_loudly(
    model: TrackletGait, vendors: Vendors, caplog: pytest.LogCaptureFixture
) -> None:
    opened = vendors({"onnxruntime": 0.5})
    runtime = choose.choose(model, device="cpu")
    assert runtime.name == "torch"
    assert opened[0].is_closed
    assert "onnxruntime in float32 does not serve" in caplog.text
    assert "refused at the gate: expected a cosine of at least 0.999, got cosine" in caplog.text
    expected = TorchRuntime(fold(model)).run(INPUTS, None)
    np.testing.assert_array_equal(runtime.run(INPUTS, None), expected)


@pytest.mark.parametrize(
    "error", [RuntimeUnavailable("openvino is not installed"), RuntimeFailed("NaN")]
)
def test_a_named_runtime_that_cannot_serve_gives_way_to_the_usual_ones(
    model: TrackletGait, vendors: Vendors, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    vendors({"openvino": error, "onnxruntime": 0.0})
    runtime = choose.choose(model, device="cpu", runtime="openvino")
    assert runtime.name == "onnxruntime"
    assert f"openvino in float32 does not serve: {error}" in caplog.text
    assert runtime.description.endswith(" instead of openvino in float32")


def test_what_is_not_here_is_passed_over_with_the_reason_once(
    model: TrackletGait, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with choose_at_once(model, runtime="tensorrt") as runtime:
        assert runtime.name == "torch"
        assert caplog.text.count("tensorrt in float32 does not serve: tensorrt: needs a GPU") == 1


def test_a_mistake_of_ours_is_no_reason_to_pass_a_runtime_over(
    model: TrackletGait, vendors: Vendors
) -> None:
    vendors({"onnxruntime": ZeroDivisionError("a mistake")})
    with pytest.raises(ZeroDivisionError):
        choose.choose(model, device="cpu")


def test_torch_in_float32_serves_when_nobody_computes_in_the_precision(
    model: TrackletGait, own_cache: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(choose.torch_runtime, "_cpu_computes", lambda precision: False)
    runtime = choose.choose(model, device="cpu", precision="bfloat16")
    assert (runtime.name, runtime.precision) == ("torch", "float32")
    assert runtime.description.endswith(" instead of a runtime in bfloat16")
    assert "onnxruntime: expected float32, float16, int8, got bfloat16" in caplog.text
    assert "this CPU does not compute in bfloat16" in caplog.text


def test_the_choice_depends_on_the_device() -> None:
    assert choose.ORDER["cuda"] == ("tensorrt", "torch", "onnxruntime")
    assert choose.ORDER["cpu"] == ("onnxruntime", "torch")
    assert choose.why_not("tensorrt", torch.device("cpu"), "float32") == "tensorrt: needs a GPU"


def test_without_waiting_torch_serves_until_a_named_runtime_is_built(
    model: TrackletGait, vendors: Vendors
) -> None:
    vendors({"openvino": 0.0})
    runtime = choose.choose(model, device="cpu", runtime="openvino", wait=False)
    assert isinstance(runtime, Meanwhile)
    assert runtime.wait(60)
    assert runtime.name == "openvino"
    runtime.close()


def test_by_default_a_short_run_on_a_cpu_builds_nothing(
    model: TrackletGait, vendors: Vendors, own_cache: Path
) -> None:
    opened = vendors({"onnxruntime": 0.0})
    runtime = choose.choose(model, device="cpu", wait=False)
    runtime.run(INPUTS, None)
    runtime.close()
    assert not opened
    assert not list(own_cache.glob("*"))


def test_a_model_that_is_not_float32_is_refused(model: TrackletGait) -> None:
    with pytest.raises(ValueError, match=r"expected float32 on cpu, got torch\.float64"):
        choose.choose(TrackletGait.random(TINY, torch.Generator()).double(), device="cpu")


def test_the_exported_network_serves_and_is_ready_the_next_time(
    model: TrackletGait, own_cache: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The real thing: torch's exporter, ONNX Runtime, gate and cache."""
    caplog.set_level(logging.INFO, "gait.runtimes")
    expected = TorchRuntime(fold(model)).run(INPUTS, None)
    first = choose.choose(model, device="cpu", threads=1)
    assert first.name == "onnxruntime"
    np.testing.assert_allclose(first.run(INPUTS, None), expected, atol=5e-5)
    first.close()
    assert "exporting" in caplog.text

    def no_trial(*_: object, **__: object) -> None:
        raise AssertionError("judged again")

    caplog.clear()
    monkeypatch.setattr(parity, "check", no_trial)
    ready = choose.choose(model, device="cpu", threads=1, wait=False)
    assert ready.description == first.description
    assert not isinstance(ready, Meanwhile)
    ready.close()

    (graph,) = own_cache.glob("encoder-*.onnx")
    graph.write_bytes(graph.read_bytes()[:5000])
    wanted = choose._graph("onnxruntime", choose._order(model, "cpu", "auto", "auto", 1))
    anew = Exported(b"made anew", {}, ())
    monkeypatch.setattr("gait.export.export", lambda *_, **__: anew)
    assert wanted.exported() == b"made anew"
    assert "damaged" in caplog.text


def test_without_a_cache_folder_torch_serves(
    model: TrackletGait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(RuntimeUnavailable):
        cache.cache_folder()
    assert choose.choose(model, device="cpu").name == "torch"
    assert "cache folder" in caplog.text
