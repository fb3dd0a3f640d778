"""Run our trackers beside other people's on the same detections: `make bench-trackers`.

Rewrites the tables of docs/trackers-evaluated.md. The others live in environments of their own
under results/trackers, which the first run makes (300 MB); results go there too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gait.data.atomic import write_atomically
from gait.errors import DataError
from gait.runtimes.machine import OtherWork, describe_machine
from pipeline.evaluation.tracking import follow, named_tracker
from pipeline.evaluation.tracking_folder import (
    MotBoxes,
    find_sequences,
    read_boxes,
    write_boxes,
)
from pipeline.evaluation.tracking_folder import Sequence as Recording
from pipeline.evaluation.tracking_scores import Tally, score
from trackers.association import iou_matrix
from trackers.boxes import Detections

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "trackers-evaluated.md"
PEERS = ROOT / "scripts" / "peer_trackers.py"
ENVIRONMENTS = {
    # supervision gave ByteTrack up after 0.29; norfair wants an older numpy than the others
    "old": ("supervision==0.29.1", "norfair==2.3.0"),
    "new": ("trackers==2.6.1", "lap>=0.5.12", "trackeval==1.3.0"),
}
THEIRS = {
    "old": ("supervision ByteTrack", "norfair"),
    "new": (
        "trackers SORT",
        "trackers ByteTrack",
        "trackers OC-SORT",
        "trackers BoT-SORT",
        "ultralytics ByteTrack",
        "ultralytics OC-SORT",
        "ultralytics BoT-SORT",
    ),
}
LOOKS = "ultralytics BoT-SORT with looks"
_NOISE = "box_noise=0.05,position_noise=0.05,velocity_noise=0.00625"
_PAPER = f"max_newcomer_overlap=1.0,box_margin=0.0,{_NOISE}"
OURS = {
    "our SORT": "sort",
    "our ByteTrack": "bytetrack",
    "our OC-SORT": "ocsort",
    "our BoT-SORT": "botsort",
    "our ByteTrack, proposed": "bytetrack,box_noise=0.1,box_margin=0.1,min_overlap=0.2",
    "our BoT-SORT, proposed": "botsort,box_noise=0.1,box_margin=0.0",
    "our SORT, as in the paper": f"sort,{_PAPER},lost_s=1.5",
    "our ByteTrack, as in the paper": (
        f"bytetrack,{_PAPER},min_overlap=0.2,min_low_overlap=0.5,min_new_overlap=0.3"
    ),
    "our OC-SORT, as in the paper": f"ocsort,{_PAPER}",
    "our BoT-SORT, as in the paper": f"botsort,{_PAPER}",
}
WITH_LOOKS = {
    "our BoT-SORT with looks": "botsort",
    "our BoT-SORT with looks, proposed": "botsort,box_noise=0.1,box_margin=0.0",
    "our DeepSORT": "deepsort",
}
PEOPLE = (10, 50, 200)
PACKAGES = ("numpy", "scipy")


@dataclass(frozen=True)
class Scene:
    """One recording, as everybody gets it."""

    name: str
    fps: float
    detections: list[Detections]
    frames: Path  # the same for other processes
    recording: Recording | None = None
    min_visible: float = 0.0


@dataclass
class Ran:
    """What a tracker did to the scenes."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    boxes: dict[str, MotBoxes] = field(default_factory=dict)


class Peers:
    """The trackers of one environment, in a process that answers line by line."""

    def __init__(self, folder: Path, packages: Sequence[str]) -> None:
        python = folder / "bin" / "python"
        if not python.is_file():
            say(f"installing {', '.join(packages)} into {folder}")
            venv.create(folder, with_pip=True, clear=True)
            command = [str(python), "-m", "pip", "-q", "install", *packages]
            subprocess.run(command, check=True, env=_environment())
        # ultralytics and torch lie where this script runs: neither need be installed twice
        site = Path(np.__file__).parent.parent
        with (folder / "stderr.txt").open("w") as errors:
            self._process = subprocess.Popen(
                [python, PEERS, site],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,  # not here, where `trackers` is ours
                env=_environment(),
            )

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, **job: Any) -> dict[str, Any]:
        """Return the answer to a job.

        Raises:
            DataError: The peer could not do it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "gone"}')
        if "error" in answer:
            raise DataError(f"{job}: {answer['error']}")
        return answer


def _environment() -> dict[str, str]:
    """Return the environment without what would lead foreign Pythons here; one thread each."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


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
    """Return the scenes of people who cross, at two frame rates."""
    scenes = [crossing(out, f"crowd-{seed}", seed=seed) for seed in range(100, 104)]
    return scenes + [crossing(out, f"slow-{seed}", seed=seed, fps=10.0) for seed in (104, 105)]


