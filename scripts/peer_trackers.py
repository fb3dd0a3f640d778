"""Other people's trackers behind one line protocol; run by scripts/bench_trackers.py, not by hand.

It runs in an environment of its own, so it imports nothing of this repository. Each line of
standard input is a job as JSON, each line of standard output the answer:

    {"tracker": "norfair", "same": true, "fps": 25, "frames": "frames.npz", "out": "out.txt"}
    {"seconds": [0.0003, ...]}      processor time of each frame; or {"error": "..."}
    {"versions": true}              what is installed
    {"trackeval": FOLDER, "results": FOLDER}    TrackEval's figures of results
"""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false")
warnings.simplefilter("ignore")

Prepare = Callable[[Any, Any, Any], Any]
Step = Callable[[Any], Any]
Read = Callable[[Any], Any]
Parts = tuple[Prepare, Step, Read]
"""Boxes, confidences and features to the tracker's input; the timed step; its output to rows of
id, left, top, right, bottom, confidence."""

HIGH, LOW, NEW, LOST_S, CONFIRM = 0.45, 0.1, 0.5, 1.5, 3
"""What all trackers are set to where `same` is asked for and they have the setting."""


def _supervised(tracker: Any, step: str) -> Parts:
    import supervision  # type: ignore[import-not-found]

    def prepare(boxes: Any, sure: Any, features: Any) -> Any:
        return supervision.Detections(
            xyxy=boxes, confidence=sure, class_id=np.zeros(len(boxes), dtype=int)
        )

    def read(found: Any) -> Any:
        if found.tracker_id is None or not len(found):
            return []
        kept = np.asarray(found.tracker_id) >= 0
        return np.column_stack([found.tracker_id, found.xyxy, found.confidence])[kept]

    return prepare, getattr(tracker, step), read


def supervision_bytetrack(fps: float, *, same: bool) -> Parts:
    """ByteTrack of supervision, whose last release with one is 0.29.1."""
    import supervision

    settings: dict[str, Any] = {"frame_rate": fps}
    if same:
        settings |= {
            "track_activation_threshold": HIGH,  # and a tenth more for new tracks
            "lost_track_buffer": 30 * LOST_S,  # counted at 30 frames a second
            "minimum_consecutive_frames": CONFIRM,
        }
    return _supervised(supervision.ByteTrack(**settings), "update_with_detections")


def pypi(name: str) -> Callable[..., Parts]:
    """Return the maker of a tracker of PyPI's `trackers`."""

    def make(fps: float, *, same: bool) -> Parts:
        import inspect

        import trackers

        kind = getattr(trackers, name)
        wanted: dict[str, Any] = {"frame_rate": fps, "enable_cmc": False}
        if same:
            wanted |= {
                "lost_track_buffer": round(30 * LOST_S),
                "track_activation_threshold": HIGH if name == "SORTTracker" else NEW,
                "high_conf_det_threshold": HIGH,
                "minimum_consecutive_frames": CONFIRM,
            }
        known = inspect.signature(kind).parameters
        return _supervised(kind(**{k: v for k, v in wanted.items() if k in known}), "update")

    return make


def norfair_tracker(fps: float, *, same: bool) -> Parts:
    """norfair with IoU, the distance its documentation recommends for boxes."""
    import norfair  # type: ignore[import-not-found]

    settings: dict[str, Any] = {"distance_function": "iou", "distance_threshold": 0.7}
    least = 0.0
    if same:
        settings |= {"hit_counter_max": round(LOST_S * fps), "initialization_delay": CONFIRM}
        least = HIGH
    tracker = norfair.Tracker(**settings)

    def prepare(boxes: Any, sure: Any, features: Any) -> Any:
        return [
            norfair.Detection(box.reshape(2, 2), np.array([s, s]))
            for box, s in zip(boxes, sure, strict=True)
            if s >= least
        ]

    def step(found: Any) -> Any:
        return found, tracker.update(detections=found)

    def read(answer: Any) -> Any:
        here = {id(each) for each in answer[0]}  # others are only extrapolated
        return [
            (t.id, *t.estimate.reshape(4), t.last_detection.scores[0])
            for t in answer[1]
            if id(t.last_detection) in here
        ]

    return prepare, step, read


def ultralytics(kind: str, *, looks: bool = False) -> Callable[..., Parts]:
    """Return the maker of a tracker of ultralytics."""

    def make(fps: float, *, same: bool) -> Parts:
        import yaml
        from ultralytics.engine.results import Boxes
        from ultralytics.trackers import track
        from ultralytics.utils import ROOT

        text = (ROOT / "cfg" / "trackers" / f"{kind}.yaml").read_text(encoding="utf-8")
        settings = yaml.safe_load(text) | {"gmc_method": "none", "with_reid": looks}
        if same:
            settings |= {
                "track_high_thresh": HIGH,
                "track_low_thresh": LOW,
                "new_track_thresh": NEW,
                "track_buffer": round(LOST_S * fps),
            }
        tracker = track.TRACKER_MAP[kind](args=SimpleNamespace(**settings))

        def prepare(boxes: Any, sure: Any, features: Any) -> Any:
            rows = np.column_stack([boxes, sure, np.zeros(len(boxes))]).astype(np.float32)
            return Boxes(rows, (4000, 4000)), features if looks else None

        def step(found: Any) -> Any:
            return tracker.update(found[0], None, found[1])

        def read(rows: Any) -> Any:
            return rows[:, [4, 0, 1, 2, 3, 5]] if len(rows) else []

        return prepare, step, read

    return make


