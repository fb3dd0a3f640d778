"""Give perception and identity ten times what they can take: `python scripts/overload.py`.

Perception, the overload policy, the queue, identity, the gallery and the book of sightings are the
real ones; cameras, detector, segmenter and encoder are of known speed. Then it grows calm, and
everything must come back. What is promised and was not kept is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import psutil
from numpy.typing import NDArray

from gait.tracklet import Tracklet
from pipeline.config import PipelineConfig
from pipeline.identity import Identity
from pipeline.latency import Latencies
from pipeline.live.overload import Level, OverloadConfig, OverloadPolicy, Step
from pipeline.perception import Perception
from pipeline.telemetry import Telemetry
from pipeline.transport.superseding import QueueCounts, SupersedingQueue
from pipeline.values import Batch, Embedding, Frame, Match
from trackers.boxes import Detections, Mask, Tracks

_IMAGE = np.zeros((120, 320, 3), np.uint8)
_BOXES = np.array([(20 + 100 * n, 20, 52 + 100 * n, 100) for n in range(3)], np.float32)
_STAY_S, _AWAY_S = 5.0, 4.0  # longer away than a tracker waits
_AGE_S = 0.5  # promised, plus one frame interval


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent and what can be taken.

    Attributes:
        seconds: How long it is too much.
        calm_s: How long it may take to be whole again, afterwards.
        cameras: How many there are.
        fps: Of each.
        times: How much more is sent than perception and identity can take.
        capacity: Of the queue between them.
        window: Silhouettes in a tracklet.
        policy: When something gives way.
    """

    seconds: float = 600.0
    calm_s: float = 120.0
    cameras: int = 4
    fps: float = 25.0
    times: float = 10.0
    capacity: int = 256
    window: int = 10
    policy: OverloadConfig = field(default_factory=OverloadConfig)


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        ages: Seconds from capture to the end of perception, while it was too much.
        rss_mb: Memory of the process, twice a second while it was too much.
        depths: Tracklets in the queue, likewise.
        most_over: By how many these were above its capacity and above the ends among them.
        ends: Tracks that ended in perception.
        sightings: Tracks of which identity told.
        counts: Of the queue.
        highest: The furthest the policy went.
        last: Where it was at the end.
        strides: Of the cameras at the end.
        steps: Up and down.
    """

    ages: Latencies = field(default_factory=Latencies)
    rss_mb: list[float] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    most_over: int = 0
    ends: int = 0
    sightings: int = 0
    counts: QueueCounts = field(default_factory=QueueCounts)
    highest: Level = Level.CALM
    last: Level = Level.CALM
    strides: dict[str, int] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def broken(self, load: Load, *, growth_mb: float) -> list[str]:
        """Return what was promised and not kept, a line each."""
        age_s, allowed_s = self.ages.histogram("age").percentile(99), _AGE_S + 1 / load.fps
        third = max(1, len(self.rss_mb) // 3)
        grown_mb = max(self.rss_mb[-third:]) - max(self.rss_mb[third : 2 * third])
        waiting = self.counts.put - self.counts.got
        gone = self.counts.superseded + self.counts.dropped + self.counts.merged
        promises = {
            f"age p99 {age_s:.2f} s, promised {allowed_s:.2f} s": age_s <= allowed_s,
            f"memory grew by {grown_mb:.1f} MB": grown_mb <= growth_mb,
            f"{max(self.depths)} waited, room for {load.capacity}": self.most_over <= 0,
            f"{self.ends} tracks ended, told of {self.sightings}": self.ends == self.sightings > 0,
            f"counts do not add up: {self.counts}": waiting == gone,
            "the queue was never full": gone > 0,
            f"it only came to {self.highest}": self.highest is not Level.CALM,
            f"it is not calm again: {self.last}, {self.strides}": self.last is Level.CALM
            and set(self.strides.values()) == {1},
        }
        return [words for words, is_kept in promises.items() if not is_kept]


class _Machine:
    """The cameras, the slow stages, and the witness of both halves."""

    description, model_hash = "of known speed", "known"

    def __init__(self, load: Load, outcome: Outcome) -> None:
        self._load = load
        self.outcome = outcome
        self._begun_s = time.monotonic()
        self.policy = OverloadPolicy(load.policy, self)
        self.embeddings = np.random.default_rng(0).random((3, 256, 16), np.float32)

    @property
    def is_calm(self) -> bool:
        return time.monotonic() - self._begun_s >= self._load.seconds

    def idle(self, seconds: float) -> None:
        """Let time pass, but not when it has become calm."""
        until_s = time.monotonic() + seconds
        while not self.is_calm and time.monotonic() < until_s:
            time.sleep(min(0.05, seconds))

    def batches(self) -> Iterator[Batch]:
        """Yield the newest frame of every camera, as `Cameras` does."""
        load = self._load
        names = [f"camera {n}" for n in range(load.cameras)]
        last = -1
        while (now_s := time.monotonic() - self._begun_s) < load.seconds + load.calm_s:
            if self.is_calm and self.policy.level is Level.CALM:
                break
            index = int(now_s * load.fps)
            if index == last:
                time.sleep(0.002)
                continue
            last, time_s = index, index / load.fps
            captured_s = self._begun_s + time_s
            yield Batch([Frame(_IMAGE, n, index, time_s, 0, captured_s) for n in names])
        yield Batch((), names)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        wanted_fps = self._load.cameras * self._load.fps
        time.sleep(len(frames) / wanted_fps * (0.5 if self.is_calm else self._load.times))
        return [self._people(frame) for frame in frames]

    def segment(
        self, frames: Sequence[Frame], tracks: Sequence[Tracks]
    ) -> list[tuple[Mask | None, ...]]:
        mask = np.ones((80, 32), dtype=np.bool_)
        return [tuple(Mask(mask, round(float(b[0])), 20) for b in t.xyxy) for t in tracks]

    def encode(self, tracklets: Sequence[Tracklet]) -> list[NDArray[np.float32]]:
        # a window every 30 frames of everybody, were all frames looked at
        most = 3 * self._load.cameras * self._load.fps / 30 * _STAY_S / (_STAY_S + _AWAY_S)
        self.idle(len(tracklets) / most * self._load.times)
        return [self.embeddings[tracklet.track_id % 3] for tracklet in tracklets]

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Note the age of a frame."""
        if not self.is_calm and frame.captured_s is not None:
            self.outcome.ages.observe("age", time.monotonic() - frame.captured_s)

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Nothing."""

    def reached(self, level: Level, before: Level, reason: str) -> None:
        self.outcome.highest = max(self.outcome.highest, level, key=list(Level).index)

    def stepped(self, step: Step) -> None:
        self.outcome.steps.append(step)

    def close(self) -> None:
        pass

    def _people(self, frame: Frame) -> Detections:
        turn_s = _STAY_S + _AWAY_S
        there = [(frame.time_s + turn_s * n / 3) % turn_s < _STAY_S for n in range(len(_BOXES))]
        return Detections(_BOXES[there], np.full(sum(there), 0.9, np.float32))


def run(load: Load) -> Outcome:
    """Send too much, then little, and return what came of it."""
    outcome = Outcome()
    assembler = {"window": load.window, "stride": load.window, "min_length": 2}
    limits = {"max_area_ratio": 1e6, "min_aspect": 0.0, "max_aspect": 9.0}
    config = PipelineConfig.model_validate(
        {
            "runtime": {"ahead": 0},
            "assembler": {**assembler, "max_gap_s": 2.0, "limits": limits},
            "gallery": {"threshold": 1.0},
        }
    )
    telemetry = Telemetry()
    with Perception(config, telemetry) as perception, Identity(config, telemetry) as identity:
        machine = _Machine(load, outcome)
        perception.detector = perception.segmenter = machine  # type: ignore[assignment]
        identity.encoder = machine  # type: ignore[assignment]
        queue = SupersedingQueue(load.capacity)
        naming = threading.Thread(target=_identify, args=(identity, queue, machine))
        naming.start()
        try:
            _perceive(perception, queue, machine)
        finally:
            queue.close()
            naming.join()
    outcome.counts, outcome.last = queue.counts, machine.policy.level
    outcome.strides = dict(machine.policy.strides)
    return outcome


def _perceive(
    perception: Perception,
    queue: SupersedingQueue,
    machine: _Machine,
) -> None:
    outcome, policy = machine.outcome, machine.policy
    process, measured_s = psutil.Process(), 0.0
    for batch in machine.batches():
        frames = policy.choose(batch.frames)
        with ExitStack() as threads:
            chosen = Batch(frames, batch.ended)
            for tracklets in perception.tracklets([chosen], machine, threads):
                queue.put(tracklets)
                outcome.ends += sum(tracklet.is_last for tracklet in tracklets)
        for frame in frames:
            policy.processed(frame, time.monotonic() - (frame.captured_s or 0.0))
        if not machine.is_calm and time.monotonic() - measured_s >= 0.5:
            measured_s = time.monotonic()
            outcome.rss_mb.append(process.memory_info().rss / 1e6)
            outcome.depths.append(queue.depth)
            room = max(queue.capacity, outcome.ends - outcome.sightings)
            outcome.most_over = max(outcome.most_over, outcome.depths[-1] - room)


def _identify(identity: Identity, queue: SupersedingQueue, machine: _Machine) -> None:
    while not queue.is_over:
        if tracklets := queue.get(timeout_s=1.0):
            began_s = time.monotonic()
            machine.outcome.sightings += len(identity.identify(tracklets, machine))
            machine.idle(machine.policy.identity_rest_s(time.monotonic() - began_s))


def main() -> int:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long it is too much")
    parser.add_argument("--calm", type=float, default=120.0, help="how long it may take to recover")
    parser.add_argument("--times", type=float, default=10.0, help="how much too much it is")
    parser.add_argument("--cameras", type=int, default=4)
    chosen = parser.parse_args()
    load = Load(
        seconds=chosen.seconds, calm_s=chosen.calm, times=chosen.times, cameras=chosen.cameras
    )
    outcome = run(load)
    ages = outcome.ages.histogram("age")
    print(f"frames processed   {ages.count}")
    print("age p50, p95, p99  {:.2f} {:.2f} {:.2f} s".format(*ages.percentiles()))
    print(f"memory             {outcome.rss_mb[0]:.0f} to {outcome.rss_mb[-1]:.0f} MB")
    print(f"queue              at most {max(outcome.depths)} of {load.capacity}; {outcome.counts}")
    print(f"tracks             {outcome.ends} ended, told of {outcome.sightings}")
    print(f"overload           {outcome.highest}, {len(outcome.steps)} steps, then {outcome.last}")
    broken = outcome.broken(load, growth_mb=0.01 * outcome.rss_mb[0])
    print("\n".join(broken) or "everything kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