def recorded(recording: Recording, out: Path, min_visible: float = 0.0) -> Scene:
    """Return a scene with a det.txt."""
    found = recording.detections()
    frames = out / "frames" / f"{recording.folder.parent.name}-{recording.name}.npz"
    _save(frames, found)
    return Scene(recording.name, recording.fps, found, frames, recording, min_visible)


def _save(path: Path, found: Sequence[Detections]) -> None:
    arrays = {
        "xyxy": np.concatenate([each.xyxy for each in found]),
        "confidence": np.concatenate([each.confidence for each in found]),
        "ends": np.cumsum([0, *map(len, found)]),
    }
    features = [each.features for each in found if each.features is not None]
    if len(features) == len(found):
        arrays["features"] = np.concatenate(features)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def rendered(out: Path, people: int, duration: float) -> list[Scene]:
    """Return scenes of our generator with what the bundled detector finds in them."""
    folder = out / "rendered"
    if not folder.is_dir():
        say("rendering two cameras; that takes minutes")
        settings = ["--cameras", "2", "--layout", "overlap", "--fps", "12.5", "--seed", "11"]
        command = [sys.executable, "-m", "pipeline.cli", "synth", "video", str(folder), *settings]
        size = ["--people", str(people), "--duration", str(duration)]
        subprocess.run([*command, *size], check=True, cwd=ROOT)
    for recording in find_sequences(folder):
        if not (recording.folder / "det" / "det.txt").is_file():
            say(f"detecting people on camera {recording.name}")
            _detect(folder / f"{recording.name}.mp4", recording.folder / "det")
    return [recorded(each, out, min_visible=0.3) for each in find_sequences(folder)]


def _detect(video: Path, folder: Path) -> None:
    """Write what the bundled detector finds, without appearance."""
    from pipeline.sources.source import ReadConfig
    from pipeline.sources.video import VideoSource
    from pipeline.stages.detect import YoloConfig

    detector = YoloConfig().build()
    with VideoSource(video, video.stem, ReadConfig()) as source:
        found = [each for frame in source for each in detector.detect([frame])]
    crossing_module().write_detections(folder, found)


def without_looks(scene: Scene) -> list[Detections]:
    """Return the detections without appearance vectors."""
    return [Detections(each.xyxy, each.confidence) for each in scene.detections]


def judged(scene: Scene, boxes: MotBoxes) -> Tally:
    """Return how well a scene's people were followed."""
    assert scene.recording is not None
    truth = scene.recording.truth(scene.min_visible)
    return score(truth, boxes, num_frames=scene.recording.num_frames, fps=scene.fps)