TRACKERS: dict[str, Callable[..., Parts]] = {
    "supervision ByteTrack": supervision_bytetrack,
    "norfair": norfair_tracker,
    "trackers SORT": pypi("SORTTracker"),
    "trackers ByteTrack": pypi("ByteTrackTracker"),
    "trackers OC-SORT": pypi("OCSORTTracker"),
    "trackers BoT-SORT": pypi("BoTSORTTracker"),
    "ultralytics ByteTrack": ultralytics("bytetrack"),
    "ultralytics OC-SORT": ultralytics("ocsort"),
    "ultralytics BoT-SORT": ultralytics("botsort"),
    "ultralytics BoT-SORT with looks": ultralytics("botsort", looks=True),
}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Follow the people of one recording."""
    prepare, step, read = TRACKERS[job["tracker"]](job["fps"], same=job["same"])
    with np.load(job["frames"]) as file:
        data = {key: file[key] for key in file.files}
    inputs = []
    for start, end in zip(data["ends"][:-1], data["ends"][1:], strict=True):
        rows = slice(int(start), int(end))
        features = data["features"][rows] if "features" in data else None
        inputs.append(prepare(data["xyxy"][rows].copy(), data["confidence"][rows], features))
    taken, lines = [], []
    for index, found in enumerate(inputs):
        start = time.process_time()
        answer = step(found)
        taken.append(time.process_time() - start)
        for who, x0, y0, x1, y1, sure in read(answer):
            box = f"{x0:.3f},{y0:.3f},{x1 - x0:.3f},{y1 - y0:.3f}"
            lines.append(f"{index + 1},{int(who)},{box},{sure:.4f},-1,-1,-1\n")
    if job.get("out"):
        Path(job["out"]).write_text("".join(lines))
    return {"seconds": taken}


def versions() -> dict[str, str]:
    """Return the versions of what is compared."""
    found = {}
    for name in ("supervision", "norfair", "trackers", "ultralytics-opencv-headless", "trackeval"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def evaluate(folder: Path, results: Path) -> dict[str, float]:
    """Return TrackEval's own figures, for results on recordings where everybody counts."""
    import trackeval  # type: ignore[import-not-found]

    quiet = {"PRINT_CONFIG": False}
    metrics = [getattr(trackeval.metrics, name)(quiet) for name in ("HOTA", "CLEAR", "Identity")]
    figures: dict[str, float] = {}
    recordings = sorted(path.parent.parent for path in folder.glob("*/gt/gt.txt"))
    data = [_recording(each, results / f"{each.name}.txt") for each in recordings]
    for metric in metrics:
        each = {str(at): metric.eval_sequence(one) for at, one in enumerate(data)}
        figures |= {
            name: float(np.mean(value)) for name, value in metric.combine_sequences(each).items()
        }
    return {name: figures[name] for name in ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")}


def _recording(folder: Path, result: Path) -> dict[str, Any]:
    info = configparser.ConfigParser()
    info.read(folder / "seqinfo.ini")
    count = int(info["Sequence"]["seqLength"])
    tables = [
        np.loadtxt(path, delimiter=",", ndmin=2).reshape(-1, columns)
        for path, columns in ((folder / "gt" / "gt.txt", 9), (result, 10))
    ]
    # In our order: where two boxes overlap a person to the same digit, the first is matched.
    tables = [table[np.lexsort((table[:, 1], table[:, 0]))] for table in tables]
    numbers = [np.unique(table[:, 1], return_inverse=True) for table in tables]
    data: dict[str, Any] = {"gt_ids": [], "tracker_ids": [], "similarity_scores": []}
    for frame in range(1, count + 1):
        rows = [table[:, 0] == frame for table in tables]
        data["gt_ids"].append(numbers[0][1][rows[0]])
        data["tracker_ids"].append(numbers[1][1][rows[1]])
        data["similarity_scores"].append(_iou(tables[0][rows[0], 2:6], tables[1][rows[1], 2:6]))
    for name, table, (ids, _) in zip(("gt", "tracker"), tables, numbers, strict=True):
        data |= {f"num_{name}_dets": len(table), f"num_{name}_ids": len(ids)}
    return data | {"num_timesteps": count}


def _iou(first: Any, second: Any) -> Any:
    ends = [each[:, :2] + each[:, 2:] for each in (first, second)]
    sides = np.minimum(ends[0][:, None], ends[1]) - np.maximum(first[:, None, :2], second[:, :2])
    shared = np.maximum(sides, 0).prod(axis=2)
    union = first[:, 2:].prod(axis=1)[:, None] + second[:, 2:].prod(axis=1) - shared
    return shared / np.maximum(union, 1e-9)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Return what a job comes to."""
    if "versions" in job:
        return versions()
    if "trackeval" in job:
        return dict(evaluate(Path(job["trackeval"]), Path(job["results"])))
    return run(job)


def main() -> None:
    """Answer until standard input ends."""
    sys.path += sys.argv[1:]  # where ultralytics lies, after everything of this environment
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print what they like
    for line in sys.stdin:
        try:
            said = answer(json.loads(line))
        except Exception as error:  # one peer that fails must not take the others with it
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
