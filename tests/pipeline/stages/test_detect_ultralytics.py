"""Any YOLO file runs through Ultralytics, quietly, and yields what the other backend yields.

The networks are tiny and untrained: no weights can be downloaded. Everything else is real.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import ModelError
from pipeline.stages.detect import YoloConfig
from pipeline.stages.detect_boxes import pairwise_iou
from pipeline.stages.detect_ultralytics import UltralyticsDetector, _import_ultralytics
from pipeline.values import Frame


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained networks saved as .pt, by the name of their architecture."""
    ultralytics = _import_ultralytics()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("yolo")
    paths = {}
    for name in ("yolov8n", "yolo11n-seg", "yolov8n-cls"):
        paths[name] = folder / f"{name}.pt"
        network = ultralytics.YOLO(f"{name}.yaml")
        network.model.names = {i: "person" if i == 0 else f"thing {i}" for i in range(80)}
        _see_people_everywhere(network.model.model[-1])
        network.save(str(paths[name]))
    return paths


def _see_people_everywhere(head: Any) -> None:
    """Raise the person's logit: which of 80 classes an untrained network sees is chance."""
    for scale in getattr(head, "cv3", ()):
        scale[-1].bias.data[0] += 5


def untrained(path: Path, **options: Any) -> YoloConfig:
    """Return a config that lets an untrained network's boxes through."""
    return YoloConfig(model=str(path), imgsz=160, confidence=1e-6, max_people=7, **options)


def test_both_backends_find_the_same_people(street: list[Frame]) -> None:
    same: dict[str, Any] = {"resize": "letterbox", "tiles": 1, "max_people": 300}
    ours = YoloConfig(backend="onnxruntime", **same).build().detect(street)
    theirs = YoloConfig(backend="ultralytics", **same).build().detect(street)
    for a, b in zip(ours, theirs, strict=True):
        confident = a.confidence > 0.4
        assert confident.sum() >= 4
        overlap = pairwise_iou(a.xyxy[confident], b.xyxy)
        # Both resize with cv2 but round the padding their own way: a fraction of a pixel.
        assert (overlap.max(axis=1) > 0.9).all()
        nearest = b.confidence[overlap.argmax(axis=1)]
        np.testing.assert_allclose(nearest, a.confidence[confident], atol=0.05)


def test_a_pt_file_gives_boxes_inside_each_frame(
    saved: dict[str, Path], street: list[Frame]
) -> None:
    frames = [*street, Frame(np.zeros((48, 64, 3), np.uint8), "small", 0, 0.0)]
    detector = untrained(saved["yolov8n"], min_height_px=1).build()
    found = detector.detect(frames)
    assert len(found) == len(frames)
    assert detector.model_hash is not None
    for detections, image in zip(found, frames, strict=True):
        assert 1 <= len(detections) <= 7
        assert detections.masks is None
        height, width = image.hw
        assert (detections.xyxy >= 0).all()
        assert (detections.xyxy <= [width, height, width, height]).all()
    assert detector.detect([]) == []


@pytest.mark.parametrize("tiles", [1, 2])
def test_a_seg_model_gives_a_mask_inside_each_box(
    saved: dict[str, Path], street: list[Frame], tiles: int
) -> None:
    found = untrained(saved["yolo11n-seg"], tiles=tiles).build().detect(street)
    assert all(len(d) for d in found)
    for detections in found:
        assert detections.masks is not None
        for xyxy, mask in zip(detections.xyxy, detections.masks, strict=True):
            if mask is None:
                continue
            height, width = mask.pixels.shape
            assert xyxy[0] - 1 < mask.x <= xyxy[0]
            assert xyxy[1] - 1 < mask.y <= xyxy[1]
            assert xyxy[2] <= mask.x + width < xyxy[2] + 1
            assert xyxy[3] <= mask.y + height < xyxy[3] + 1
    masks = [m for d in found for m in d.masks or ()]
    assert any(m is not None for m in masks)


def test_a_model_for_another_task_is_refused(saved: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="got one for classify"):
        YoloConfig(model=str(saved["yolov8n-cls"]), imgsz=64).build()


def test_a_model_without_the_class_names_those_it_has(saved: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"class named unicorn, got person, thing 1"):
        YoloConfig(model=str(saved["yolov8n"]), imgsz=64, classes=["unicorn"]).build()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for name, words in (("model.pt", "expected a PyTorch archive"), ("model.txt", "ending in")):
        (tmp_path / name).write_text("hello")
        with pytest.raises(ModelError, match=words):
            YoloConfig(model=str(tmp_path / name)).build()


def test_a_damaged_pt_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.pt"
    cut.write_bytes(saved["yolov8n"].read_bytes()[:50_000])
    with pytest.raises(ModelError, match=r"cut\.pt"):
        YoloConfig(model=str(cut)).build()


class _Touches:
    """Pickles into an instruction to create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def test_a_pt_that_carries_code_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "was-here"
    torch.save({"model": _Touches(trace)}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match=r"evil\.pt"):
        YoloConfig(model=str(tmp_path / "evil.pt")).build()
    assert not trace.exists()


def test_stretching_is_refused_where_only_letterboxing_exists() -> None:
    with pytest.raises(ModelError, match="only letterboxes"):
        YoloConfig(backend="ultralytics", resize="stretch").build()


def test_ultralytics_prints_nothing_and_leaves_the_home_folder_alone(tmp_path: Path) -> None:
    program = (
        "import numpy as np\n"
        "from pipeline.stages.detect import YoloConfig\n"
        "from pipeline.values import Frame\n"
        "detector = YoloConfig(backend='ultralytics').build()\n"
        "detector.detect([Frame(np.zeros((64, 64, 3), np.uint8), 's', 0, 0.0)])\n"
    )
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    for name in ("YOLO_CONFIG_DIR", "YOLO_VERBOSE", "PYTEST_CURRENT_TEST"):
        home.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=home, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "ltralytics" not in done.stderr
    assert not list(tmp_path.rglob("*ltralytics*"))


def test_without_ultralytics_the_error_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    _import_ultralytics.cache_clear()  # an earlier test may have had it
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(ModelError, match="pip install"):
        YoloConfig(backend="ultralytics").build()


def test_the_adapter_is_what_a_pt_gets(saved: dict[str, Path]) -> None:
    assert isinstance(untrained(saved["yolov8n"]).build(), UltralyticsDetector)
