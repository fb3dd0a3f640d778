"""A whole live run over four cameras that loop a real clip, with faults drawn by lot."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
from numpy.typing import NDArray

from pipeline.latency import Latencies
from pipeline.live.config import LiveConfig
from pipeline.live.overload import Level
from pipeline.live.run import LiveRun
from pipeline.live.status import TO_SIGHTING, TO_TRACK
from pipeline.sinks.live import Event
from pipeline.sources.inputs import sample_path
from pipeline.values import Batch
from tests.servers.chaos import Effort, rtsp_server
from tests.servers.rtsp_process import WHOLE, RtspServer
from tests.servers.soak_growth import Ledger
from tests.servers.watch import Row, all_live, wait_for

NUM_CAMERAS = 4
FPS = 5  # so that the models, which four cameras share, need less than one core
CORNER, SIZE = (320, 0), (320, 240)  # of the clip: two people at a time, most of the time
FAULTS = ("killed", "frozen", "sends nothing", "garbage", "no key frames")
_ROUND_S = 30.0  # of faults, before all must be well and one looks
_BACK_S = 45.0  # a wait between attempts, and connecting


class Tally:
    """Counts what a run tells, and how old frames are when perception gets them."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.levels: set[str] = {Level.CALM.value}
        self.ages = Latencies()

    def write(self, events: Sequence[Event]) -> None:
        """Count events; nothing is kept."""
        for event in events:
            self.events[str(event.content.get("event", event.kind))] += 1
            if event.kind == "overload" and "level" in event.content:
                self.levels.add(str(event.content["level"]))

    def close(self) -> None:
        """Nothing."""

    def batches(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches on and note how old their frames are."""
        for batch in batches:
            now_s = time.time()
            for frame in batch.frames:
                self.ages.observe("age", now_s - (frame.captured_s or now_s))
            yield batch


class Soak:
    """The run, its servers, and what is done to them.

    Args:
        folder: For what the run writes and the clip.
        stack: Ends everything.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._rng = random.Random(60)
        self.names = [f"cam{n}" for n in range(NUM_CAMERAS)]
        self.done: Counter[str] = Counter()
        units = real_units(folder / "real.units", fps=FPS, corner=CORNER, size=SIZE)
        self._servers = {
            name: stack.enter_context(rtsp_server(units, name, fps=FPS)) for name in self.names
        }
        self.tally, self.ledger = Tally(), Ledger()
        urls = {name: server.url(name) for name, server in self._servers.items()}
        self.run = stack.enter_context(live_run(_config(urls), folder / "live", self.tally))
        assert self.run.perceiving is not None
        self.cameras = self.run.perceiving.cameras

    def is_well(self) -> bool:
        """Wait until all cameras are live; return whether they came to be."""
        is_live = wait_for(all_live(self.cameras, self.names), _BACK_S)
        time.sleep(2)
        return is_live

    def harm(self, seconds: float, longest_s: float) -> None:
        """Do one fault after another to one camera after another."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            name, fault = self._rng.choice(self.names), self._rng.choice(FAULTS)
            _harm(self._servers[name], name, fault, self._rng.uniform(0.5, longest_s))
            self.done[fault] += 1
            time.sleep(self._rng.uniform(0.5, 4.0))


def soak(effort: Effort, folder: Path) -> Row:
    """Do faults for so long, round by round, and see after each round what is held."""
    cpu, began_s = psutil.Process().cpu_times(), time.monotonic()
    with ExitStack() as stack:
        soak = Soak(folder, stack)
        is_ok = soak.is_well()
        while time.monotonic() < began_s + effort.soak_s:
            soak.harm(min(_ROUND_S, effort.soak_s / 16), min(8.0, effort.soak_s / 8))
            is_ok &= soak.is_well()
            soak.ledger.look()
        passed_s = time.monotonic() - began_s
        now = psutil.Process().cpu_times()
        status, shown = soak.run.status(), _shown(soak, passed_s)
    cores = (now.user + now.system - cpu.user - cpu.system) / passed_s
    age_s = soak.tally.ages.histogram("age").percentile(99)
    is_ok &= not any(status.failures.values()) and age_s <= 0.5 + 1 / FPS
    return Row(
        f"soak: {passed_s / 60:.1f} minutes, {NUM_CAMERAS} cameras looping the real clip "
        f"({SIZE[0]}x{SIZE[1]}, {FPS} fps) through a whole live run, {soak.done.total()} faults",
        "all live after every round of faults; staleness p99 <= 0.5 s + one frame interval; "
        "nothing grows (+1 %, 95 % confidence)",
        f"{shown}; {cores:.2f} cores used",
        is_ok and soak.ledger.is_flat(),
    )


def _shown(soak: Soak, passed_s: float) -> str:
    counts = [camera.counts for camera in soak.cameras.by_name.values()]
    fps = [count.taken / passed_s for count in counts]
    latencies = soak.run.latencies
    sightings = soak.tally.events
    return "; ".join(
        [
            f"{min(fps):.1f} to {max(fps):.1f} frames/s a camera, outages counted",
            f"{sum(c.dropped for c in counts)} of {sum(c.decoded for c in counts)} frames dropped",
            f"staleness {_percentiles(soak.tally.ages, 'age')}",
            f"{TO_TRACK} {_percentiles(latencies, TO_TRACK)}",
            f"{TO_SIGHTING} {_percentiles(latencies, TO_SIGHTING)}",
            f"sightings: {sightings['seen']} seen, {sightings['ended']} ended",
            f"overload: {', '.join(sorted(soak.tally.levels))}",
            str(soak.ledger),
            ", ".join(f"{count} {fault}" for fault, count in sorted(soak.done.items())),
        ]
    )


def _percentiles(latencies: Latencies, stage: str) -> str:
    p50_s, p95_s, p99_s = latencies.histogram(stage).percentiles()
    return f"p50 {p50_s:.3f}, p95 {p95_s:.3f}, p99 {p99_s:.3f} s"


def _config(urls: dict[str, str]) -> LiveConfig:
    pipeline = {
        "detector": {"kind": "yolo", "tiles": 1},  # the pictures are small
        "assembler": {"window": 12, "stride": 12, "min_length": 8},  # and few a second
    }
    return LiveConfig.model_validate(
        {"cameras": {name: {"url": url} for name, url in urls.items()}, "pipeline": pipeline}
    )


@contextmanager
def live_run(config: LiveConfig, out: Path, tally: Tally) -> Iterator[LiveRun]:
    """Run live cameras in a thread while the block runs; what went wrong is raised at its end."""
    problems: list[Exception] = []
    with LiveRun(config, out=out, sinks={"tally": tally}) as run:
        assert run.perceiving is not None
        cameras = run.perceiving.cameras
        batches = cameras.batches
        cameras.batches = lambda: tally.batches(batches())  # type: ignore[method-assign]
        thread = threading.Thread(target=_run, args=(run.run, problems))
        thread.start()
        try:
            yield run
        finally:
            run.stop()
            thread.join(30)
    if problems:
        raise problems[0]


def _run(work: Callable[[], None], problems: list[Exception]) -> None:
    try:
        work()
    except Exception as error:  # raised by whoever started the thread
        problems.append(error)


def _harm(server: RtspServer, path: str, fault: str, seconds: float) -> None:
    if fault == "killed":
        server.kill()
        time.sleep(seconds)
        server.start()
    elif fault == "frozen":
        server.freeze()
        time.sleep(seconds)
        server.thaw()
    elif fault == "sends nothing":
        server.tell(f"pause {path}")
        time.sleep(seconds)
        server.tell(f"resume {path}")
    elif fault == "garbage":
        server.tell(f"garbage {path} {max(1, round(seconds * FPS))}")
    else:
        server.tell(f"no-key {path} {seconds}")


def real_units(
    path: Path,
    *,
    fps: int = 10,
    corner: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
    mark: Callable[[NDArray[np.uint8], int], None] = lambda image, number: None,
) -> Path:
    """Encode the clip of pedestrians that ships, at its own pace, as the server wants it, once.

    Args:
        path: Where to.
        fps: A divisor of the clip's own 10; others would walk at a wrong pace.
        corner: Left and top of the piece that is sent.
        size: Its width and height; None is all.
        mark: May change each picture, knowing its place in the clip.
    """
    if path.exists():
        return path
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    packets = []
    with av.open(str(sample_path()), "r") as container:
        stream = container.streams.video[0]
        width, height = size or (stream.width, stream.height)
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.time_base, codec.framerate = Fraction(1, fps), Fraction(fps)
        codec.gop_size, codec.max_b_frames = fps, 0
        codec.options = {"preset": "ultrafast"} | WHOLE
        for index, frame in enumerate(container.decode(stream)):
            if index % (10 // fps):
                continue
            image = frame.to_ndarray(format="rgb24")
            piece = np.ascontiguousarray(image[corner[1] :, corner[0] :][:height, :width], np.uint8)
            mark(piece, index // (10 // fps))
            picture = av.VideoFrame.from_ndarray(piece, format="rgb24").reformat(format="yuv420p")
            picture.pts = index // (10 // fps)
            packets += codec.encode(picture)
    packets += codec.encode(None)
    path.write_bytes(b"".join(struct.pack(">I", len(bytes(p))) + bytes(p) for p in packets))
    return path
