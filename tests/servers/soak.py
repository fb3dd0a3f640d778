"""Four cameras that loop a real clip, with faults drawn by lot, for as long as one likes."""

from __future__ import annotations

import random
import struct
import time
from collections import Counter
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.sources.camera import CameraConfig
from pipeline.sources.cameras import Cameras
from pipeline.sources.inputs import sample_path
from tests.servers.chaos import Effort, rtsp_server
from tests.servers.rtsp_process import FPS, WHOLE, RtspServer
from tests.servers.watch import Diary, Holdings, Row, all_live, consumed, wait_for

NUM_CAMERAS = 4
FAULTS = ("killed", "frozen", "sends nothing", "garbage", "no key frames")


def soak(effort: Effort, folder: Path) -> Row:
    """Do one fault after another to one camera after another, and see what grows."""
    rng, names = random.Random(60), [f"cam{n}" for n in range(NUM_CAMERAS)]
    units = real_units(folder / "real.units")
    done: Counter[str] = Counter()
    with ExitStack() as stack:
        servers = {name: stack.enter_context(rtsp_server(units, name)) for name in names}
        cameras = stack.enter_context(Cameras(Diary()))
        for name, server in servers.items():
            cameras.add(name, CameraConfig(url=server.url(name)))
        consumer = stack.enter_context(consumed(cameras))
        is_ok = wait_for(all_live(cameras, names), 20)
        began_s = time.monotonic()
        before = None
        while time.monotonic() < began_s + effort.soak_s:
            name, fault = rng.choice(names), rng.choice(FAULTS)
            _harm(servers[name], name, fault, rng.uniform(0.5, min(8.0, effort.soak_s / 8)))
            done[fault] += 1
            time.sleep(rng.uniform(0.5, 4.0))
            if before is None and time.monotonic() > began_s + effort.soak_s / 4:
                is_ok &= _settled(cameras, names)
                before = Holdings.now()
        is_ok &= _settled(cameras, names)
        after, passed_s = Holdings.now(), time.monotonic() - began_s
        fps = {name: cameras.by_name[name].counts.taken / passed_s for name in names}
    assert before is not None
    faults = ", ".join(f"{count} {fault}" for fault, count in sorted(done.items()))
    limit_s = 0.5 + 1 / FPS
    return Row(
        f"soak: {passed_s / 60:.1f} minutes, {NUM_CAMERAS} cameras looping the real clip "
        f"(768x576, {FPS} fps), {done.total()} faults",
        "all live at the end; staleness p99 <= 0.5 s + one frame interval; nothing grows (+1 %)",
        f"{min(fps.values()):.1f} to {max(fps.values()):.1f} frames/s a camera, outages counted; "
        f"staleness p50 {consumer.age_s(50):.3f} s, p99 {consumer.age_s(99):.3f} s; "
        f"{after.since(before)}; {faults}",
        is_ok
        and consumer.error is None
        and consumer.age_s(99) <= limit_s
        and after.is_flat_since(before),
    )


def _settled(cameras: Cameras, names: list[str]) -> bool:
    is_live = wait_for(all_live(cameras, names), 45)
    time.sleep(2)
    return is_live


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


def real_units(path: Path) -> Path:
    """Encode the clip of pedestrians that ships as the server wants it, once."""
    if path.exists():
        return path
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    packets = []
    with av.open(str(sample_path()), "r") as container:
        stream = container.streams.video[0]
        codec.width, codec.height, codec.pix_fmt = stream.width, stream.height, "yuv420p"
        codec.time_base, codec.framerate = Fraction(1, FPS), Fraction(FPS)
        codec.gop_size, codec.max_b_frames = FPS, 0
        codec.options = {"preset": "ultrafast"} | WHOLE
        for index, frame in enumerate(container.decode(stream)):
            picture = av.VideoFrame.from_ndarray(
                np.asarray(frame.to_ndarray(), np.uint8), format="yuv420p"
            )
            picture.pts = index
            packets += codec.encode(picture)
    packets += codec.encode(None)
    path.write_bytes(b"".join(struct.pack(">I", len(bytes(p))) + bytes(p) for p in packets))
    return path
