"""How many cameras can one process follow? Rewrites docs/benchmarks-live.md: `make bench-live`.

A real RTSP server on loopback sends the clip of pedestrians at 10 frames a second to more and more
cameras. Everybody who is compared reads the same streams, one after the other at every number of
cameras, each in a process of its own, until they cannot hold it any more. Needs the system's Python
with GStreamer (docs/reliability.md); Ultralytics' `track` needs `pip install lap` besides.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gait.runtimes.machine import OtherWork, cores, describe_machine  # noqa: E402
from tests.servers.numbered import SentLog, stamp  # noqa: E402
from tests.servers.rtsp_process import FPS, RtspServer, missing  # noqa: E402
from tests.servers.soak import real_units  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks-live.md"
CONTENDERS = ROOT / "scripts" / "live_contenders.py"
PACKAGES = ["onnxruntime", "torch", "av", "numpy", "ultralytics-opencv-headless", "lap"]
COUNTS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
LATE_S, LEAST_SHARE = 0.2, 0.95
_START_S = 120.0  # models load, cameras connect


@dataclass(frozen=True)
class Entry:
    """One who is compared.

    Attributes:
        name: For the tables.
        arguments: Of `live_contenders.py`.
    """

    name: str
    arguments: tuple[str, ...]


OURS = Entry("trackletgait", ("trackletgait",))
THEIRS = Entry("ultralytics, same model", ("ultralytics",))
YARDSTICK = Entry(
    "ultralytics, yolo11n 640", ("ultralytics", "--model", "yolo11n.yaml", "--imgsz", "640")
)


@dataclass(frozen=True)
class Result:
    """What one contender did with so many cameras.

    Attributes:
        name: Whose.
        cameras: How many.
        sent: Pictures the server sent in the span that counts.
        tracked: Of these, how many got tracks.
        track_s: p50, p95 and p99 from the server's sending a picture to its tracks.
        done_s: The same to the end of all work on it; empty where tracks are all there is.
        sighting_s: The same to the sighting, by the cameras' clocks; empty where there are none.
        stages_ms: Mean time in each step, a picture; empty where it is not known.
        people: Mean number of tracks in a picture.
        cores: Processor time over time, of the contender.
        server_cores: The same of the server.
        rss_mb: Of the contender.
        description: What ran.
        problem: Why there are no figures; empty where there are.
    """

    name: str
    cameras: int
    sent: int = 0
    tracked: int = 0
    track_s: tuple[float, ...] = ()
    done_s: tuple[float, ...] = ()
    sighting_s: tuple[float, ...] = ()
    stages_ms: dict[str, float] = field(default_factory=dict)
    people: float = 0.0
    cores: float = 0.0
    server_cores: float = 0.0
    rss_mb: float = 0.0
    description: str = ""
    problem: str = ""

    @property
    def share(self) -> float:
        """Of the pictures sent, how many got tracks."""
        return self.tracked / self.sent if self.sent else 0.0

    @property
    def holds_tracks(self) -> bool:
        """Whether tracks came in time, of nearly all pictures."""
        return self._holds(self.track_s)

    @property
    def holds_all(self) -> bool:
        """Whether all work was done in time, of nearly all pictures."""
        return self._holds(self.done_s or self.track_s)

    def _holds(self, seconds: Sequence[float]) -> bool:
        return self.share >= LEAST_SHARE and bool(seconds) and seconds[1] <= LATE_S


def result_of(entry: Entry, cameras: int, seen: dict[str, Any], log: SentLog) -> Result:
    """Join what a contender saw with what the server sent."""
    began_s, ended_s = seen["began_s"], seen["ended_s"]

    def ages(kind: str) -> list[float]:
        arrivals = [arrival for arrival in seen[kind] if began_s <= arrival[2] <= ended_s]
        return [log.age_s(*arrival) for arrival in arrivals]

    tracked, done = ages("tracked"), ages("done")
    return Result(
        entry.name,
        cameras,
        sent=log.num_sent(began_s, ended_s),
        tracked=len(tracked),
        track_s=percentiles(tracked),
        done_s=percentiles(done),
        sighting_s=tuple(seen["sighting_s"]),
        stages_ms=seen["stages_ms"],
        people=seen["people"],
        cores=seen["cores"],
        rss_mb=seen["rss_mb"],
        description=seen["description"],
    )


def percentiles(seconds: Sequence[float]) -> tuple[float, ...]:
    """Return p50, p95 and p99; nothing of nothing."""
    return tuple(float(p) for p in np.percentile(seconds, (50, 95, 99))) if seconds else ()


@contextmanager
def served(units: Path, cameras: int, folder: Path) -> Iterator[tuple[RtspServer, list[str], Path]]:
    """Serve so many cameras while the block runs; yield the server, addresses and its log."""
    log = folder / f"sent-{time.monotonic_ns()}.log"
    names = tuple(f"cam{number}" for number in range(cameras))
    server = RtspServer(units, names, log=log)
    try:
        yield server, [server.url(name) for name in names], log
    finally:
        server.kill()


def measure(entry: Entry, cameras: int, options: argparse.Namespace, folder: Path) -> Result:
    """Let one contender follow so many cameras."""
    units = real_units(folder / "real.units", mark=stamp)
    command = [sys.executable, str(CONTENDERS), *entry.arguments]
    command += ["--seconds", str(options.seconds), "--warm-up", str(options.warm_up)]
    # One's own idea of how many threads to use, whatever the shell says.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    with served(units, cameras, folder) as (server, urls, log):
        cpu, began_s = psutil.Process(server.pid).cpu_times(), time.monotonic()
        try:
            done = subprocess.run(
                [*command, *urls],
                capture_output=True,
                text=True,
                env=environment,
                cwd=folder,
                timeout=_START_S + options.warm_up + options.seconds,
            )
        except subprocess.TimeoutExpired:
            return Result(entry.name, cameras, problem="gave no result in time")
        now = psutil.Process(server.pid).cpu_times()
        used_s = now.user + now.system - cpu.user - cpu.system
        if done.returncode or not done.stdout.strip():
            problem = (done.stderr.strip().splitlines() or ["said nothing"])[-1]
            return Result(entry.name, cameras, problem=problem)
        seen = json.loads(done.stdout.splitlines()[-1])
        result = result_of(entry, cameras, seen, SentLog(log))
    server_cores = used_s / (time.monotonic() - began_s)
    return dataclasses.replace(result, server_cores=server_cores)


def compete(
    entries: Sequence[Entry], options: argparse.Namespace, folder: Path
) -> Iterator[Result]:
    """Let all take turns at every number of cameras, until each has failed."""
    going = list(entries)
    for cameras in options.cameras:
        for entry in list(going):
            result = measure(entry, cameras, options, folder)
            say(f"{cameras:2} {entry.name}: {result.problem or line(result)}")
            yield result
            if not (result.holds_all or result.holds_tracks):
                going.remove(entry)


def line(result: Result) -> str:
    """Return a result for the terminal."""
    return (
        f"{result.tracked} of {result.sent}, to track {shown(result.track_s)}, "
        f"to the end {shown(result.done_s) or '-'}, {result.cores:.2f} cores"
    )


def shown(seconds: Sequence[float]) -> str:
    """Return percentiles in milliseconds."""
    return " / ".join(f"{1000 * each:.0f}" if each == each else "-" for each in seconds)


def most(results: Iterable[Result], name: str, kind: str) -> int:
    """Return the most cameras one held, all smaller numbers included; 0 for none."""
    held = 0
    for result in results:
        if result.name == name:
            if not getattr(result, kind):
                break
            held = result.cameras
    return held


STAGES = ("detect", "appearance", "track", "segment", "assemble", "record", "encode", "match")
COLUMNS = (
    *("cameras", "who", "sent", "tracked", "to track ms", "to the end ms", "to sighting ms"),
    *("people", "cores", "server", "MB", "holds"),
)


def cells(result: Result) -> tuple[str, ...]:
    """Return a row of the table."""
    if result.problem:
        empty = ("",) * (len(COLUMNS) - 3)
        return (str(result.cameras), result.name, *empty, result.problem.replace("|", "/"))
    holds = "yes" if result.holds_all else "tracks only" if result.holds_tracks else "no"
    return (
        str(result.cameras),
        result.name,
        str(result.sent),
        f"{result.tracked} ({100 * result.share:.0f} %)",
        shown(result.track_s),
        shown(result.done_s),
        shown(result.sighting_s),
        f"{result.people:.1f}",
        f"{result.cores:.2f}",
        f"{result.server_cores:.2f}",
        f"{result.rss_mb:.0f}",
        holds,
    )


def page(results: Sequence[Result], options: argparse.Namespace, busy: Sequence[str]) -> str:
    """Return docs/benchmarks-live.md."""
    names = list(dict.fromkeys(result.name for result in results))
    what = {result.name: result.description for result in results if result.description}
    lines = [
        "# Benchmarks of live cameras",
        "",
        f"Written by `{options.command}`; do not edit by hand.",
        "",
        f"* When: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"* Machine: {describe_machine(packages=PACKAGES, root=ROOT)}",
        *(f"* **{warning}.**" for warning in busy),
        f"* Each follows for {options.seconds:g} s after {options.warm_up:g} s that do not count, "
        f"in a process of its own; at every number of cameras they take turns",
        *(f"* {name}: {what[name]}" for name in names if name in what),
        "",
        HOW,
        "",
        *(
            f"* **{name}** holds {most(results, name, 'holds_all')} cameras"
            + (
                f" with all its work in time, and {most(results, name, 'holds_tracks')} as far as "
                "the tracks"
                if any(r.done_s for r in results if r.name == name)
                else " (boxes and ids; there is no more work)"
            )
            for name in names
        ),
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(f"| {' | '.join(cells(result))} |" for result in results),
        "",
        *stages(results),
    ]
    return "\n".join(lines)


def stages(results: Sequence[Result]) -> list[str]:
    """Return the page's part about where the time goes."""
    known = [result for result in results if result.stages_ms]
    names = [name for name in STAGES if any(name in result.stages_ms for result in known)]
    return [
        "## Where the time of a picture goes",
        "",
        "Milliseconds of the clock in each step of perception, and of identity in its own thread, "
        "per picture. Perception's steps come one after the other; what is left of the interval is "
        "waiting.",
        "",
        f"| cameras | who | {' | '.join(names)} |",
        "|---" * (2 + len(names)) + "|",
        *(
            f"| {result.cameras} | {result.name} | "
            + " | ".join(f"{result.stages_ms.get(name, 0):.1f}" for name in names)
            + " |"
            for result in known
        ),
        "",
    ]


