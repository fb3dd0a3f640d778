"""Judge identities over the cameras of a scene, and which stage loses what: `make eval-cross`.

    python scripts/eval_cross_camera.py
    python scripts/eval_cross_camera.py scene --weights mine.safetensors --threshold 9

The folder is one that `trackletgait synth video` wrote; without one, the scene of the page is
rendered. Perception is kept in --cache, so that other --weights take seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.table import Table

from gait.encoder import Encoder
from gait.errors import GaitError
from gait.synthetic.scene import draw_scene
from gait.synthetic.scene_config import Colours, Layout, SceneConfig
from gait.synthetic.video import write_scene
from pipeline.commands.console import Console
from pipeline.errors import PipelineError
from pipeline.evaluation.cross_camera import Judged, judge
from pipeline.evaluation.looks import looks
from pipeline.evaluation.perceive import STAGES, kept_in, perceive
from pipeline.evaluation.scene import Scene
from pipeline.stages.encode import EncoderConfig

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cross-camera.md"
BEGIN, END = "<!-- eval-cross -->", "<!-- end of eval-cross -->"
SCENE = SceneConfig(
    seed=4, people=16, duration_s=90.0, fps=10.0, layout=Layout.APART, colours=Colours.ALIKE
)
"""The scene of the page: two places, everybody in the same clothes."""

Cells = list[list[str]]


def main() -> int:
    """Judge, print, and write."""
    options = _options()
    console = Console(stderr=True)
    try:
        scene = Scene.load(options.scene or _rendered(options.cache / "scene", console))
        config = (
            EncoderConfig() if options.weights is None else EncoderConfig(weights=options.weights)
        )
        encoder = config.build()
        threshold = config.threshold if options.threshold is None else options.threshold
        untrained = Encoder.random("nano", seed=0)
        judged = []
        for stages in STAGES:
            with console.status(stages.name) as status:
                perceived = perceive(scene, stages, options.cache, status.update)
                status.update(f"{stages.name}: looks")
                kept = kept_in(options.cache, scene, stages)
                seen = looks(scene, perceived, kept.with_name(f"looks-{kept.name}"))
                status.update(f"{stages.name}: identities")
                judged.append(
                    judge(
                        scene,
                        stages,
                        perceived,
                        encoder,
                        threshold=threshold,
                        untrained=untrained,
                        looks=seen,
                    )
                )
    except (GaitError, PipelineError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    _print(judged)
    _write(options, scene, encoder, judged)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "scene", type=Path, nargs="?", help="folder that `trackletgait synth video` wrote"
    )
    parser.add_argument("--weights", help="checkpoint; the bundled one when left out")
    parser.add_argument(
        "--threshold", type=float, help="gallery.threshold; the weights' own if left out"
    )
    parser.add_argument("--cache", type=Path, default=ROOT / "results" / "cross-camera")
    parser.add_argument(
        "--json", type=Path, help="where the figures go; cross-camera.json in --cache"
    )
    parser.add_argument(
        "--page", type=Path, help=f"also rewrite the tables of a page, such as {PAGE.name}"
    )
    return parser.parse_args()


def _rendered(folder: Path, console: Console) -> Path:
    """Render the scene of the page, unless it is there."""
    if not folder.exists():
        with console.status("rendering the scene: a few minutes") as status:
            write_scene(
                draw_scene(SCENE),
                folder,
                on_frame=lambda camera: status.update(f"drawing {camera}"),
            )
    return folder


def stage_cells(judged: list[Judged]) -> Cells:
    """Return the table of what each stage loses, the head first."""
    rows = [["", *(each.stages.name for each in judged)]]
    figures: list[tuple[str, Callable[[Judged], str]]] = [
        ("boxes found, %", lambda j: _percent(j.followed.recall)),
        ("boxes on somebody, %", lambda j: _percent(j.followed.precision)),
        ("tracks per walk", lambda j: f"{j.followed.tracks_per_walk:.2f}"),
        ("purity of tracks, %", lambda j: _percent(j.followed.purity)),
        ("tracks of nobody", lambda j: str(j.followed.false_tracks)),
        ("mask IoU", lambda j: f"{j.followed.mask_iou:.3f}"),
        (
            "usable tracks",
            lambda j: f"{j.followed.usable} / {j.followed.tracks}",
        ),
        ("IDF1, nobody found again", lambda j: _percent(j.alone)),
        ("**IDF1**", lambda j: _percent(j.id_f1)),
        ("IDF1, best threshold", lambda j: _percent(j.hindsight)),
        ("IDF1, all found again", lambda j: _percent(j.best)),
        ("identities founded", lambda j: "-" if j.score is None else str(j.identities)),
        *(
            (f"IDF1 on camera {camera}", partial(_on_camera, camera))
            for camera in judged[0].by_camera
        ),
    ]
    return rows + [[label, *(figure(each) for each in judged)] for label, figure in figures]


def retrieval_cells(judged: list[Judged]) -> Cells:
    """Return the table of tracks found on the other camera, the head first."""
    methods = list(max(judged, key=lambda each: len(each.retrieval)).retrieval)
    rows = [["Rank-1, mAP, %", *(each.stages.name for each in judged)]]
    for method in methods:
        scores = [each.retrieval.get(method) for each in judged]
        label = f"**{method}**" if method == "encoder" else method
        rows.append(
            [
                label,
                *(
                    "-" if s is None else f"{_percent(s.rank1)}, {_percent(s.mean_ap)}"
                    for s in scores
                ),
            ]
        )
    rows.append(
        ["tracks looked for", *(str(each.retrieval["chance"].num_probes) for each in judged)]
    )
    return rows


def contender_cells(judged: list[Judged]) -> Cells:
    """Return the table of ways to tell who is who, the head first."""
    rows = [["IDF1 / Rank-1 / FNIR at FPIR 10 %, %", *(each.stages.name for each in judged)]]
    for way in judged[0].contenders:
        found = [each.contenders.get(way) for each in judged]
        rows.append(
            [
                f"**{way}**" if way == "ours" else way,
                *(
                    "-"
                    if c is None
                    else " / ".join(_percent(share) for share in (c.id_f1, c.rank1, c.fnir))
                    + f" ({c.identities} people)"
                    for c in found
                ),
            ]
        )
    return rows


def _on_camera(camera: str, judged: Judged) -> str:
    return _percent(judged.by_camera.get(camera))


def _percent(share: float | None) -> str:
    return "-" if share is None or share != share else f"{100 * share:.1f}"


def _print(judged: list[Judged]) -> None:
    for cells in (stage_cells(judged), retrieval_cells(judged), contender_cells(judged)):
        table = Table(*cells[0], box=None, pad_edge=False)
        for row in cells[1:]:
            table.add_row(*(cell.replace("**", "") for cell in row))
        Console().print(table, "")


def _write(
    options: argparse.Namespace, scene: Scene, encoder: Encoder, judged: list[Judged]
) -> None:
    record = {
        "when": f"{datetime.now(UTC):%Y-%m-%d}",
        "encoder": encoder.description,
        "model_hash": encoder.model_hash,
        "cameras": list(scene.cameras),
        "people": len(scene.people),
        "scene": scene.facts,
        "judged": [dataclasses.asdict(each) | {"id_f1": each.id_f1} for each in judged],
    }
    path = options.json or options.cache / "cross-camera.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"wrote {path}", file=sys.stderr)
    if options.page is not None:
        old = options.page.read_text()
        options.page.write_text(in_page(old, markdown(scene, encoder, judged)))
        print(f"wrote {options.page}", file=sys.stderr)


def markdown(scene: Scene, encoder: Encoder, judged: list[Judged]) -> str:
    """Return the page's figures."""
    threshold = judged[0].threshold
    lines = [
        f"{len(scene.people)} people, {len(scene.cameras)} cameras; {scene.facts}. "
        f"Encoder: {encoder.description.rpartition(',')[0]}; "
        f"threshold {'none' if threshold is None else f'{threshold:.4g}'}. "
        f"{datetime.now(UTC):%Y-%m-%d}.",
        "",
    ]
    for cells in (stage_cells(judged), retrieval_cells(judged), contender_cells(judged)):
        head, *rows = (f"| {' | '.join(row)} |" for row in cells)
        lines += [head, "|---" * len(cells[0]) + "|", *rows, ""]
    return "\n".join(lines)


def in_page(page: str, figures: str) -> str:
    """Return the page with new figures between its markers.

    Raises:
        ValueError: The page has no markers.
    """
    if BEGIN not in page or END not in page:
        raise ValueError(f"expected a page with {BEGIN} and {END}")
    between = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    return between.sub(lambda _: f"{BEGIN}\n\n{figures}\n{END}", page)


if __name__ == "__main__":
    sys.exit(main())
