"""The scenes that scripts/bench_trackers.py runs trackers on, each with what was detected in it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.detecting import record_detections
from pipeline.evaluation.tracking_folder import MotBoxes, find_sequences
from pipeline.evaluation.tracking_folder import Sequence as Recording
from pipeline.evaluation.tracking_scores import Tally, score
from pipeline.stages.appearance import HistogramConfig
from trackers.boxes import Detections

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Scene:
    """One recording, as everybody gets it."""

    name: str
    fps: float
    detections: list[Detections]
    frames: Path  # the same for other processes
    recording: Recording | None = None
    min_visible: float = 0.0


def judged(scene: Scene, boxes: MotBoxes) -> Tally:
    """Return how well a scene's people were followed."""
    assert scene.recording is not None
    truth = scene.recording.truth(scene.min_visible)
    return score(truth, boxes, num_frames=scene.recording.num_frames, fps=scene.fps)


def crossing_module() -> Any:
    """Return the generator of the tests."""
    path = ROOT / "tests" / "trackers" / "crossing_boxes.py"
    spec = importlib.util.spec_from_file_location("crossing_boxes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["crossing_boxes"] = module
    spec.loader.exec_module(module)
    return module


def crossing(out: Path, name: str, **settings: Any) -> Scene:
    """Return a generated scene, writing it first."""
    module = crossing_module()
    folder = out / "crossing" / name
    module.cross(module.CrossingConfig(**settings)).write(folder)
    return recorded(next(s for s in find_sequences(folder.parent) if s.name == name), out)


def crowds(out: Path) -> list[Scene]:
    """Return the scenes of people who cross, at two frame rates; our defaults never saw them."""
    scenes = [crossing(out, f"crowd-{seed}", seed=seed) for seed in range(200, 204)]
    return scenes + [crossing(out, f"slow-{seed}", seed=seed, fps=10.0) for seed in (204, 205)]


def recorded(recording: Recording, out: Path, min_visible: float = 0.0) -> Scene:
    """Return a scene with a det.txt."""
    found = recording.detections()
    frames = out / "frames" / f"{recording.folder.parent.name}-{recording.name}.npz"
    save_frames(frames, found)
    return Scene(recording.name, recording.fps, found, frames, recording, min_visible)


def save_frames(path: Path, found: Sequence[Detections]) -> None:
    """Write detections as `scripts/peer_trackers.py` reads them."""
    arrays: dict[str, Any] = {
        "xyxy": np.concatenate([each.xyxy for each in found]),
        "confidence": np.concatenate([each.confidence for each in found]),
        "ends": np.cumsum([0, *map(len, found)]),
    }
    features = [each.features for each in found if each.features is not None]
    if len(features) == len(found):
        arrays["features"] = np.concatenate(features)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def rendered(folder: Path, *, seed: int, duration: float) -> list[Scene]:
    """Return two cameras of our generator with what the bundled detector finds in them."""
    if not folder.is_dir():
        say("rendering two cameras; that takes minutes")
        settings = ["--people", "24", "--cameras", "2", "--layout", "overlap", "--fps", "12.5"]
        settings += ["--seed", str(seed), "--duration", str(duration)]
        command = [sys.executable, "-m", "pipeline.cli", "synth", "video", str(folder)]
        subprocess.run([*command, *settings], check=True, cwd=ROOT)
    for recording in find_sequences(folder):
        if not (recording.folder / "det" / "det.txt").is_file():
            say(f"detecting people on camera {recording.name}")
            record_detections(recording, HistogramConfig().build())
    return [recorded(each, folder.parent, min_visible=0.3) for each in find_sequences(folder)]


def without_looks(scene: Scene) -> list[Detections]:
    """Return the detections without appearance vectors."""
    return [Detections(each.xyxy, each.confidence) for each in scene.detections]


def clip(out: Path) -> tuple[Scene, dict[str, Any]]:
    """Return the real clip with what the bundled detector found, and who is who by hand."""
    with np.load(ROOT / "tests" / "data" / "vtest-detections.npz") as data:
        found = [
            Detections(data["xyxy"][at], data["confidence"][at])
            for at in (data["frame"] == index for index in range(300))
        ]
        labels = {name: data[f"label_{name}"] for name in ("frame", "person", "xyxy")}
    frames = out / "frames" / "vtest.npz"
    save_frames(frames, found)
    return Scene("vtest", 10.0, found, frames), labels


def say(text: str) -> None:
    """Print what comes next."""
    print(text, flush=True)