HOW = f"""A camera is held when p95 is at most {1000 * LATE_S:.0f} ms and at least \
{100 * LEAST_SHARE:.0f} % of its pictures get tracks. The clip (768x576, {FPS} frames/s, about \
four people at a time) carries a number in a corner of every picture, and the server logs when it \
sends each: latency is from there to the moment at which the tracks of that very picture are known \
("to track"), or at which also its masks and tracklets are ("to the end", only ours has them), \
p50 / p95 / p99, measured alike for everybody. One frame interval ({1000 // FPS} ms) of it is \
FFmpeg's H.264 parser, which keeps a picture back until the next one begins, for everybody too. \
"to sighting" is to the end of identity's work on a tracklet, by the cameras' clocks, of the last \
minute. The cameras are out of step, as cameras are: each begins elsewhere in the clip and within \
the interval. The server shares the cores with whom it serves; "server" is what it takes of them \
(start and end included). Nothing is pinned to a core.

Ours does more: it looks at two halves of each picture (for smaller people), cuts everybody out, \
and recognises them. "same model" is the bundled SSDLite by Ultralytics, which looks at the whole \
picture once and stops at boxes and ids. No weights of YOLO are at hand here: "yolo11n 640" has \
random ones, which cost the same time in the network and find nobody, so that nothing comes after \
it."""


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--warm-up", type=float, default=5.0)
    parser.add_argument("--yardstick", action="store_true", help="yolo11n 640, random weights, too")
    parser.add_argument(
        "--variant", action="append", default=[], help="NAME=JSON of a live run's configuration"
    )
    parser.add_argument("--write", type=Path, default=PAGE)
    options = parser.parse_args()
    options.command = shlex.join(["python", "scripts/bench_live.py", *sys.argv[1:]])
    return options


