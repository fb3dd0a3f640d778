"""What the bundled detector finds in a recording, kept beside its truth for trackers to share."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np

from gait.data.atomic import write_atomically
from gait.errors import DataError
from pipeline.evaluation.tracking_folder import DETECTIONS, FEATURES
from pipeline.evaluation.tracking_folder import Sequence as Recording
from pipeline.sources.inputs import open_source
from pipeline.sources.source import ReadConfig
from pipeline.stages.appearance import Appearance
from pipeline.stages.detect import YoloConfig
from trackers.boxes import Detections


def record_detections(
    recording: Recording,
    looks: Appearance | None = None,
    *,
    on_frame: Callable[[str], None] = lambda what: None,
) -> None:
    """Write a recording's det.txt, and features.npy when there are looks.

    Args:
        recording: With a video, or a folder of pictures.
        looks: Describes what people look like.
        on_frame: Called after each frame with what is being done.

    Raises:
        DataError: It has another number of frames than its seqinfo.ini says.
        SourceError: There are no pictures, or they cannot be read.
    """
    detector = YoloConfig().build()
    found: list[Detections] = []
    with open_source(recording.pictures, recording.name, ReadConfig()) as source:
        for frame in source:
            detected = detector.detect([frame])
            found += detected if looks is None else looks.describe([frame], detected)
            on_frame("detecting people")
    if len(found) != recording.num_frames:
        raise DataError(
            f"{recording.pictures}: expected {recording.num_frames} frames, as seqinfo.ini says, "
            f"got {len(found)}"
        )
    features = [each.features for each in found if each.features is not None]
    path = recording.folder / DETECTIONS
    path.parent.mkdir(exist_ok=True)
    if looks is not None:
        np.save(file := io.BytesIO(), np.concatenate(features))
        write_atomically(recording.folder / FEATURES, file.getvalue())
    write_atomically(path, detections_text(found).encode())


def detections_text(found: Sequence[Detections]) -> str:
    """Return detections, frame by frame, as a det.txt."""
    return "".join(
        f"{index},-1,{x0:.3f},{y0:.3f},{x1 - x0:.3f},{y1 - y0:.3f},{sure:.4f}\n"
        for index, each in enumerate(found, 1)
        for (x0, y0, x1, y1), sure in zip(each.xyxy.tolist(), each.confidence.tolist(), strict=True)
    )
