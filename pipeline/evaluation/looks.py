"""What tracks look like, by whatever a tracker could be told of it: the baseline without gait."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from pipeline.errors import ModelError
from pipeline.evaluation.perceived import Perceived
from pipeline.evaluation.scene import Scene
from pipeline.sources.inputs import open_source
from pipeline.sources.source import ReadConfig
from pipeline.stages.appearance import Appearance, HistogramConfig, MobileNetConfig
from pipeline.values import Frame
from trackers.boxes import Detections

Looks = Mapping[tuple[str, int], NDArray[np.float32]]
"""Track (camera, id) to the mean look of its boxes, shape (D,), of unit length."""

WAYS: Mapping[str, HistogramConfig | MobileNetConfig] = {
    "colours of the clothes": HistogramConfig(),
    "MobileNet": MobileNetConfig(device="cpu"),
}
"""By what tracks are compared."""

_EVERY = 5  # frames; a person looks the same in the others


def looks(scene: Scene, perceived: Perceived, kept: Path) -> dict[str, Looks]:
    """Return the looks of every track by every way; from `kept` if they are there.

    A way whose vendor is not installed is left out.

    Args:
        scene: The videos.
        perceived: The tracks.
        kept: File for what is found.

    Raises:
        SourceError: A video cannot be read.
        DataError: The file cannot be written.
    """
    found = _read(kept)
    stages = _stages(without=found)
    if stages:
        found |= _looked(scene, perceived, stages)
        write_atomically(kept, _pack(found))
    return found


def between(looks: Looks, tracks: Sequence[tuple[str, int]]) -> NDArray[np.float32]:
    """Return how unlike tracks are, shape (M, M): 1 - cosine."""
    rows = np.stack([looks[track] for track in tracks])
    return np.asarray(1 - rows @ rows.T)


def _stages(without: Mapping[str, Looks]) -> dict[str, Appearance]:
    stages = {}
    for way, config in WAYS.items():
        if way not in without:
            try:
                stages[way] = config.build()
            except ModelError:  # an optional vendor
                continue
    return stages


def _looked(
    scene: Scene, perceived: Perceived, stages: Mapping[str, Appearance]
) -> dict[str, Looks]:
    sums: dict[str, dict[tuple[str, int], NDArray[np.float32]]] = {way: {} for way in stages}
    for frame, tracks, boxes in _frames(scene, perceived):
        for way, stage in stages.items():
            features = stage.describe([frame], [boxes])[0].features
            assert features is not None
            for track, feature in zip(tracks, features, strict=True):
                key = frame.stream, track
                sums[way][key] = sums[way].get(key, np.float32(0)) + feature
    return {
        way: {key: sum_ / np.linalg.norm(sum_) for key, sum_ in of_way.items()}
        for way, of_way in sums.items()
    }


def _frames(scene: Scene, perceived: Perceived) -> Iterator[tuple[Frame, list[int], Detections]]:
    """Yield some frames with the tracks and boxes on them."""
    for path, name in scene.videos:
        boxes = perceived.tracks[name]
        with open_source(path, name, ReadConfig()) as source:
            for frame in source:
                rows = np.flatnonzero(boxes.frames == frame.index)
                if frame.index % _EVERY == 0 and len(rows):
                    xyxy = boxes.xyxy[rows].astype(np.float32)
                    tracks = [int(track) for track in boxes.who[rows].tolist()]
                    yield frame, tracks, Detections(xyxy, np.ones(len(rows), np.float32))


def _pack(found: Mapping[str, Looks]) -> bytes:
    arrays: dict[str, NDArray[Any]] = {
        "text": np.array(json.dumps({way: list(looks) for way, looks in found.items()}))
    }
    for number, looks in enumerate(found.values()):
        arrays[str(number)] = np.array(list(looks.values()), np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _read(path: Path) -> dict[str, Looks]:
    """Return what was kept; nothing where there is nothing, or nothing whole."""
    try:
        with np.load(path, allow_pickle=False) as npz:
            tracks = json.loads(str(npz["text"]))
            return {
                way: {(c, t): row for (c, t), row in zip(keys, npz[str(number)], strict=True)}
                for number, (way, keys) in enumerate(tracks.items())
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
