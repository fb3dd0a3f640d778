"""People are found in real frames, whole, once, and inside the frame."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import TypeAdapter, ValidationError

from gait.errors import OutOfMemory
from gait.runtimes.session import Port
from pipeline.errors import ModelError
from pipeline.stages import detect_onnx
from pipeline.stages.detect import DETECTORS, Backend, Detector, DetectorConfig, YoloConfig
from pipeline.stages.detect_boxes import pairwise_iou, suppress
from pipeline.stages.detect_onnx import place
from pipeline.stages.detect_tiles import plan_tiles
from pipeline.stages.replay import ReplayConfig
from pipeline.values import Frame
from pipeline.weights import resolve
from trackers.boxes import Detections

# Boxes drawn by hand around people in full view of street-240 and street-290.
PEOPLE = {
    240: [
        (238, 158, 268, 232), (452, 253, 482, 346), (614, 203, 641, 277),
        (659, 270, 706, 375), (663, 126, 682, 180), (36, 174, 64, 243), (646, 126, 663, 180),
    ],
    290: [
        (299, 160, 323, 225), (619, 153, 643, 222), (592, 149, 619, 221),
        (147, 152, 174, 223), (356, 220, 387, 309), (256, 171, 290, 248),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def bundled() -> Detector:
    return YoloConfig().build()


def frame(hw: tuple[int, int], value: int = 90) -> Frame:
    return Frame(np.full((*hw, 3), value, np.uint8), "test", 0, 0.0)


def test_the_bundled_detector_finds_the_people_a_person_counted(
    bundled: Detector, street: list[Frame]
) -> None:
    for image, found in zip(street, bundled.detect(street), strict=True):
        confident = found.xyxy[found.confidence > 0.3]
        drawn = np.array(PEOPLE[image.index], dtype=np.float32)
        overlap = pairwise_iou(drawn, confident)
        assert (overlap.max(axis=1) > 0.5).all(), f"street-{image.index}: somebody was missed"
        assert len(confident) <= len(drawn) + 1, f"street-{image.index}: too many boxes"


def test_a_frame_gives_the_same_boxes_alone_and_among_others(
    bundled: Detector, street: list[Frame]
) -> None:
    together = bundled.detect([street[0], frame((240, 320)), street[1]])
    for image, expected in zip(street, (together[0], together[2]), strict=True):
        (alone,) = bundled.detect([image])
        np.testing.assert_array_equal(alone.xyxy, expected.xyxy)
        np.testing.assert_array_equal(alone.confidence, expected.confidence)


def test_no_frames_give_no_detections(bundled: Detector) -> None:
    assert bundled.detect([]) == []


@pytest.mark.parametrize("hw", [(16, 16), (1, 1), (37, 501), (700, 33), (4320, 7680)])
def test_any_size_of_an_empty_frame_holds_nobody(bundled: Detector, hw: tuple[int, int]) -> None:
    (found,) = bundled.detect([frame(hw)])
    assert not (found.confidence > 0.5).any()
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= [hw[1], hw[0]] * 2).all()


def test_boxes_end_at_the_edge_of_the_frame(bundled: Detector, street: list[Frame]) -> None:
    image = np.ascontiguousarray(street[0].image[:, 670:])  # cuts a walker in two
    (found,) = bundled.detect([Frame(image, "test", 0, 0.0)])
    assert len(found) > 0
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= [98, 576, 98, 576]).all()


def test_limits_on_size_number_and_confidence_hold(street: list[Frame]) -> None:
    config = YoloConfig(min_height_px=70, max_people=3, confidence=0.4)
    for found in config.build().detect(street):
        assert len(found) == 3
        assert (found.xyxy[:, 3] - found.xyxy[:, 1] >= 70).all()
        assert (found.confidence >= 0.4).all()


def test_tiles_find_people_that_one_look_misses(street: list[Frame]) -> None:
    def recall(config: YoloConfig) -> int:
        found = config.build().detect(street)
        return sum(
            int((pairwise_iou(np.array(PEOPLE[f.index]), d.xyxy[d.confidence > 0.5]) > 0.5).sum())
            for f, d in zip(street, found, strict=True)
        )

    assert recall(YoloConfig(tiles=2)) > recall(YoloConfig(tiles=1))


def test_a_person_on_the_seam_of_two_tiles_is_one_person(
    bundled: Detector, street: list[Frame]
) -> None:
    left_of_seam, right_of_seam = 341, 427  # where the second tile begins and the first ends
    for start in range(left_of_seam - 60, right_of_seam + 20, 12):
        image = np.full((576, 768, 3), 128, np.uint8)
        image[200:330, start : start + 70] = street[1].image[200:330, 336:406]
        (found,) = bundled.detect([Frame(image, "test", 0, 0.0)])
        walker = np.array([[start + 18, 220, start + 50, 308]], dtype=np.float32)
        inside = (pairwise_iou(walker, found.xyxy[found.confidence > 0.3]) > 0.1).sum()
        assert inside == 1, f"walker at x {start}: {inside} boxes"


@pytest.mark.parametrize("hw", [(1080, 1920), (1920, 1080), (16, 16), (1, 1), (5, 3)])
@pytest.mark.parametrize("tiles", [2, 3, 8])
def test_tiles_cover_the_frame(hw: tuple[int, int], tiles: int) -> None:
    seen = np.zeros(hw, dtype=bool)
    for tile in plan_tiles(hw, tiles):
        assert tile.right > tile.left
        assert tile.bottom > tile.top
        seen[tile.top : tile.bottom, tile.left : tile.right] = True
    assert seen.all()


def test_onnxruntime_alone_serves_the_bundled_model() -> None:
    program = (
        "import sys, numpy as np\n"
        "from pipeline.stages.detect import YoloConfig\n"
        "from pipeline.values import Frame\n"
        "YoloConfig().build().detect([Frame(np.zeros((9, 9, 3), np.uint8), 's', 0, 0.0)])\n"
        "heavy = {'torch', 'ultralytics', 'torchvision'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=250)


def naive_suppress(xyxy: NDArray[np.float32], scores: NDArray[np.float32], iou: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(xyxy)), key=lambda i: -scores[i]):
        if all(pairwise_iou(xyxy[i : i + 1], xyxy[j : j + 1])[0, 0] <= iou for j in kept):
            kept.append(i)
    return kept


def test_suppression_equals_a_naive_loop(rng: np.random.Generator) -> None:
    for count in (0, 1, 2, 60):
        corner = rng.uniform(0, 50, (count, 2))
        xyxy = np.hstack([corner, corner + rng.uniform(1, 40, (count, 2))]).astype(np.float32)
        scores = rng.uniform(0, 1, count).astype(np.float32)
        assert suppress(xyxy, scores, 0.4).tolist() == naive_suppress(xyxy, scores, 0.4)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_point_found_in_the_models_square_lies_where_it_was_in_the_frame(resize: str) -> None:
    image = np.zeros((300, 700, 3), np.uint8)
    image[100:140, 500:560] = 255
    square, placement = place(image, 320, resize)  # type: ignore[arg-type]
    rows, columns = np.nonzero(square[..., 0] > 200)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    # One pixel of the square is 2.2 pixels of the frame.
    np.testing.assert_allclose(placement.to_frame(box)[0], [500, 100, 560, 140], atol=2.5)


def exported(
    path: Path,
    output: NDArray[np.float32],
    *,
    names: str = "{0: 'car', 1: 'person'}",
    task: str = "detect",
    batch: int | str = "batch",
    side: int | str = 64,
    imgsz: str = "[64, 64]",
) -> Path:
    """Write a network that ignores its input and answers `output`, (B, ...), for every batch."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side])
    answer = helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)
    constants = [
        numpy_helper.from_array(output[None], "answer"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array([0.0], np.float32), "zero"),
        numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "flat"], ["column"]),
        helper.make_node("Add", ["column", "answer"], ["output0"]),
    ]
    graph = helper.make_graph(nodes, "constant", [image], [answer], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for key, value in {"names": names, "task": task, "imgsz": imgsz}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path


def detect_in_square(config: YoloConfig, frames: int = 3) -> list[Detections]:
    return config.build().detect([frame((128, 128))] * frames)


@pytest.mark.parametrize("batch", ["batch", 1])
def test_a_yolov8_layout_is_decoded_batched_or_one_by_one(tmp_path: Path, batch: int | str) -> None:
    raw = np.zeros((6, 3), np.float32)  # 4 numbers and 2 classes, of 3 candidates
    raw[:, 0] = [20, 30, 10, 40, 0.0, 0.9]  # a person
    raw[:, 1] = [21, 30, 10, 40, 0.0, 0.8]  # the same one again
    raw[:, 2] = [50, 30, 10, 40, 0.9, 0.05]  # a car
    path = exported(tmp_path / "v8.onnx", raw, batch=batch)
    for found in detect_in_square(YoloConfig(model=str(path))):
        np.testing.assert_allclose(found.xyxy, [[30, 20, 50, 100]], atol=1e-4)
        np.testing.assert_allclose(found.confidence, [0.9])
        assert found.xyxy.dtype == found.confidence.dtype == np.float32


def test_an_end_to_end_layout_is_decoded(tmp_path: Path) -> None:
    raw = np.zeros((300, 6), np.float32)
    raw[0] = [15, 10, 25, 50, 0.7, 1]
    raw[1] = [40, 10, 60, 50, 0.9, 0]  # a car
    path = exported(tmp_path / "v26.onnx", raw)
    for found in detect_in_square(YoloConfig(model=str(path))):
        np.testing.assert_allclose(found.xyxy, [[30, 20, 50, 100]], atol=1e-4)
        np.testing.assert_allclose(found.confidence, [0.7])


def test_a_free_input_size_takes_the_one_asked_for(tmp_path: Path) -> None:
    path = exported(tmp_path / "free.onnx", np.zeros((6, 3), np.float32), side="side")
    assert "96 px" in YoloConfig(model=str(path), imgsz=96).build().description
    assert "64 px" in YoloConfig(model=str(path)).build().description


def test_a_model_without_a_person_class_names_those_it_has(tmp_path: Path) -> None:
    names = "{0: 'forklift', 1: 'pallet'}"
    path = exported(tmp_path / "x.onnx", np.zeros((6, 3), np.float32), names=names)
    with pytest.raises(ModelError, match=r"class named person, got forklift, pallet"):
        YoloConfig(model=str(path)).build()
    YoloConfig(model=str(path), classes=["pallet"]).build()


def test_a_model_of_another_task_says_what_to_do(tmp_path: Path) -> None:
    path = exported(tmp_path / "s.onnx", np.zeros((6, 3), np.float32), task="segment")
    with pytest.raises(ModelError, match=r"segment as its task; use backend: ultralytics"):
        YoloConfig(model=str(path), backend="onnxruntime").build()


def test_a_wrong_input_size_is_refused() -> None:
    with pytest.raises(ModelError, match=r"only takes 300, got 640"):
        YoloConfig(imgsz=640).build()


def test_text_as_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("this is not a network")
    with pytest.raises(ModelError, match="expected an ONNX file"):
        YoloConfig(model=str(path)).build()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_every_backend_on_the_cpu_finds_the_same_people(
    bundled: Detector, street: list[Frame], backend: Backend
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    detector = YoloConfig(backend=backend, device="cpu").build()
    assert backend in detector.description
    for ours, theirs in zip(bundled.detect(street), detector.detect(street), strict=True):
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(theirs.xyxy, ours.xyxy, atol=0.05)
        np.testing.assert_allclose(theirs.confidence, ours.confidence, atol=1e-3)


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime", "openvino"])
def test_a_gpu_that_is_not_there_is_refused(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ModelError, match=r"^detector: .*(cuda:7|TensorRT is not usable here)"):
        YoloConfig(backend=backend, device="cuda:7").build()


class PickySession:
    """Takes at most `room` pictures at once; answers a box whose left edge is their mean."""

    def __init__(self, room: int, side: int = 64) -> None:
        self.description, self.metadata = "picky", {}
        self.inputs = (Port("images", ("batch", 3, side, side), np.dtype(np.float32)),)
        self.outputs = (Port("output0", ("batch", 1, 6), np.dtype(np.float32)),)
        self.room = room
        self.batches: list[int] = []

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        images = feeds["images"]
        if len(images) > self.room:
            raise OutOfMemory("CUDA failure 2: out of memory")
        self.batches.append(len(images))
        left = 64 * images.mean(axis=(1, 2, 3))
        fixed = np.tile(np.array([0, 0, 64, 64, 0.9, 1], np.float32), (len(images), 1))
        fixed[:, 0] = left
        return {"output0": fixed[:, None]}

    def close(self) -> None:
        pass


def with_session(
    monkeypatch: pytest.MonkeyPatch, path: Path, session: PickySession
) -> tuple[Detector, dict[str, Any]]:
    asked: dict[str, Any] = {}

    def opened(onnx: Path, **how: Any) -> PickySession:
        asked.update(how)
        return session

    monkeypatch.setattr(detect_onnx, "open_session", opened)
    return YoloConfig(model=str(path), device="cuda:1", backend="tensorrt").build(), asked


def test_too_little_memory_halves_the_batch_and_loses_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = exported(tmp_path / "m.onnx", np.zeros((6, 3), np.float32))
    session = PickySession(room=9)
    detector, _ = with_session(monkeypatch, path, session)
    frames = [frame((64, 64), value=2 * i) for i in range(70)]
    lefts = [found.xyxy[0, 0] for found in detector.detect(frames)]
    np.testing.assert_allclose(lefts, [64 * 2 * i / 255 for i in range(70)], atol=1e-3)
    assert set(session.batches) <= {8, 6}
    assert "going on with 8 at a time" in caplog.text
    before = len(session.batches)
    detector.detect(frames[:16])  # it has learned
    assert session.batches[before:] == [8, 8]


def test_too_little_memory_for_a_single_frame_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(tmp_path / "m.onnx", np.zeros((6, 3), np.float32))
    detector, _ = with_session(monkeypatch, path, PickySession(room=0))
    with pytest.raises(ModelError, match="out of memory"):
        detector.detect([frame((64, 64))] * 5)


@pytest.mark.parametrize(("batch", "most"), [("batch", 32), (1, 1)])
def test_what_compiles_the_model_is_told_the_shapes_it_will_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | str, most: int
) -> None:
    path = exported(tmp_path / "m.onnx", np.zeros((6, 3), np.float32), batch=batch)
    _, asked = with_session(monkeypatch, path, PickySession(room=99))
    (profile,) = asked.pop("profiles").values()
    assert asked == {"vendor": "tensorrt", "device": "cuda:1", "threads": 1}
    assert (profile.least, profile.most) == ((1, 3, 64, 64), (most, 3, 64, 64))


@pytest.mark.tensorrt
def test_tensorrt_builds_the_bundled_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    from gait.runtimes import tensorrt

    path = resolve("ssdlite-coco-300")
    _, asked = with_session(monkeypatch, path, PickySession(room=99, side=300))
    assert tensorrt.parse(path).unsupported == ()
    assert len(tensorrt.build(path, profiles=asked["profiles"])) > 1e6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"side": 100_000}, r"at most 4096 pixels a side, got 100000"),
        ({"side": "side", "imgsz": "[9000, 9000]"}, r"at most 4096 pixels a side, got 9000"),
        ({"side": "side", "imgsz": "['large']"}, r"at most 4096 pixels a side, got 'large'"),
        ({"side": "side", "imgsz": "[" * 5000}, r"Ultralytics' metadata 'imgsz'"),
        ({"batch": 4}, r"expected one input of shape \(1 or free, 3, S, S\), got images \(4, 3"),
        ({"names": "{'a': 'person'}"}, r"expected a name for each class number"),
        ({"names": "{0: ['person']}"}, r"expected a name for each class number"),
        ({"names": "__import__('os').abort()"}, r"Ultralytics' metadata 'names'"),
        ({"names": "('person',)"}, r"'names': expected a dict"),
    ],
)
def test_a_hostile_description_of_a_model_is_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    path = exported(tmp_path / "x.onnx", np.zeros((6, 3), np.float32), **options)
    with pytest.raises(ModelError, match=words):
        YoloConfig(model=str(path)).build()


