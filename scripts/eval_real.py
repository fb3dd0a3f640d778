"""Does the encoder tell real people apart? `make eval-real`, or `python scripts/eval_real.py CLIP`.

Nobody knows who the people of the clip are, but a person equals himself: docs/real-video.md says
what is compared with what, and holds the tables this script writes.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from gait.data.atomic import write_atomically
from gait.distance import euclidean
from gait.encoder import Encoder
from gait.errors import ConfigError, DataError, GaitError
from gait.evaluation.gei import gei_iou, gei_l2
from gait.evaluation.halves import (
    HalvesConfig,
    Walk,
    WalkScore,
    WalkTrial,
    cut_halves,
    gain,
    judge,
)
from gait.evaluation.openset import Estimate
from gait.evaluation.paths import place_distances, turned_deg
from gait.evaluation.returns import Sightings, returning
from gait.evaluation.stretches import StretchConfig
from pipeline.commands.console import Console
from pipeline.errors import PipelineError
from pipeline.evaluation.walks import Followed, follow
from pipeline.sources.inputs import sample_path
from pipeline.weights import ENCODERS, encoder_file

ROOT = Path(__file__).resolve().parent.parent
RANDOM = ("nano:0", "nano:1", "nano:2", "small:0")
TURNED_DEG = 45.0
BASELINE = "mean silhouettes, L2 (GEI)"
Floats = NDArray[np.floating[Any]]
Method = Callable[[WalkTrial], Floats]


@dataclass(frozen=True)
class Setting:
    """One way to cut and compare; the first of `SETTINGS` is the one that counts."""

    name: str
    halves: HalvesConfig = field(default_factory=HalvesConfig)
    clothes: StretchConfig = field(default_factory=StretchConfig)


SETTINGS = (
    Setting("halves, 1 s apart, at least 20 silhouettes each"),
    Setting("first third against last third", HalvesConfig(share=1 / 3)),
    Setting("second halves as gallery", HalvesConfig(swapped=True)),
    Setting("no gap", HalvesConfig(gap_s=0.0)),
    Setting("2 s apart", HalvesConfig(gap_s=2.0)),
    Setting("4 s apart", HalvesConfig(gap_s=4.0)),
    Setting("at least 10 silhouettes", HalvesConfig(min_silhouettes=10)),
    Setting("at least 40 silhouettes", HalvesConfig(min_silhouettes=40)),
    Setting("windows of 30 silhouettes", HalvesConfig(min_silhouettes=30, window=30)),
    Setting("stricter on clothes (0.03)", clothes=StretchConfig(most_change=0.03)),
    Setting("laxer on clothes (0.06)", clothes=StretchConfig(most_change=0.06)),
    Setting("whole tracks, swaps and all", clothes=StretchConfig(most_change=2.0)),
)
MAIN, THIRDS = SETTINGS[:2]
RETURNS = Setting("people who come back in another track")


@dataclass
class Embeddings:
    """An encoder as a method; it embeds what several settings share once."""

    encoder: Encoder
    known: dict[bytes, Floats] = field(default_factory=dict)

    def __call__(self, trial: WalkTrial) -> Floats:
        """Return the distances of the paper's metric."""
        return euclidean(self._embed(trial.probe_shapes), self._embed(trial.gallery_shapes))

    def _embed(self, shapes: Sequence[NDArray[np.uint8]]) -> Floats:
        keys = [each.tobytes() for each in shapes]
        new = {key: each for key, each in zip(keys, shapes, strict=True) if key not in self.known}
        self.known.update(zip(new, self.encoder.embed(list(new.values())), strict=True))
        return np.stack([self.known[key] for key in keys])


@dataclass(frozen=True)
class Result:
    """What every method made of one setting."""

    setting: Setting
    trial: WalkTrial
    scores: dict[str, WalkScore]

    def gain(self, name: str) -> Estimate:
        """Return the Rank-1 a method has over the mean silhouettes."""
        scores = self.scores
        return gain(self.trial, scores[name], scores[BASELINE], self.setting.halves)


