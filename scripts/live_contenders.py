"""What `bench_live.py` measures, each in a process of its own.

    python scripts/live_contenders.py trackletgait --seconds 20 URL URL

Reads the streams, follows the people in them, and prints one line of JSON: when each picture had
its tracks (and, where there is more to do, when all was done), processor time and memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.live.config import LiveConfig  # noqa: E402
from pipeline.live.perceiving import Perceiving  # noqa: E402
from pipeline.live.run import LiveRun  # noqa: E402
from pipeline.live.status import TO_SIGHTING  # noqa: E402
from pipeline.stages.torchvision_shim import ensure_torchvision  # noqa: E402
from pipeline.telemetry import StageTime  # noqa: E402
from pipeline.values import Batch, Frame  # noqa: E402
from pipeline.weights import resolve  # noqa: E402
from tests.servers.numbered import read  # noqa: E402
from tests.servers.watch import all_live, wait_for  # noqa: E402
from trackers.boxes import Detections, Tracks  # noqa: E402

Arrival = tuple[str, int, float]
"""Camera, number of the picture, Unix time."""

_OPENING_S = 60.0


@dataclass
class Seen:
    """What one contender did in the span that counts.

    Attributes:
        began_s: Unix time at which counting began.
        ended_s: When it ended.
        tracked: When the tracks of each picture were known.
        done: When all work on each picture was done; empty where tracks are all there is.
        sighting_s: p50, p95 and p99 from capture to sighting; empty where there are none.
        stages_ms: Mean time in each step of perception, a picture; empty where it is not known.
        people: Mean number of tracks in a picture.
        cores: Processor time over time.
        rss_mb: Resident memory at the end.
        description: What ran.
    """

    description: str
    began_s: float = 0.0
    ended_s: float = 0.0
    tracked: list[Arrival] = field(default_factory=list)
    done: list[Arrival] = field(default_factory=list)
    sighting_s: list[float] = field(default_factory=list)
    stages_ms: dict[str, float] = field(default_factory=dict)
    people: float = 0.0
    cores: float = 0.0
    rss_mb: float = 0.0


class Span:
    """Counts what the process uses from one moment to another."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._process = psutil.Process()
        seen.began_s = time.time()
        self._cpu_s = self._used_s()

    def end(self) -> None:
        """Note what was used."""
        self._seen.ended_s = time.time()
        passed_s = self._seen.ended_s - self._seen.began_s
        self._seen.cores = (self._used_s() - self._cpu_s) / passed_s
        self._seen.rss_mb = self._process.memory_info().rss / 1e6

    def _used_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def trackletgait(urls: Sequence[str], options: argparse.Namespace) -> Seen:
    """A whole live run with the bundled models, as a user starts it."""
    names = {urlsplit(url).path.strip("/"): url for url in urls}
    config = LiveConfig.model_validate({"cameras": names} | json.loads(options.config))
    with tempfile.TemporaryDirectory() as folder, LiveRun(config, out=Path(folder) / "live") as run:
        assert run.perceiving is not None
        models = run.perceiving.perception
        seen = Seen(f"{models.detector.description}; {models.segmenter.description}")
        witness = _Witness(seen)
        witness.watch(run.perceiving)
        thread = threading.Thread(target=run.run)
        thread.start()
        try:
            wait_for(all_live(run.perceiving.cameras, list(names)), _OPENING_S)
            time.sleep(options.warm_up)
            span, before = Span(seen), run.telemetry.stages
            time.sleep(options.seconds)
            span.end()
            seen.stages_ms = _stages_ms(before, run.telemetry.stages)
            seen.sighting_s = list(run.latencies.percentiles(TO_SIGHTING))
        finally:
            run.stop()
            thread.join()
    return witness.finished()


def _stages_ms(before: dict[str, StageTime], after: dict[str, StageTime]) -> dict[str, float]:
    zero = StageTime()
    pictures = after.get("detect", zero).items - before.get("detect", zero).items
    return {
        name: 1000 * (time.seconds - before.get(name, zero).seconds) / max(1, pictures)
        for name, time in after.items()
    }


