"""One walker recorded for every frame there will be: boxes, masks and a clip, and no network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from gait.synthetic.ground_truth import encode_rle
from tests.pipeline.conftest import write_video

SIZE = (160, 120)
BOX = (60, 12, 40, 96)  # left, top, width, height
NUM_FRAMES = 3000  # replayed by `Frame.index`, which counts on when a clip begins anew
FPS = 25
DEAD = "rtsp://127.0.0.1:1/s"  # nothing listens there
IN_TIME_S = 30.0  # a run ends within 5 s by itself; a test shares the processor with others


def write_walker(folder: Path, *, there: int = 1, away: int = 0) -> dict[str, object]:
    """Write the recordings and return the `pipeline` block that replays them.

    Args:
        folder: Where.
        there: Frames the walker is seen, again and again.
        away: Frames in between.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left, top, width, height = BOX
    boxes = folder / "boxes.txt"
    numbers = (i + 1 for i in range(NUM_FRAMES) if i % (there + away) < there)
    lines = (f"{i},1,{left},{top},{width},{height},1" for i in numbers)
    boxes.write_text("\n".join(lines))
    counts = [encode_rle(figure(phase), left, top, SIZE[::-1]) for phase in range(20)]
    annotations = [
        {
            "image_id": index + 1,
            "bbox": list(BOX),
            "segmentation": {"size": list(SIZE[::-1]), "counts": counts[index % 20]},
        }
        for index in range(NUM_FRAMES)
    ]
    masks = folder / "masks.json"
    masks.write_text(json.dumps({"annotations": annotations}))
    return {
        "detector": {"kind": "replay", "file": str(boxes)},
        "segmenter": {"kind": "replay", "file": str(masks)},
        "assembler": {"window": 10, "stride": 10, "min_length": 3},
    }


def figure(phase: int) -> np.ndarray:
    """Return a person whose legs swing."""
    rows, columns = np.mgrid[: BOX[3], : BOX[2]]
    swing = 0.1 + 0.1 * np.sin(phase * np.pi / 10)
    trunk = (rows < 53) & (abs(columns - 20) < 12)
    legs = (rows >= 53) & (abs(abs(columns - 20) - 40 * swing) < 5)
    return np.asarray(trunk | legs)


def write_clip(path: Path, seconds: float = 60) -> Path:
    """Write a clip of nothing much; what is in it is replayed."""
    return write_video(path, num_frames=round(seconds * FPS), size=SIZE)


def write_config(path: Path, cameras: dict[str, object], pipeline: dict[str, object]) -> Path:
    """Write what `trackletgait run` reads."""
    path.write_text(yaml.safe_dump({"cameras": cameras, "pipeline": pipeline}))
    return path