def halves(followed: Followed, setting: Setting) -> WalkTrial:
    """Return the trial of first and last parts."""
    trial = cut_halves(followed.walks(setting.clothes), setting.halves)
    if not trial.probes:
        raise PipelineError(
            f"setting '{setting.name}': expected people who stay in view for some seconds and "
            "are seen with others, found none; give a longer or livelier recording"
        )
    return trial


def returns(followed: Followed, people: Path) -> WalkTrial:
    """Return the trial of people who come back, told apart by a person's notes.

    Raises:
        DataError: The notes cannot be read.
    """
    try:
        with people.open(encoding="utf-8", newline="") as file:
            rows = [
                (float(r["time_s"]), float(r["x"]), float(r["y"]), r["person"])
                for r in csv.DictReader(file)
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{people}: expected a table of time_s,x,y,person, cannot read it ({error})"
        ) from error
    times_s, x, y, names = zip(*rows, strict=True) if rows else ((), (), (), ())
    notes = Sightings(np.array(times_s), np.array([x, y]).T, np.array(names, dtype=np.str_))
    walks = [
        walk
        for walk in followed.walks(RETURNS.clothes)
        if len(walk.times_s) >= RETURNS.halves.min_silhouettes
    ]
    return returning(walks, [notes.who(*followed.boxes(walk)) for walk in walks])


def evaluate(trial: WalkTrial, setting: Setting, methods: dict[str, Method]) -> Result:
    """Return the scores of some methods."""
    scores = {name: judge(trial, method(trial), setting.halves) for name, method in methods.items()}
    return Result(setting, trial, scores)


def encoders(weights: Sequence[str], random: Sequence[str], device: str) -> dict[str, Embeddings]:
    """Return the encoders to judge by the names they have in the tables, the random ones first."""
    found = {}
    for each in random:
        variant, _, seed = each.partition(":")
        try:
            encoder = Encoder.random(variant, int(seed or 0), device=device)
        except ValueError as error:
            raise ConfigError(f"--random {each} --device {device}: {error}") from error
        found[f"{variant}, random weights (seed {seed or 0})"] = Embeddings(encoder)
    for each in weights:
        encoder = Encoder.from_weights(encoder_file(each), device=device)
        name = f"**{Path(each).stem}**"
        # a run calls every checkpoint the same: then the path tells them apart
        found[name if name not in found else f"**{each}**"] = Embeddings(encoder)
    return found


def shipped() -> list[str]:
    """Return the bundled encoders' names."""
    return list(ENCODERS)


def main_table(main: Result, thirds: Result) -> list[list[str]]:
    """Return the rows of the table that counts, its head first."""
    turned = turned_deg(main.trial) >= TURNED_DEG
    head = ["method", "Rank-1", "over GEI", "EER", f"Rank-1, turned ({turned.sum()})"]
    head += [f"Rank-1, not turned ({(~turned).sum()})", "thirds: Rank-1", "thirds: EER"]
    chance = f"{main.trial.chance:.0%}", "", "50%", "", "", f"{thirds.trial.chance:.0%}", "50%"
    rows = [head, ["chance", *chance]]
    for name, score in main.scores.items():
        other = thirds.scores[name]
        over = "" if name == BASELINE else _spread(main.gain(name), signed=True)
        hits = [score.hits[chosen] for chosen in (turned, ~turned)]
        shares = [f"{each.mean():.0%}" if len(each) else "-" for each in hits]
        rows.append([name, _spread(score.rank1), over, _spread(score.eer), *shares])
        rows[-1] += [_spread(other.rank1), _spread(other.eer)]
    return rows