def entries_of(options: argparse.Namespace) -> list[Entry]:
    """Return who is compared."""
    variants = [text.partition("=") for text in options.variant]
    others = [
        Entry(f"trackletgait, {name}", ("trackletgait", "--config", config))
        for name, _, config in variants
    ]
    return [OURS, *others, THEIRS, *([YARDSTICK] if options.yardstick else [])]


def main() -> None:
    """Measure and write the page and, beside it, JSON."""
    options = parse()
    if lacking := missing():
        sys.exit(f"bench_live: {lacking}")
    say(f"{cores()} cores")
    others, results = OtherWork(), list[Result]()
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        for result in compete(entries_of(options), options, Path(folder)):
            results.append(result)
            write(results, options, others.warnings())  # an interrupted run has its figures too
    say(f"wrote {options.write}")


def write(results: Sequence[Result], options: argparse.Namespace, busy: Sequence[str]) -> None:
    """Write what is known so far."""
    options.write.write_text(page(results, options, busy), encoding="utf-8")
    data = {
        "machine": describe_machine(packages=PACKAGES, root=ROOT),
        "command": options.command,
        "busy": busy,
        "results": [dataclasses.asdict(result) for result in results],
    }
    options.write.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")


def say(text: str) -> None:
    """Print what comes next."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
