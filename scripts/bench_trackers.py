"""Run our trackers beside other people's on the same detections: `make bench-trackers`.

Rewrites the tables of docs/trackers-evaluated.md. The others live in environments of their own
under results/trackers, which the first run makes (300 MB); results go there too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
import venv
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tracker_scenes import Scene, clip, crossing, crowds, judged, rendered, say, without_looks
from tracker_tables import (
    Ran,
    accuracy_table,
    clip_table,
    speed_table,
    totalled,
    write_section,
)

from gait.errors import DataError
from gait.runtimes.machine import OtherWork, describe_machine
from pipeline.evaluation.tracking import follow, named_tracker
from pipeline.evaluation.tracking_folder import read_boxes, write_boxes

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
_SURE = "high_confidence=0.5,new_confidence=0.6,min_overlap=0.2"
OURS = {
    "our SORT": "sort",
    "our ByteTrack": "bytetrack",
    "our OC-SORT": "ocsort",
    "our BoT-SORT": "botsort",
    "our SORT, as in the paper": f"sort,{_PAPER},min_confidence=0.5",
    "our ByteTrack, as in the paper": f"bytetrack,{_PAPER},{_SURE}",
    "our OC-SORT, as in the paper": f"ocsort,{_PAPER},min_confidence=0.5,min_recovery_overlap=0.3",
    "our BoT-SORT, as in the paper": f"botsort,{_PAPER},{_SURE}",
}
WITH_LOOKS = {
    "our BoT-SORT with looks": "botsort",
    "our BoT-SORT with looks up to 0.3": "botsort,max_looks_distance=0.3",
    "our DeepSORT": "deepsort",
    "our DeepSORT with looks up to 0.4": "deepsort,max_cosine_distance=0.4",
}
PEOPLE = (10, 50, 200)
PACKAGES = ("numpy", "scipy")


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
        with suppress(BrokenPipeError):  # it is gone already
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
        with suppress(BrokenPipeError):  # then it says nothing more either
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
        write_section(PAGE, name, lines)
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
    for name, seed, duration in (("unseen", 31, 40), ("rendered", 11, 60)):
        if name not in skip:
            scenes = rendered(out / name, seed=seed, duration=duration)
            done[name] = accuracy_table(bench.run(scenes, looks=False))
            done[f"{name}-looks"] = accuracy_table(bench.run(scenes, looks=True))
    if "clip" not in skip:
        scene, labels = clip(out)
        done["clip"] = clip_table(bench.run([scene], looks=False), labels)
    if "speed" not in skip:
        scenes = [
            crossing(out / "speed", f"people-{n}", people=n, frames=150, seed=7) for n in PEOPLE
        ]
        boxes = [float(np.mean([len(d) for d in scene.detections])) for scene in scenes]
        done["speed"] = speed_table(bench.times(scenes, options.rounds), PEOPLE, boxes)
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