class _Witness:
    """Sees every picture go in, get its tracks, and come out."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._numbers: dict[tuple[str, int], int] = {}
        self._num_people = 0

    def watch(self, half: Perceiving) -> None:
        """Stand beside cameras and models that have not begun."""
        cameras, trackers, board = half.cameras, half.perception.trackers, half.board
        batches, update, saw = cameras.batches, trackers.update, board.saw

        def noted_batches() -> Iterator[Batch]:
            for batch in batches():
                self._numbers |= {(f.stream, f.index): read(f.image) for f in batch.frames}
                yield batch

        def noted_update(frames: Sequence[Frame], detections: Sequence[Detections]) -> list[Tracks]:
            tracks = update(frames, detections)
            self._seen.tracked += [self._arrival(frame) for frame in frames]
            self._num_people += sum(len(each) for each in tracks)
            return tracks

        def noted_saw(frame: Frame, people: int, now_unix_s: float) -> None:
            saw(frame, people, now_unix_s)
            self._seen.done.append(self._arrival(frame))

        cameras.batches = noted_batches  # type: ignore[method-assign]
        trackers.update = noted_update  # type: ignore[method-assign]
        board.saw = noted_saw  # type: ignore[method-assign]

    def finished(self) -> Seen:
        """Return what was seen."""
        self._seen.people = self._num_people / max(1, len(self._seen.tracked))
        return self._seen

    def _arrival(self, frame: Frame) -> Arrival:
        return frame.stream, self._numbers[frame.stream, frame.index], time.time()


def ultralytics(urls: Sequence[str], options: argparse.Namespace) -> Seen:
    """`YOLO(...).track(stream=True)` over all streams in one process."""
    import ultralytics as vendor

    model = vendor.YOLO(options.model, task="detect")
    if options.model.endswith(".onnx"):
        _one_picture_a_call()
    seen = Seen(f"{Path(options.model).name} by ultralytics {vendor.__version__}")
    num_people, span, counts_from_s = 0, None, float("inf")
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder) / "all.streams"
        streams.write_text("\n".join(urls))
        for camera, result in _results(model, streams, options):
            now_s = time.time()
            if counts_from_s == float("inf"):
                counts_from_s = now_s + options.warm_up
            if now_s < counts_from_s:
                continue
            span = span or Span(seen)
            seen.tracked.append((camera, read(result.orig_img), now_s))
            num_people += len(result.boxes)
            if now_s > counts_from_s + options.seconds:
                break
    if span is not None:
        span.end()
    seen.people = num_people / max(1, len(seen.tracked))
    return seen


def _results(model: Any, streams: Path, options: argparse.Namespace) -> Iterable[tuple[str, Any]]:
    """Yield camera and result; the loader names a stream by its address, cleaned."""
    found = model.track(
        source=str(streams),
        stream=True,
        tracker="bytetrack.yaml",
        imgsz=options.imgsz,
        classes=[0],
        conf=0.1,  # as ours: ByteTrack uses weak boxes
        device="cpu",
        verbose=False,
    )
    for result in found:
        yield result.path.rpartition("_")[2].rpartition("/")[2], result


def _one_picture_a_call() -> None:
    """The bundled .onnx takes one picture a call; Ultralytics gives it those of all streams."""
    import torch
    from ultralytics.nn.autobackend import AutoBackend

    forward: Callable[..., Any] = AutoBackend.forward

    def each(self: Any, im: Any, *args: Any, **more: Any) -> Any:
        answers = [forward(self, im[i : i + 1], *args, **more) for i in range(len(im))]
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    AutoBackend.forward = each


CONTENDERS = {"trackletgait": trackletgait, "ultralytics": ultralytics}


def main() -> None:
    """Run one contender and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds that do not count")
    parser.add_argument("--config", default="{}", help="of trackletgait's run, as JSON")
    parser.add_argument("--model", default=str(resolve("ssdlite-coco-300")))
    parser.add_argument("--imgsz", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"YOLO_CONFIG_DIR": folder, "YOLO_AUTOINSTALL": "false"}
        os.environ |= {"YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
        ensure_torchvision()
        seen = CONTENDERS[options.contender](options.urls, options)
    print(json.dumps(dataclasses.asdict(seen)), flush=True)
    os._exit(0)  # Ultralytics' readers end when their streams do


if __name__ == "__main__":
    main()
