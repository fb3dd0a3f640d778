"""Render the two clips that ship, of the same people on two cameras, and their truth.

    python scripts/sample_walkers.py

writes walkers-a.mp4, walkers-b.mp4 and walkers.json into pipeline/samples.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from gait.synthetic.scene import draw_scene
from gait.synthetic.scene_config import SceneConfig
from gait.synthetic.video import WriteOptions, write_scene
from pipeline.evaluation.scene import Scene, write_truth
from pipeline.sources.inputs import walker_samples

# Everybody is on both cameras within seconds; nobody hides behind anything but the others.
CONFIG = SceneConfig(
    seed=8, people=8, duration_s=16.0, fps=10.0, pairs=0.0, stops=0.0, furnished=False
)


def main() -> int:
    """Render, and copy what ships."""
    videos, truth = walker_samples()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "scene"
        write_scene(draw_scene(CONFIG), folder, WriteOptions(crf=24))
        scene = Scene.load(folder)
        for (source, _), target in zip(scene.videos, videos, strict=True):
            shutil.copyfile(source, target)
            print(f"wrote {target}: {target.stat().st_size / 1e6:.2f} MB")
        names = [video.stem for video in videos]
        write_truth(truth, dict(zip(names, scene.cameras.values(), strict=True)))
    print(f"wrote {truth}: {truth.stat().st_size / 1e6:.2f} MB, {len(scene.people)} people")
    return 0


if __name__ == "__main__":
    sys.exit(main())