def test_a_class_beyond_the_outputs_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path / "x.onnx", np.zeros((6, 3), np.float32), names="{90: 'person'}")
    with pytest.raises(ModelError, match=r"with row 94 for people, got \(6, 3\)"):
        detect_in_square(YoloConfig(model=str(path)))


def test_a_model_cut_off_or_reaching_for_other_files_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path / "x.onnx", np.zeros((6, 3), np.float32))
    model = onnx.load(str(path))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ModelError, match=r"x\.onnx: expected an ONNX file, got .* ends too early"):
        YoloConfig(model=str(path)).build()
    answer = model.graph.initializer[0]
    answer.data_location = TensorProto.EXTERNAL
    answer.external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in another file"):
        YoloConfig(model=str(path)).build()


def test_a_missing_model_names_the_bundled_one() -> None:
    with pytest.raises(ModelError, match=r"ssdlite-coco-300"):
        YoloConfig(model="no/such/model.onnx").build()


def test_the_kind_chooses_the_detector_in_the_table() -> None:
    adapter: TypeAdapter[YoloConfig | ReplayConfig] = TypeAdapter(DetectorConfig)
    assert type(adapter.validate_python({"kind": "yolo"})) is DETECTORS["yolo"]
    replay = adapter.validate_python({"kind": "replay", "file": "det.txt"})
    assert type(replay) is DETECTORS["replay"]
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "yolo", "confidence": 0})


