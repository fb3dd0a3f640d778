"""The person-mask network answers what TensorFlow Lite made of it, on whatever it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed
from gait.runtimes.opening import LastingSession, open_session
from gait.runtimes.session import Port, Session, Vendor
from pipeline.errors import ModelError
from pipeline.stages import segment_pose
from pipeline.stages.segment import PoseConfig, Segmenter
from pipeline.values import Frame
from pipeline.weights import MODELS_FOLDER, resolve
from trackers.boxes import Mask, Tracks

DATA = Path(__file__).parents[2] / "data"
MODEL = resolve("pose-landmark-full")
BOXES = (
    [(644, 125, 662, 181), (663, 126, 682, 181), (5, 5, 30, 60)],
    [(356, 218, 387, 310), (346, 210, 395, 320), (100, 100, 104, 108)],
)  # of the two street frames; nobody in one, nothing to be seen in another


@pytest.fixture(scope="module")
def recorded() -> Mapping[str, NDArray[Any]]:
    with np.load(DATA / "pose-tflite.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def crops(recorded: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """What TensorFlow Lite was given: squares of 128 pixels, each pixel as two by two."""
    squares = []
    for number, left, top in recorded["squares"]:
        image = np.asarray(cv2.imread(str(DATA / f"street-{number}.jpg")), np.float32)
        square = image[top : top + 128, left : left + 128, ::-1].transpose(2, 0, 1)
        squares.append(square.repeat(2, axis=1).repeat(2, axis=2) / np.float32(255))
    return np.stack(squares)


@pytest.fixture(scope="module")
def network() -> Iterator[Session]:
    session = open_session(MODEL, vendor="onnxruntime", device="cpu")
    yield session
    session.close()


def tracks_of(boxes: Sequence[tuple[float, ...]]) -> Tracks:
    return Tracks(
        track_ids=np.arange(len(boxes)),
        xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        confidence=np.ones(len(boxes), dtype=np.float32),
        detection_indices=np.arange(len(boxes)),
    )


@pytest.fixture
def tracks() -> list[Tracks]:
    return [tracks_of(boxes) for boxes in BOXES]


class Gpu:
    """A session that runs on the CPU and fails as a GPU's does when it has too little memory.

    Attributes:
        batches: Crops of each call.
    """

    metadata: Mapping[str, str] = {}

    def __init__(
        self, network: Session, *, fits: int = 10**6, after: Callable[[], None] = lambda: None
    ) -> None:
        self.description = "pose_landmark_full.onnx by a fake on cuda:0"
        self.inputs: tuple[Port, ...] = network.inputs
        self.outputs: tuple[Port, ...] = network.outputs
        self.batches: list[int] = []
        self._network, self._fits, self._after = network, fits, after

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.batches.append(len(feeds["crops"]))
        if self.batches[-1] > self._fits:
            raise OutOfMemory("the fake: out of memory")
        answers = self._network.run(feeds)
        self._after()
        return answers

    def close(self) -> None:
        pass


def segmenter_on(session: Session, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    monkeypatch.setattr(segment_pose, "open_session", lambda *_, **__: session)
    return PoseConfig().build()


def same(found: list[tuple[Mask | None, ...]], expected: list[tuple[Mask | None, ...]]) -> bool:
    def key(mask: Mask | None) -> object:
        return mask and (mask.x, mask.y, mask.pixels.shape, mask.pixels.tobytes())

    return [[key(m) for m in masks] for masks in found] == [
        [key(m) for m in masks] for masks in expected
    ]


@pytest.mark.parametrize("vendor", ["onnxruntime", "openvino"])
def test_the_network_answers_what_tensorflow_lite_answered(
    vendor: Vendor, recorded: Mapping[str, NDArray[Any]], crops: NDArray[np.float32]
) -> None:
    if vendor == "openvino":
        pytest.importorskip("openvino")
    session = open_session(MODEL, vendor=vendor, device="cpu")
    answers = session.run({"crops": crops})
    session.close()
    np.testing.assert_allclose(answers["presence"], recorded["presence"], atol=1e-4)
    # The network magnifies rounding: TensorFlow Lite itself is as far from float64 as that.
    logits = answers["mask"][:, 0, ::4, ::4]
    expected = recorded["every_fourth_logit"]
    assert np.abs(logits - expected).max() < 3e-3 * np.abs(expected).max()
    near = np.abs(expected) < 10  # where the mask is decided
    assert np.abs(logits - expected)[near].max() < 0.2
    pixels = np.unpackbits(recorded["pixels"], axis=2).astype(bool)
    for found, person, presence in zip(
        answers["mask"][:, 0] > 0, pixels, recorded["presence"], strict=True
    ):
        assert presence < 0.25 or (found & person).sum() >= 0.999 * (found | person).sum()


def test_crops_together_give_what_each_gives_alone(
    network: Session, crops: NDArray[np.float32]
) -> None:
    together = network.run({"crops": crops})
    for i in range(len(crops)):
        alone = network.run({"crops": crops[i : i + 1]})
        np.testing.assert_allclose(together["mask"][i], alone["mask"][0], rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(together["presence"][i], alone["presence"][0], atol=1e-6)


def test_a_gpu_looks_at_the_crops_of_several_frames_together(
    network: Session,
    street: list[Frame],
    tracks: list[Tracks],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = PoseConfig(device="cpu").build().segment(street, tracks)
    assert sum(mask is not None for masks in expected for mask in masks) == 4
    gpu = Gpu(network)
    assert same(segmenter_on(gpu, monkeypatch).segment(street, tracks), expected)
    assert gpu.batches == [5]  # the sixth box is too small to look at
    many = segmenter_on(gpu, monkeypatch).segment(street * 7, tracks * 7)
    assert same(many, expected * 7)
    assert gpu.batches[1:] == [32, 3]


def test_the_cpu_looks_at_crops_one_by_one(
    network: Session, street: list[Frame], tracks: list[Tracks], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = Gpu(network)
    cpu.description = network.description
    segmenter_on(cpu, monkeypatch).segment(street, tracks)
    assert cpu.batches == [1] * 5


def test_a_gpu_with_little_memory_is_given_fewer_crops(
    network: Session,
    street: list[Frame],
    tracks: list[Tracks],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = PoseConfig(device="cpu").build().segment(street, tracks)
    gpu = Gpu(network, fits=2)
    segmenter = segmenter_on(gpu, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert same(segmenter.segment(street, tracks), expected)
    assert gpu.batches == [5, 2, 3, 1, 2]
    assert "going on with 2 at a time" in caplog.text
    gpu.batches.clear()
    assert same(segmenter.segment(street, tracks), expected)
    assert max(gpu.batches) <= 2
    with pytest.raises(ModelError, match=r"segmenter: .*out of memory"):
        segmenter_on(Gpu(network, fits=0), monkeypatch).segment(street, tracks)


def test_when_the_gpu_is_lost_the_cpu_goes_on(
    network: Session, street: list[Frame], tracks: list[Tracks], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        raise DeviceLost("the fake: has fallen off the bus")

    expected = PoseConfig(device="cpu").build().segment(street, tracks)
    cpu = Gpu(network)
    cpu.description = network.description
    segmenter = segmenter_on(LastingSession(Gpu(network, after=lose), lambda: cpu), monkeypatch)
    assert "cuda:0" in segmenter.description
    assert same(segmenter.segment(street, tracks), expected)
    assert segmenter.description == network.description
    assert same(segmenter.segment(street, tracks), expected)
    assert cpu.batches == [5, 1, 1, 1, 1, 1]


def test_a_failing_network_is_a_model_error(
    network: Session, street: list[Frame], tracks: list[Tracks], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeFailed("the fake: NaN on a Tuesday")

    with pytest.raises(ModelError, match="segmenter: inference failed: the fake: NaN"):
        segmenter_on(Gpu(network, after=fail), monkeypatch).segment(street, tracks)


def test_answers_that_are_no_numbers_give_no_mask(
    network: Session, street: list[Frame], tracks: list[Tracks], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nonsense(Gpu):
        def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return {name: np.full_like(a, np.nan) for name, a in super().run(feeds).items()}

    masks = segmenter_on(Nonsense(network), monkeypatch).segment(street, tracks)
    assert masks == [(None,) * 3] * 2


def test_frames_without_people_ask_nothing(
    network: Session, street: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu(network)
    segmenter = segmenter_on(gpu, monkeypatch)
    assert segmenter.segment(street, [tracks_of([]), tracks_of([(9, 9, 9, 30)])]) == [(), (None,)]
    assert segmenter.segment([], []) == []
    assert gpu.batches == []


@pytest.mark.parametrize("part", [0, 1000, 2_000_000, -1])
def test_a_damaged_file_is_refused(part: int, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(MODEL.read_bytes()[:part])
    with pytest.raises(ModelError, match=r"half\.onnx"):
        PoseConfig(model=str(half)).build()


def test_another_network_is_refused_with_what_it_takes() -> None:
    detector = MODELS_FOLDER / "ssdlite-coco-300.onnx"
    with pytest.raises(ModelError, match=r"expected a graph from crops .*; got images \("):
        PoseConfig(model=str(detector), device="cpu").build()


def test_a_backend_that_cannot_run_there_is_refused() -> None:
    with pytest.raises(ModelError, match="segmenter: tensorrt"):
        PoseConfig(backend="tensorrt", device="cpu").build()
