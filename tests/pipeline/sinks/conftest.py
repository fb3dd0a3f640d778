"""Walkers drawn as ellipses with swinging legs, and what the pipeline would find of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gait.tracklet import Tracklet
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.run import ModelFile, RunRecord, StageSpeed, StreamReport
from pipeline.values import Frame, Sighting
from trackers.boxes import Mask, Tracks


def draw_walker(height: int, phase: float) -> NDArray[np.uint8]:
    """Shape (height, height * 44 // 64), 0 or 255."""
    width = height * 44 // 64
    image = np.zeros((height, width), dtype=np.uint8)
    centre, hip = width // 2, int(0.52 * height)
    cv2.ellipse(
        image, (centre, int(0.09 * height)), (height // 14, height // 11), 0, 0, 360, 255, -1
    )
    cv2.ellipse(image, (centre, int(0.36 * height)), (height // 9, height // 5), 0, 0, 360, 255, -1)
    for side in (-1, 1):
        foot = int(centre + side * np.sin(phase) * 0.22 * height)
        cv2.line(image, (centre, hip), (foot, height - 2), 255, max(1, height // 11))
    return image


def make_tracklet(
    track_id: int = 7, *, stream: str = "hall", length: int = 30, first: int = 3
) -> Tracklet:
    frames = np.arange(first, first + length, dtype=np.int64)
    walk = [draw_walker(64, 0.4 * i) for i in range(length)]
    return Tracklet(
        stream=stream,
        track_id=track_id,
        silhouettes=np.array(walk, dtype=np.uint8).reshape(length, 64, 44),
        frame_indices=frames,
        times_s=frames / 10.0,
        seen_s=(first / 10.0, (first + length) / 10.0),
        quality=0.83 if length else 0.0,
        reasons=(("occluded", 4), ("touches_edge", 2)),
    )


def make_scene(
    index: int, *, hw: tuple[int, int] = (144, 192), time_s: float | None = None
) -> tuple[Frame, Tracks, tuple[Mask | None, ...]]:
    """One walker crossing from the left; the second, at the right, has no mask."""
    image = np.full((*hw, 3), 90, dtype=np.uint8)
    walker = draw_walker(96, 0.5 * index) > 0
    left = 5 + 3 * index % (hw[1] // 2)
    image[20:116, left : left + walker.shape[1]][walker] = (40, 60, 200)
    xyxy = np.array(
        [[left, 20, left + walker.shape[1], 116], [hw[1] - 42.5, 30, hw[1] - 12.25, 110]],
        dtype=np.float32,
    )
    tracks = Tracks(
        track_ids=np.array([1, 2], dtype=np.int64),
        xyxy=xyxy,
        confidence=np.array([0.91, 0.5], dtype=np.float32),
        detection_indices=np.arange(2, dtype=np.int64),
    )
    frame = Frame(image, "hall", index, index / 10 if time_s is None else time_s)
    return frame, tracks, (Mask(walker, left, 20), None)


def make_sighting(
    identity: str | None, *, stream: str = "hall", track_id: int = 7, start_s: float = 0.3
) -> Sighting:
    return Sighting(
        identity=identity,
        stream=stream,
        track_id=track_id,
        start_s=start_s,
        end_s=start_s + 3.0,
        distance=None if identity is None else 0.4213,
        is_new=False,
        quality=0.83 if identity else 0.0,
        num_silhouettes=30 if identity else 0,
        tracklets=(f"{stream}/{track_id}/3",) if identity else (),
        reasons=(("occluded", 4), ("too_small", 1)),
    )


def make_run(*streams: StreamReport, trained: bool = True, **changes: object) -> RunRecord:
    run = RunRecord(
        status="finished",
        started=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
        finished=datetime(2026, 3, 1, 12, 1, tzinfo=UTC),
        command=("trackletgait", "process", "hall.mp4"),
        config={"detector": {"kind": "onnx", "confidence": 0.35}},
        versions={"trackletgait": "0.1.0"},
        models=(ModelFile(role="detector", name="ssdlite-coco-300.onnx", sha256="ab" * 32),),
        encoder="TrackletGait small",
        encoder_is_trained=trained,
        stages=(StageSpeed(name="detect", calls=20, items=20, seconds=0.5, items_per_s=40.0),),
        streams=streams,
    )
    return run.model_copy(update=changes)


def make_stream(folder: ResultsFolder, name: str = "hall", **changes: object) -> StreamReport:
    report = StreamReport(
        name=name,
        path=f"videos/{name}.mp4",
        folder=folder.stream(name).path.relative_to(folder.path).as_posix(),
        width=192,
        height=144,
        fps=10.0,
        duration_s=6.0,
        frames=60,
        to_s=5.9,
        seconds=2.0,
        tracks=2,
        people=1,
        video_start_s=0.0,
    )
    return report.model_copy(update=changes)


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder.create(tmp_path / "results", room_bytes=0)


@pytest.fixture
def tracklet() -> Callable[..., Tracklet]:
    return make_tracklet


@pytest.fixture
def scene() -> Callable[..., tuple[Frame, Tracks, tuple[Mask | None, ...]]]:
    return make_scene


@pytest.fixture
def sighting() -> Callable[..., Sighting]:
    return make_sighting


@pytest.fixture
def run_record() -> Callable[..., RunRecord]:
    return make_run


@pytest.fixture
def stream_report() -> Callable[..., StreamReport]:
    return make_stream
