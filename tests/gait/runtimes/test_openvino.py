"""Graphs run by OpenVINO, with the numbers of ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from gait.errors import CheckpointError, OutOfMemory, RuntimeFailed, RuntimeUnavailable
from gait.runtimes import onnx_runtime, openvino
from gait.runtimes.onnx_file import read_onnx
from gait.runtimes.openvino import OpenVinoSession, available, open_session
from gait.runtimes.session import Session

pytest.importorskip("openvino")

BUNDLED = Path(__file__).parents[3] / "pipeline" / "models" / "ssdlite-coco-300.onnx"
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 9), (3, 4)])
def test_the_encoder_gives_the_numbers_of_onnx_runtime(
    nano_onnx: bytes, batch: int, frames: int
) -> None:
    rng = np.random.default_rng(frames)
    silhouettes = (rng.random((batch, frames, 64, 44)) > 0.5).astype(np.float32)
    theirs = onnx_runtime.open_session(nano_onnx).run({"silhouettes": silhouettes})["embeddings"]
    ours = open_session(nano_onnx).run({"silhouettes": silhouettes})["embeddings"]
    assert ours.shape == (batch, 256, 16)
    # Rounding in another order. bfloat16, which it would take by itself, is 1e-2 away.
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_the_bundled_detector_gives_the_numbers_of_onnx_runtime() -> None:
    image = np.random.default_rng(0).random((1, 3, 300, 300), np.float32)
    session: Session = open_session(BUNDLED)
    theirs = onnx_runtime.open_session(BUNDLED)
    assert session.inputs == theirs.inputs
    assert session.outputs == theirs.outputs
    assert session.metadata == theirs.metadata
    assert session.description.startswith("ssdlite-coco-300.onnx by openvino 20")
    expected = theirs.run({"images": image})["output0"]
    found = session.run({"images": image})["output0"]
    np.testing.assert_allclose(found, expected, atol=1e-3)  # coordinates reach 300


def test_each_run_has_an_answer_of_its_own_in_any_thread(doubling: bytes) -> None:
    session = open_session(doubling, threads=None)
    answers: dict[int, Any] = {}

    def run(i: int) -> None:
        answers[i] = session.run({"x": X + i})["y"]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, answer in answers.items():
        np.testing.assert_array_equal(answer, 2 * (X + i))


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "expected the inputs x, got none"),
        ({"x": X.astype(np.float64)}, "x: expected float32, got float64"),
        ({"x": X[:, :2]}, r"x: expected shape \(.*, 3\), got \(2, 2\)"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_in_words(
    doubling: bytes, feeds: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        open_session(doubling).run(feeds)


def test_a_closed_session_does_not_run(doubling: bytes) -> None:
    session = open_session(doubling)
    session.close()
    with pytest.raises(ValueError, match="is closed"):
        session.run({"x": X})


def test_an_operator_nobody_knows_is_named(graph: Any) -> None:
    unknown = graph(helper.make_node("Teleport", ["x"], ["y"], domain="acme"), domains=["acme"])
    with pytest.raises(RuntimeUnavailable, match=r"openvino cannot open it: .*acme\.Teleport"):
        open_session(unknown)


def test_hostile_graphs_are_refused(graph: Any, bad_tensor: Any, doubling: bytes) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        open_session(doubling[:40])
    with pytest.raises(CheckpointError, match="another file"):
        open_session(graph(helper.make_node("Add", ["x", "w"], ["y"]), weights=[bad_tensor]))
    shape = numpy_helper.from_array(np.array([3, 2**46]), "shape")
    nodes = (
        helper.make_node("ConstantOfShape", ["shape"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    )
    with pytest.raises(OutOfMemory, match="out of memory"):
        open_session(graph(*nodes, weights=[shape]))


def test_other_failures_keep_the_vendors_words(doubling: bytes) -> None:
    class Broken:
        def infer(self, feeds: object) -> object:
            raise RuntimeError("Exception from src/inference: check failed")

    like = type("Compiled", (), {"inputs": (), "outputs": ()})()
    session = OpenVinoSession(read_onnx(doubling), like, Broken())
    with pytest.raises(RuntimeFailed, match="check failed"):
        session.run({})


def test_only_the_cpu_is_offered(doubling: bytes) -> None:
    assert available("cpu") is None
    with pytest.raises(RuntimeUnavailable, match="expected the device cpu, got cuda:0"):
        open_session(doubling, device="cuda:0")


def test_without_the_package_it_says_what_to_install(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino._core.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(RuntimeUnavailable, match=r"pip install 'trackletgait\[openvino\]'"):
        open_session(doubling)
    monkeypatch.undo()
    assert available() is None