class Bench:
    """Everybody who takes part."""

    def __init__(self, out: Path, stack: ExitStack) -> None:
        self.out = out
        self.peers = {
            name: stack.enter_context(Peers(out / f"env-{name}", packages))
            for name, packages in ENVIRONMENTS.items()
        }
        self.versions: dict[str, str] = {}
        for peers in self.peers.values():  # the first that has it is the one that is run
            self.versions = peers.ask(versions=True) | self.versions

    def run(self, scenes: Sequence[Scene], *, looks: bool) -> dict[str, Ran]:
        """Return what everybody makes of the scenes; theirs at their defaults and set as ours."""
        ran: dict[str, Ran] = {}
        for scene in scenes:
            say(f"{scene.name}, {len(scene.detections)} frames")
            for name, text in (WITH_LOOKS if looks else OURS).items():
                found = scene.detections if looks else without_looks(scene)
                run = follow(named_tracker(text)[1].build(), found, fps=scene.fps)
                path = self.out / "results" / name / f"{scene.name}.txt"
                write_boxes(path, run.boxes)
                self._add(ran, name, scene, path)
            for environment, name in self.theirs(looks=looks):
                for same in (False, True):
                    label = f"{name}, set as ours" if same else name
                    path = self.out / "results" / label / f"{scene.name}.txt"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    job = {"fps": scene.fps, "frames": str(scene.frames), "out": str(path)}
                    self.peers[environment].ask(tracker=name, same=same, **job)
                    self._add(ran, label, scene, path)
        return ran

    @staticmethod
    def theirs(*, looks: bool) -> list[tuple[str, str]]:
        """Return environment and name of every other tracker."""
        if looks:
            return [("new", LOOKS)]
        return [(environment, name) for environment, names in THEIRS.items() for name in names]

    @staticmethod
    def _add(ran: dict[str, Ran], name: str, scene: Scene, path: Path) -> None:
        one = ran.setdefault(name, Ran())
        one.boxes[scene.name] = read_boxes(path)
        if scene.recording is not None:
            one.tallies[scene.name] = judged(scene, one.boxes[scene.name])

    def agreement(self, folder: Path, ran: Mapping[str, Ran]) -> float:
        """Return the largest difference between our scores and TrackEval's, on one folder.

        Raises:
            DataError: They differ by more than rounding.
        """
        worst = 0.0
        for name, one in ran.items():
            results = str((self.out / "results" / name).resolve())
            theirs = self.peers["new"].ask(trackeval=str(folder.resolve()), results=results)
            total = totalled(one.tallies.values())
            ours = (total.hota, total.det_a, total.ass_a, total.mota, total.idf1, total.switches)
            worst = max([worst, *(abs(a - b) for a, b in zip(ours, theirs.values(), strict=True))])
        if worst > 1e-6:
            raise DataError(f"our scores and TrackEval's differ by {worst:g}: mend them first")
        return worst

    def times(self, scenes: Sequence[Scene], rounds: int) -> dict[str, list[float]]:
        """Return microseconds of processor time a frame in each scene; all take turns."""
        taken: dict[str, list[list[float]]] = {}
        for _ in range(rounds):
            for at, scene in enumerate(scenes):
                found = without_looks(scene)
                for name, text in list(OURS.items())[:4]:
                    tracker = named_tracker(text)[1].build()
                    run = follow(tracker, found, fps=scene.fps, clock=time.process_time)
                    taken.setdefault(name, [[] for _ in scenes])[at] += run.frame_s[25:].tolist()
                for environment, name in self.theirs(looks=False):
                    job = {"fps": scene.fps, "frames": str(scene.frames), "same": True}
                    answer = self.peers[environment].ask(tracker=name, **job)
                    seconds = answer["seconds"][25:]
                    taken.setdefault(name, [[] for _ in scenes])[at] += seconds
        return {name: [1e6 * float(np.median(one)) for one in each] for name, each in taken.items()}


def totalled(tallies: Iterable[Tally]) -> Tally:
    """Return one tally of several."""
    total = Tally()
    for each in tallies:
        total = total + each
    return total


def accuracy_table(ran: Mapping[str, Ran]) -> list[str]:
    """Return a table of scores, best HOTA first."""
    head = ["tracker", "HOTA", "AssA", "IDF1", "MOTA", "switches", "tracks", "purity"]
    head += ["pure 2 s", "pure 4 s", "pure 8 s", "usable s"]
    totals = {name: totalled(one.tallies.values()) for name, one in ran.items()}
    rows = []
    for name, t in sorted(totals.items(), key=lambda item: -item[1].hota):
        shares = [f"{100 * v:.1f}" for v in (t.hota, t.ass_a, t.idf1, t.mota)]
        pure = [f"{100 * v:.1f}" for v in (t.purity, *map(t.pure_share, (2.0, 4.0, 8.0)))]
        usable = f"{t.usable_s_per_person:.2f}"
        rows.append([_bold(name), *shares, f"{t.switches}", f"{t.tracks}", *pure, usable])
    return table(head, rows)


def clip() -> tuple[list[Detections], dict[str, Any]]:
    """Return what the bundled detector found in the real clip, and who is who by hand."""
    with np.load(ROOT / "tests" / "data" / "vtest-detections.npz") as data:
        found = [
            Detections(data["xyxy"][at], data["confidence"][at])
            for at in (data["frame"] == index for index in range(300))
        ]
        labels = {name: data[f"label_{name}"] for name in ("frame", "person", "xyxy")}
    return found, labels


def clip_table(ran: Mapping[str, Ran], labels: Mapping[str, Any]) -> list[str]:
    """Return a table of ids and purity on the real clip, fewest ids first."""
    head = ("tracker", "ids", "ids a person", "found", "purity", "pure 4 s", "median length")
    rows = []
    for name, one in ran.items():
        boxes = one.boxes["vtest"]
        lengths = np.unique(boxes.ids, return_counts=True)[1]
        track = _tracks_of(boxes, labels)
        people = labels["person"]
        own = {t: _commonest(people[track == t]) for t in set(track[track >= 0].tolist())}
        purity = sum(n for _, n in own.values()) / max(1, int((track >= 0).sum()))
        ids = np.mean([len(set(track[(people == p) & (track >= 0)])) for p in set(people.tolist())])
        long = _pure_share(boxes, track, people, own)
        figures = f"{ids:.2f}", f"{100 * (track >= 0).mean():.1f}", f"{100 * purity:.1f}"
        median = f"{np.median(lengths) / 10:.1f} s"
        rows.append([_bold(name), f"{len(lengths)}", *figures, f"{100 * long:.1f}", median])
    return table(head, sorted(rows, key=lambda row: int(row[1])))


