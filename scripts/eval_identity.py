"""What each part of identity brings: the tables of docs/association.md and docs/identity.md.

    python scripts/eval_identity.py                 # renders twelve scenes: hours, the first time
    python scripts/eval_identity.py --only 31 37 --page docs/association.md

Margins were chosen on the scenes of DEVELOPMENT; those of HELD_OUT have no part in any choice.
Scenes and what perception makes of them are kept in --cache.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from gait.encoder import Encoder
from gait.errors import GaitError
from gait.synthetic.scene import draw_scene
from gait.synthetic.scene_config import Colours, Layout, SceneConfig
from gait.synthetic.video import write_scene
from pipeline.commands.console import Console
from pipeline.errors import PipelineError
from pipeline.evaluation.ablation import NO_PICTURE, PARTS, Joins, glued, interrupted, joins
from pipeline.evaluation.case import Case
from pipeline.evaluation.contenders import NO_PLACES, TOGETHER, Contest, Walks
from pipeline.evaluation.perceive import STAGES, perceive
from pipeline.evaluation.scene import Scene
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.decision import DecisionConfig
from pipeline.stages.encode import EncoderConfig

ROOT = Path(__file__).resolve().parent.parent
MACHINE, TRUTH = STAGES[0], STAGES[-1]

Cases = Mapping[tuple[int, str], Case]
Cells = list[list[str]]


def _scene(seed: int, people: int, cameras: int, layout: Layout, duration_s: float) -> SceneConfig:
    return SceneConfig(
        seed=seed,
        people=people,
        cameras=cameras,
        layout=layout,
        duration_s=duration_s,
        fps=10.0,
        colours=Colours.ALIKE,
    )


DEVELOPMENT = (
    *(_scene(seed, 16, 2, Layout.APART, 90.0) for seed in (4, 11, 12)),
    *(_scene(seed, 14, 3, Layout.APART, 100.0) for seed in (21, 22)),
)
HELD_OUT = (
    _scene(31, 16, 2, Layout.APART, 90.0),
    _scene(33, 14, 3, Layout.APART, 75.0),
    _scene(34, 20, 2, Layout.APART, 300.0),
    _scene(32, 12, 3, Layout.OVERLAP, 60.0),
    _scene(36, 14, 2, Layout.OVERLAP, 80.0),
    _scene(37, 14, 2, Layout.OVERLAP, 70.0),
    _scene(38, 12, 3, Layout.OVERLAP, 50.0),
)

OVERLAPPING = {scene.seed for scene in HELD_OUT if scene.layout is Layout.OVERLAP}

HYSTERESIS = {
    "no switching": (0.0, 10_000),
    "margin 0.10, 2 windows": (0.10, 2),
    "**margin 0.05, 2 windows**": (0.05, 2),
    "margin 0.10, 3 windows": (0.10, 3),
}
FUSIONS: Mapping[str, Callable[[Walks], np.ndarray]] = {
    "first window only": Walks.first,
    "mean distance": Walks.mean,
    "nearest window": Walks.min,
    "**ours**": Walks.fused,
}


def main() -> int:
    """Judge, print, and write."""
    options = _options()
    console = Console(stderr=True)
    try:
        config = EncoderConfig()
        encoder, threshold = config.build(), config.threshold
        assert threshold is not None
        for name, scenes in (("development", DEVELOPMENT), ("held out", HELD_OUT)):
            scenes = tuple(s for s in scenes if not options.only or s.seed in options.only)
            cases = _cases(scenes, encoder, options.cache, console)
            if cases:
                _tell(options, name, cases, threshold)
    except (GaitError, PipelineError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=int, nargs="*", help="seeds of the scenes")
    parser.add_argument("--cache", type=Path, default=ROOT / "results" / "cross-camera")
    parser.add_argument(
        "--page", type=Path, action="append", default=[], help="also rewrite this page's tables"
    )
    return parser.parse_args()


def _cases(
    scenes: Sequence[SceneConfig], encoder: Encoder, cache: Path, console: Console
) -> dict[tuple[int, str], Case]:
    cases = {}
    for stages in (MACHINE, TRUTH):
        for config in scenes:
            folder = cache / ("scene" if config.seed == 4 else f"scene{config.seed}")
            with console.status(f"seed {config.seed}, {stages.name}") as status:
                if not folder.exists():
                    write_scene(draw_scene(config), folder, on_frame=status.update)
                scene = Scene.load(folder)
                perceived = perceive(scene, stages, cache, status.update)
                cases[config.seed, stages.name] = Case.of(scene, perceived, encoder)
    return cases


def _tell(options: argparse.Namespace, name: str, cases: Cases, threshold: float) -> None:
    tables: dict[str, Cells] = {
        "parts": parts_cells(cases, threshold),
        "joined": joined_cells(cases, threshold),
        "glued": glued_cells(cases, threshold),
        "hysteresis": hysteresis_cells(cases, threshold),
        "windows": windows_cells(cases),
    }
    for kind, cells in tables.items():
        text = markdown(cells)
        print(f"{kind}, {name}\n\n{text}\n", flush=True)
        for page in options.page:
            page.write_text(in_page(page.read_text(), f"{kind} {name}", text))


def _by_stage(cases: Cases, stage: str) -> list[Case]:
    return [case for (_, name), case in cases.items() if name == stage]


def _scores(cases: Cases, config: GalleryConfig) -> list[str]:
    """Return IDF1 of each case, a cell a stage, and their mean."""
    found = {
        stage: [100 * case.score(case.identities(config)).f1 for case in _by_stage(cases, stage)]
        for stage in (MACHINE.name, TRUTH.name)
    }
    cells = [", ".join(f"{each:.1f}" for each in of_stage) for of_stage in found.values()]
    return [*cells, f"{np.mean([each for of_stage in found.values() for each in of_stage]):.1f}"]


def _head(cases: Cases) -> list[str]:
    seeds = ", ".join(str(seed) for seed, stage in cases if stage == MACHINE.name)
    return [f"IDF1, %; seeds {seeds}", "machine", "truth", "mean"]


def parts_cells(cases: Cases, threshold: float) -> Cells:
    """Return what each part brings, the head first."""
    rows = [_head(cases)] + [
        [name, *_scores(cases, _config(threshold, rules))] for name, rules in PARTS.items()
    ]
    told = {"whereabouts": TOGETHER | {"overlapping": _pairs(cases)}}
    part = {(seed, stage): case for (seed, stage), case in cases.items() if seed in OVERLAPPING}
    if part:
        seeds = ", ".join(sorted({str(seed) for seed, _ in part}))
        name = f"ours, told which cameras overlap ({seeds})"
        rows.append([name, *_scores(part, _config(threshold, told))])
    return rows


def _pairs(cases: Cases) -> list[list[str]]:
    """Return all pairs of cameras."""
    names = sorted({camera for case in cases.values() for camera in case.truth})
    return [list(pair) for pair in combinations(names, 2)]


def hysteresis_cells(cases: Cases, threshold: float) -> Cells:
    """Return what margins bring with nothing but walks, the head first."""
    rows = [_head(cases)]
    for name, (margin, windows) in HYSTERESIS.items():
        decision = {"switch_margin": margin, "switch_windows": windows, "purity_margin": None}
        rules = {"decision": decision, "whereabouts": NO_PLACES, "revise_s": 0}
        rows.append([name, *_scores(cases, _config(threshold, rules))])
    return rows


def windows_cells(cases: Cases) -> Cells:
    """Return how well tracks are found on other cameras by several windows, the head first."""
    rows = [["Rank-1 / FNIR at FPIR 10 %, %", MACHINE.name, TRUTH.name]]
    for name, fused in FUSIONS.items():
        row = [name]
        for stage in (MACHINE.name, TRUTH.name):
            found = []
            for case in _by_stage(cases, stage):
                distances = fused(Walks.of(case, case.embeddings))
                found.append(Contest(case).retrieval(distances))
            row.append(" / ".join(f"{100 * each:.1f}" for each in np.mean(found, axis=0)))
        rows.append(row)
    return rows


def joined_cells(cases: Cases, threshold: float) -> Cells:
    """Return how tracks of one person on one camera are joined, the head first."""
    rows = [["", "of one person", "joined", "of one identity", "wrong"]]
    ways = {
        "nearest walk": PARTS["nearest walk, one threshold"],
        "without places in the picture": {"whereabouts": NO_PICTURE},
        "**ours**": {"whereabouts": TOGETHER},
    }
    for stage in (MACHINE.name, TRUTH.name):
        of_stage = _by_stage(cases, stage)
        hidden = [interrupted(case) for case in of_stage]
        for name, found in (("who came back", of_stage), ("hidden for a tracklet", hidden)):
            for way, rules in ways.items():
                config = _config(threshold, rules)
                told = [joins(case, case.identities(config)) for case in found]
                rows.append([f"{stage}: {name}, {way}", *_join_cells(sum(told, Joins()))])
    return rows


def _join_cells(found: Joins) -> list[str]:
    joined, wrong = _percent(found.joined, found.pairs), _percent(found.wrong, found.same)
    return [str(found.pairs), joined, str(found.same), wrong]


def glued_cells(cases: Cases, threshold: float) -> Cells:
    """Return how tracks of two people are cut, the head first."""
    rows = [["", "glued, two tracklets of each", "found", "at the right tracklet",
             "other tracks of 4 tracklets and more", "falsely cut"]]  # fmt: skip
    for stage in (MACHINE.name, TRUTH.name):
        each = glued(_by_stage(cases, stage), threshold, DecisionConfig())
        shares = [_percent(part, each.tracks) for part in (each.found, each.right)]
        rows.append([stage, str(each.tracks), *shares, str(each.pure), str(each.falsely_cut)])
    return rows


def _config(threshold: float, rules: Mapping[str, object]) -> GalleryConfig:
    return GalleryConfig.model_validate({"threshold": threshold, **rules})


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def markdown(cells: Cells) -> str:
    """Return a table as Markdown."""
    head, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([head, "|---" * len(cells[0]) + "|", *rows])


def in_page(page: str, name: str, table: str) -> str:
    """Return the page with a new table between the markers of its name, if it has such."""
    begin, end = f"<!-- eval-identity {name} -->", f"<!-- end of eval-identity {name} -->"
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return between.sub(lambda _: f"{begin}\n{table}\n{end}", page)


if __name__ == "__main__":
    sys.exit(main())