def returns_table(result: Result) -> list[list[str]]:
    """Return the rows of the table of people who come back, its head first."""
    rows = [["method", "Rank-1", "over GEI", "EER"]]
    rows.append(["chance", f"{result.trial.chance:.0%}", "", "50%"])
    for name, score in result.scores.items():
        over = "" if name == BASELINE else _spread(result.gain(name), signed=True)
        rows.append([name, _spread(score.rank1), over, _spread(score.eer)])
    return rows


def sensitivity_table(results: Sequence[Result], names: Sequence[str]) -> list[list[str]]:
    """Return Rank-1 / EER of some methods in every setting, the head first."""
    rows = [["setting", "walks, probes", "chance", *names]]
    for result in results:
        walks = {piece.name for piece in result.trial.probes}
        counts = f"{len(walks)}, {len(result.trial.probes)}"
        scores = [result.scores[name] for name in names]
        figures = [f"{s.rank1.value:.0%} / {s.eer.value:.0%}" for s in scores]
        rows.append([result.setting.name, counts, f"{result.trial.chance:.0%}", *figures])
    return rows


def _spread(estimate: Estimate, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    value, low, high = (
        f"{round(100 * each):{sign}d}" for each in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value}% ({low} to {high})"


def facts(main: Result) -> str:
    """Say in one sentence what a table rests on."""
    trial = main.trial
    tracks = len({probe.track for probe in trial.probes})
    others = trial.different.sum(axis=1)
    return (
        f"{len(trial.probes)} probes of {tracks} tracks, {others.min()} to {others.max()} walks of "
        f"other people to choose from, {trial.same.sum()} pairs of one person and "
        f"{trial.different.sum()} of two. In brackets 95% intervals, tracks resampled 2000 times."
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def write_section(page: Path, name: str, text: str) -> bool:
    """Replace what stands between the page's markers of `name`; False when it has none."""
    begin, end = f"<!-- eval-real {name} -->", f"<!-- end of eval-real {name} -->"
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, found, rest = old.partition(begin)
    _, closed, after = rest.partition(end)
    if found and closed:
        write_atomically(page, f"{before}{begin}\n{text}\n{end}{after}".encode())
    return bool(found and closed)


def sheet(trial: WalkTrial, columns: int = 2, count: int = 9) -> NDArray[np.uint8]:
    """Draw some silhouettes of each walk's first part and, right of the line, of its last."""
    strips = []
    for walk, *parts in zip(trial.probes, trial.gallery, trial.probes, strict=True):
        label = np.zeros((64, 44), dtype=np.uint8)
        cv2.putText(label, walk.name, (1, 36), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (160,), 1)
        first, last = (np.hstack([p.silhouettes[k] for k in _evenly(p, count)]) for p in parts)
        strip = np.hstack([label, first, np.full((64, 4), 110, dtype=np.uint8), last])
        strips.append(np.pad(strip, ((0, 1), (0, 0)), constant_values=110))
    rows = -(-len(strips) // columns)
    strips += [np.zeros_like(strips[0])] * (rows * columns - len(strips))
    return np.hstack([np.vstack(strips[at : at + rows]) for at in range(0, len(strips), rows)])


def _evenly(piece: Walk, count: int) -> NDArray[np.int64]:
    return np.linspace(0, len(piece.times_s) - 1, count).round().astype(np.int64)


def as_json(followed: Followed, results: Sequence[Result], used: dict[str, Embeddings]) -> bytes:
    """Return every figure, and what it was made from."""
    content = {
        "video_sha256": followed.sha256,
        "encoders": {
            name: {"description": each.encoder.description, "sha256": each.encoder.model_hash}
            for name, each in used.items()
        },
        "settings": [
            {
                "name": result.setting.name,
                "halves": result.setting.halves.model_dump(),
                "clothes": result.setting.clothes.model_dump(),
                "probes": [probe.name for probe in result.trial.probes],
                "turned_deg": turned_deg(result.trial).round(1).tolist(),
                "chance": result.trial.chance,
                "methods": {
                    name: {
                        "rank1": asdict(score.rank1),
                        "eer": asdict(score.eer),
                        "rank1_over_gei": asdict(result.gain(name)),
                        "hits": score.hits.tolist(),
                    }
                    for name, score in result.scores.items()
                },
            }
            for result in results
        ],
    }
    return json.dumps(content, indent=1).encode()


def show(console: Console, title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*(cell.strip("*") for cell in rows[0]), title=title, title_justify="left")
    for row in rows[1:]:
        table.add_row(*(cell.strip("*") for cell in row))
    console.print(table)


def run(options: argparse.Namespace, console: Console) -> None:
    """Follow, judge, print and write."""
    video = options.video or sample_path()
    console.print(f"Following everybody in {video.name}", style="dim")
    followed = follow(video, options.cache)
    used = encoders(options.weights or shipped(), options.random or RANDOM, options.device)
    judged = {name: each for name, each in used.items() if each.encoder.is_trained}
    methods: dict[str, Method]
    plain: dict[str, Method] = {BASELINE: gei, "mean silhouettes, IoU": iou}
    full: dict[str, Method] = {"place in the picture (control)": place_distances, **plain, **used}
    results = []
    for setting in SETTINGS:
        console.print(f"Comparing: {setting.name}", style="dim")
        trial = halves(followed, setting)
        methods = full if setting in (MAIN, THIRDS) else {**plain, **judged}
        results.append(evaluate(trial, setting, methods))
    tables = {
        facts(results[0]): main_table(*results[:2]),
        "Rank-1 / EER, one thing changed at a time:": sensitivity_table(results, [*plain, *judged]),
    }
    people = options.people or ROOT / "scripts" / f"{video.stem}-people.csv"
    if people.is_file() or options.people:
        console.print(f"Comparing: {RETURNS.name}", style="dim")
        results.append(evaluate(returns(followed, people), RETURNS, {**plain, **used}))
        tables[f"People who come back. {facts(results[-1])}"] = returns_table(results[-1])
    for title, rows in tables.items():
        show(console, title, rows)
    write(options, video.stem, results, tables, as_json(followed, results, used))
    console.print(f"Figures and silhouettes are in {options.out}", style="dim")


def write(
    options: argparse.Namespace,
    name: str,
    results: Sequence[Result],
    tables: dict[str, list[list[str]]],
    figures: bytes,
) -> None:
    """Write JSON and picture, and the page if one was asked for."""
    write_atomically(options.out / f"{name}.json", figures)
    drawn = cv2.imencode(".png", sheet(results[0].trial))[1]
    write_atomically(options.out / f"{name}.png", drawn.tobytes())
    if options.page:
        parts = [part for title, rows in tables.items() for part in (title, markdown(rows))]
        if not write_section(options.page, name, "\n" + "\n\n".join(parts) + "\n"):
            print(f"{options.page} has no place for {name}: not rebuilt", file=sys.stderr)


def gei(trial: WalkTrial) -> Floats:
    """Return the distances of mean silhouettes."""
    return gei_l2(trial.probe_shapes, trial.gallery_shapes)


def iou(trial: WalkTrial) -> Floats:
    """Return how little mean silhouettes overlap."""
    return gei_iou(trial.probe_shapes, trial.gallery_shapes)


def main() -> int:
    """Evaluate as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path, nargs="?", help="recording; default: the sample clip")
    parser.add_argument(
        "--weights", action="append", help="encoder by bundled name or path; repeat for several"
    )
    parser.add_argument(
        "--random", action="append", metavar="SIZE:SEED", help="random network; repeat for several"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "results/real/cache", help="folder for what is seen"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results/real", help="JSON and picture")
    parser.add_argument(
        "--people", type=Path, help="who is who (CSV); default: scripts/CLIP-people.csv if there"
    )
    parser.add_argument("--page", type=Path, help="Markdown page whose tables are rebuilt")
    try:
        run(parser.parse_args(), Console())
    except (PipelineError, GaitError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