def _tracks_of(boxes: MotBoxes, labels: Mapping[str, Any]) -> Any:
    """Return the track on each labelled box, -1 where there is none."""
    tracks = []
    for frame, box in zip(labels["frame"].tolist(), labels["xyxy"].astype(float), strict=True):
        rows = np.flatnonzero(boxes.frames == frame)
        overlap = iou_matrix(box[None], boxes.xyxy[rows])[0]
        is_on = len(rows) > 0 and overlap.max() >= 0.45
        tracks.append(boxes.ids[rows[overlap.argmax()]] if is_on else -1)
    return np.array(tracks)


def _pure_share(boxes: MotBoxes, track: Any, people: Any, own: Mapping[int, Any]) -> float:
    """Return the share of labelled boxes in tracks of 4 s or more on which all labels agree."""
    good = [
        t
        for t, (person, count) in own.items()
        if count == (track == t).sum() and (boxes.ids == t).sum() >= 40
    ]
    return float(np.isin(track, good).mean())


def _commonest(names: Any) -> tuple[str, int]:
    values, counts = np.unique(names, return_counts=True)
    return str(values[counts.argmax()]), int(counts.max())


def speed_table(times: Mapping[str, Sequence[float]], boxes: Sequence[float]) -> list[str]:
    """Return a table of microseconds, fastest first."""
    head = ["tracker", *(f"{n} people ({b:.0f} boxes)" for n, b in zip(PEOPLE, boxes, strict=True))]
    rows = sorted(times.items(), key=lambda item: item[1][-1])
    return table(head, [[_bold(name), *(f"{us:.0f}" for us in each)] for name, each in rows])


def _bold(name: str) -> str:
    return f"**{name}**" if name.startswith("our") else name


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def write_section(name: str, lines: Sequence[str]) -> None:
    """Replace what stands between the page's markers."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise DataError(f"{PAGE}: expected the markers of {name}")
    text = "\n".join([before + begin, *lines, "", end + after])
    write_atomically(PAGE, text.encode())


def say(text: str) -> None:
    """Print what comes next."""
    print(text, flush=True)


def main() -> None:
    """Run everybody and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "trackers")
    parser.add_argument("--rounds", type=int, default=3, help="of the speed measurement")
    parser.add_argument("--skip", nargs="*", default=[], help="sections left as they are")
    options = parser.parse_args()
    with ExitStack() as stack:
        bench = Bench(options.out, stack)
        figures = sections(bench, options)
    for name, lines in figures.items():
        write_section(name, lines)
    say(f"wrote {PAGE}")


def sections(bench: Bench, options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the tables by the name of their place on the page."""
    out, skip, others = options.out, options.skip, OtherWork()
    done: dict[str, list[str]] = {}
    if "crossing" not in skip:
        scenes = crowds(out)
        ran = bench.run(scenes, looks=False)
        worst = bench.agreement(out / "crossing", ran)
        done["crossing"] = accuracy_table(ran)
        done["agreement"] = [
            f"{len(ran)} results on these scenes: the largest difference between our figures and "
            f"TrackEval's {bench.versions.get('trackeval')} is {worst:.0e}."
        ]
    if "looks" not in skip:
        done["looks"] = accuracy_table(bench.run(crowds(out), looks=True))
    if "rendered" not in skip:
        done["rendered"] = accuracy_table(bench.run(rendered(out, 24, 60), looks=False))
    if "clip" not in skip:
        found, labels = clip()
        path = out / "frames" / "vtest.npz"
        _save(path, found)
        done["clip"] = clip_table(
            bench.run([Scene("vtest", 10.0, found, path)], looks=False), labels
        )
    if "speed" not in skip:
        scenes = [
            crossing(out / "speed", f"people-{n}", people=n, frames=150, seed=7) for n in PEOPLE
        ]
        boxes = [float(np.mean([len(d) for d in scene.detections])) for scene in scenes]
        done["speed"] = speed_table(bench.times(scenes, options.rounds), boxes)
    peers = ", ".join(f"{name} {version}" for name, version in bench.versions.items())
    done["head"] = [
        f"* When: {datetime.now(UTC):%Y-%m-%d}",
        f"* Machine: {describe_machine(packages=PACKAGES, root=ROOT)}",
        f"* Others: {peers}",
        *(f"* {warning[0].upper()}{warning[1:]}" for warning in others.warnings()),
    ]
    return done


if __name__ == "__main__":
    main()
