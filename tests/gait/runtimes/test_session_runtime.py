"""A vendor's session as the encoder's runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import RuntimeFailed, RuntimeUnavailable
from gait.runtimes.session import Port
from gait.runtimes.session_runtime import SessionRuntime


class MeanSession:
    """A session whose embeddings are the mean of each sequence's real frames."""

    def __init__(self, *inputs: str, output: str = "embeddings", answer: float = 1.0) -> None:
        self.description = "/some/where/graph.onnx by vendor 1.2 (CPU)"
        self.metadata: Mapping[str, str] = {}
        self.inputs = tuple(Port(name, ("batch",), np.dtype(np.float32)) for name in inputs)
        self.outputs = (Port(output, ("batch", 256, 16), np.dtype(np.float32)),)
        self.answer = answer
        self.feeds: Mapping[str, NDArray[Any]] = {}
        self.is_closed = False

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.feeds = feeds
        count = len(feeds["silhouettes"])
        return {"embeddings": np.full((count, 256, 16), self.answer, np.float32)}

    def close(self) -> None:
        self.is_closed = True


def silhouettes(count: int = 2) -> NDArray[np.float32]:
    return np.zeros((count, 5, 64, 44), np.float32)


def test_a_session_without_lengths_takes_whole_sequences_only() -> None:
    session = MeanSession("silhouettes")
    runtime = SessionRuntime(session, name="openvino", precision="int8", has_lengths=False)
    assert runtime.run(silhouettes(), None).shape == (2, 256, 16)
    assert list(session.feeds) == ["silhouettes"]
    assert not runtime.takes_padding
    assert runtime.description == "int8 by vendor 1.2 (CPU)"
    with pytest.raises(ValueError, match="one length"):
        runtime.run(silhouettes(), np.array([5, 4]))
    runtime.close()
    assert session.is_closed


def test_a_session_with_lengths_is_told_them_always() -> None:
    session = MeanSession("silhouettes", "lengths")
    runtime = SessionRuntime(session, name="tensorrt", precision="float16", has_lengths=True)
    assert runtime.takes_padding
    runtime.run(silhouettes(), np.array([5, 4]))
    np.testing.assert_array_equal(session.feeds["lengths"], [5, 4])
    runtime.run(silhouettes(), None)
    np.testing.assert_array_equal(session.feeds["lengths"], [5, 5])
    assert session.feeds["lengths"].dtype == np.int64


def test_a_session_is_given_no_more_frames_at_once_than_it_should_be() -> None:
    session = MeanSession("silhouettes")
    runtime = SessionRuntime(
        session, name="openvino", precision="float32", has_lengths=False, most_frames=12
    )
    assert runtime.run(silhouettes(5), None).shape == (5, 256, 16)
    assert len(session.feeds["silhouettes"]) == 1  # of 2, 2 and 1 sequences of 5 frames
    assert runtime.run(np.zeros((1, 50, 64, 44), np.float32), None).shape == (1, 256, 16)


@pytest.mark.parametrize("answer", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_an_error(answer: float) -> None:
    session = MeanSession("silhouettes", answer=answer)
    runtime = SessionRuntime(session, name="tensorrt", precision="float16", has_lengths=False)
    with pytest.raises(RuntimeFailed, match=r"float16 by vendor 1\.2 \(CPU\).*NaN or infinite"):
        runtime.run(silhouettes(), None)


@pytest.mark.parametrize(
    "session",
    [
        MeanSession("images"),
        MeanSession("silhouettes", "lengths"),
        MeanSession("silhouettes", output="boxes"),
    ],
)
def test_a_graph_that_is_no_encoder_is_refused(session: MeanSession) -> None:
    with pytest.raises(RuntimeUnavailable, match="expected a graph from silhouettes to embeddings"):
        SessionRuntime(session, name="onnxruntime", precision="float32", has_lengths=False)