def test_replay_returns_the_recorded_boxes_of_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text("1,-1,10,20,30,40,0.5\n3,-1,1,2,3,4,-1,-1,-1,-1\n3,7,5,5,5,5,0.25\n\n")
    detector = ReplayConfig(file=str(path)).build()
    frames = [Frame(np.zeros((4, 4, 3), np.uint8), "s", i, float(i)) for i in (0, 1, 2)]
    first, second, third = detector.detect(frames)
    assert first.xyxy.tolist() == [[10, 20, 40, 60]]
    assert len(second) == 0
    assert third.xyxy.tolist() == [[1, 2, 4, 6], [5, 5, 10, 10]]
    assert third.confidence.tolist() == [1.0, 0.25]


@pytest.mark.parametrize("line", ["1,2,3", "a,b,c,d,e,f,g", "0,1,1,1,1,1,1", "1,1,1,1,-5,1,1",
                                  "1,1,nan,1,1,1,1", "1,1,1,1,1,1,7"])  # fmt: skip
def test_replay_names_the_line_it_cannot_read(tmp_path: Path, line: str) -> None:
    path = tmp_path / "det.txt"
    path.write_text(f"1,-1,10,20,30,40,0.5\n{line}\n")
    with pytest.raises(ModelError, match=r"det\.txt:2: expected"):
        ReplayConfig(file=str(path)).build()


def test_replay_of_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ReplayConfig(file=str(tmp_path / "none.txt")).build()
    (tmp_path / "video.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ModelError, match="as text"):
        ReplayConfig(file=str(tmp_path / "video.txt")).build()
