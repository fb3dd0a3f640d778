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
from gait.synthetic.scene_config import Colours, Layout, SceneConfig
from gait.synthetic.video import WriteOptions, write_scene
from pipeline.evaluation.scene import Scene, write_truth
from pipeline.sources.inputs import walker_samples

# Two places, other clothes in each: only body and gait are the same. Of the seeds 0 to 39 this one
# leaves everybody longest in full view, going by their ways alone.
CONFIG = SceneConfig(
    seed=16,
    people=10,
    layout=Layout.APART,
    duration_s=30.0,
    fps=10.0,
    colours=Colours.CHANGING,
    pairs=0.0,
    stops=0.05,
    luggage=0.3,
    transit_s=(3.0, 6.0),
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
