"""Every fault a camera layer must bear, done to it by a real RTSP server: one function a row."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.sources.address import Address
from pipeline.sources.camera import Camera, CameraConfig
from pipeline.sources.camera_state import CameraState
from pipeline.sources.cameras import Cameras
from tests.servers.rtsp_process import FPS, RtspServer, write_units
from tests.servers.soak_growth import Ledger
from tests.servers.watch import Diary, Holdings, Row, all_live, consumed, wait_for
from tests.servers.wrong import WRONG, WrongServer

SMALL, LARGE = (160, 120), (320, 240)
PASSWORD = "p@s:s/w#o?r%d"
CLOSED_URL = "rtsp://guard:hunter2@127.0.0.1:1/cam"
UNKNOWN_URL = "rtsp://guard:hunter2@no-such-host.invalid/cam"


@dataclass(frozen=True)
class Effort:
    """How much is done to find out.

    Attributes:
        name: For the report.
        restarts: Kills of the server.
        failed_opens: Attempts to connect that fail.
        fault_s: Seconds that each of the other faults lasts, 10 in the long version.
        soak_s: Seconds of the soak.
    """

    name: str
    restarts: int
    failed_opens: int
    fault_s: float
    soak_s: float


SHORT = Effort("short", 5, 200, 1.5, 12.0)
MEDIUM = Effort("medium", 20, 1000, 4.0, 180.0)
LONG = Effort("long", 50, 1000, 10.0, 3600.0)


@contextmanager
def rtsp_server(
    units: Path, *paths: str, login: str | None = None, fps: int = FPS
) -> Iterator[RtspServer]:
    """Run a server while the block runs."""
    server = RtspServer(units, paths or ("cam",), login, fps=fps)
    try:
        yield server
    finally:
        server.kill()


def small_units(folder: Path) -> Path:
    """Return the small clip, encoded once."""
    path = folder / "small.units"
    return path if path.exists() else write_units(path, SMALL)


def killed_and_restarted(effort: Effort, folder: Path) -> Row:
    """Kill the server again and again."""
    rng, diary, back_s, ledger = random.Random(6), Diary(), [], Ledger()
    with rtsp_server(small_units(folder)) as server, Cameras(diary) as cameras:
        cameras.add("cam", CameraConfig(url=server.url("cam")))
        with consumed(cameras) as consumer:
            wait_for(all_live(cameras, ["cam"]), 10)
            for _ in range(effort.restarts):
                time.sleep(3.5)  # so long it must be well to be tried again soon
                ledger.look()
                server.kill()
                time.sleep(rng.uniform(0.2, 3.0))
                server.start()
                began_s = time.monotonic()
                wait_for(diary.has_entered(CameraState.LIVE, began_s), 40)
                back_s.append(diary.first_s(CameraState.LIVE, began_s) - began_s)
            time.sleep(3.5)
            ledger.look()
    is_back = max(back_s) <= 5.0 and consumer.error is None
    return Row(
        f"server killed and restarted {effort.restarts} times",
        "back within 5 s of its return each time; RSS, threads, file descriptors flat (+1 %)",
        f"back after at most {max(back_s):.2f} s; {ledger}",
        is_back and ledger.is_flat(),
    )


def stops_sending(effort: Effort, folder: Path) -> Row:
    """Freeze the server, then let it answer and send nothing; the camera's defaults."""
    seen_s = {}
    with rtsp_server(small_units(folder)) as server:
        ways: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "frozen (SIGSTOP)": (server.freeze, server.thaw),
            "sending nothing": (
                lambda: server.tell("pause cam"),
                lambda: server.tell("resume cam"),
            ),
        }
        diary = Diary()
        with Cameras(diary) as cameras:
            cameras.add("cam", CameraConfig(url=server.url("cam")))
            for name, (harm, heal) in ways.items():
                is_back = wait_for(all_live(cameras, ["cam"]), 40)
                time.sleep(0.5)
                began_s = time.monotonic()
                harm()
                wait_for(diary.has_entered(CameraState.STALLED, began_s), 10)
                seen_s[name] = diary.first_s(CameraState.STALLED, began_s) - began_s
                heal()
            is_back = wait_for(all_live(cameras, ["cam"]), 40) and is_back
    shown = "; ".join(f"{name}: seen after {seconds:.2f} s" for name, seconds in seen_s.items())
    return Row(
        "server stops sending but keeps the socket open",
        "stall seen within 5 s",
        shown + ("; back live after each" if is_back else "; NOT back live"),
        max(seen_s.values()) <= 5.0 and is_back,
    )


def told_apart(effort: Effort, folder: Path) -> Row:
    """Misconfigure a camera in four ways, in a process whose every output is searched."""
    with rtsp_server(small_units(folder), login=f"guard:{PASSWORD}") as server:
        login = Address.parse("rtsp://guard:${PW}@h/", {"PW": PASSWORD}).url[7:-2]
        urls = {
            "password": server.url("cam", "guard:hunter2@"),
            "path": server.url("nope", login),
            "name is not known": UNKNOWN_URL,
            "nothing listens": CLOSED_URL,
        }
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "talkative.py"), *urls.values()],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
    said = done.stdout + done.stderr
    lines = done.stdout.splitlines()
    apart = [words for words, line in zip(urls, lines, strict=False) if words in line]
    backing = [line for line in lines if float(line.rpartition(" ")[2]) > 0]
    leaks = [secret for secret in _spelled(login) if secret in said]
    return Row(
        "wrong password, wrong path, unknown host, port closed",
        "told apart; backing off; no credential anywhere in the output",
        f"{len(apart)} of {len(urls)} told apart, {len(backing)} waiting to be tried again; "
        f"credentials found {len(leaks)} times in {len(said)} characters of output and log at "
        "DEBUG, FFmpeg's own among them",
        len(apart) == len(urls) == len(backing) and not leaks and done.returncode == 0,
    )


def _spelled(login: str) -> set[str]:
    found = {login.rstrip("@"), "hunter2", PASSWORD}
    found |= set(Address.parse(f"rtsp://{login}h/").secrets)
    return found | {base64.b64encode(f"guard:{p}".encode()).decode() for p in (PASSWORD, "hunter2")}


def spoilt_streams(effort: Effort, folder: Path) -> Row:
    """Send what does not decode, and what decodes to something else."""
    no_key_s = effort.fault_s if effort.name == "short" else 10.0
    diary, shown, is_ok = Diary(), [], True
    large = write_units(folder / "large.units", LARGE)
    reordered = write_units(folder / "b.units", SMALL, num_b_frames=2)
    h265 = write_units(folder / "small.h265", SMALL)
    with (
        rtsp_server(small_units(folder)) as server,
        Camera("cam", Address.parse(server.url("cam")), _config(server), diary) as camera,
    ):

        def check(what: str, size: tuple[int, int], newer_than: int, within_s: float) -> None:
            nonlocal is_ok
            began_s = time.monotonic()
            is_there = wait_for(lambda: _newest(camera) == (size, newer_than), within_s)
            took_s = time.monotonic() - began_s
            shown.append(f"{what}: {f'{took_s:.1f} s' if is_there else 'NO PICTURE'}")
            is_ok &= is_there

        def restart(units: Path) -> None:
            time.sleep(3.2)
            server.kill()
            server.send(units)
            server.start()

        check("opened", SMALL, 0, 10)
        server.tell("garbage cam 15")
        time.sleep(1.6)
        decoded = camera.counts.decoded
        is_ok &= wait_for(lambda: camera.counts.decoded > decoded + 10, 5)
        epoch = _fresh_epoch(camera)
        check(f"15 spoilt packets, {camera.counts.damaged} refused", SMALL, epoch, 5)
        server.tell(f"no-key cam {no_key_s}")
        with Camera("new", camera.address, _config(server), Diary()) as second:
            time.sleep(no_key_s)
            began_s = time.monotonic()
            is_ok &= wait_for(lambda: second.counts.decoded > 0, 10)
            shown.append(
                f"no key frame for {no_key_s:g} s while connecting: "
                f"{time.monotonic() - began_s:.1f} s after the next one"
            )
        server.tell(f"switch cam {large}")
        check("another size in mid-stream", LARGE, epoch + 1, 5)
        restart(small_units(folder))
        check("another size after a restart", SMALL, epoch + 2, 10)
        restart(h265)
        check("H.265 after a restart", SMALL, epoch + 3, 10)
        restart(reordered)
        check("B-frames after a restart", SMALL, epoch + 4, 10)
    return Row(
        "corrupted packets, no key frame for 10 s, other size, other codec, B-frames",
        "no crash; new epoch; recovery at the next key frame",
        "; ".join(shown),
        is_ok,
    )


def _config(server: RtspServer) -> CameraConfig:
    return CameraConfig(url=server.url("cam"))


def _fresh_epoch(camera: Camera) -> int:
    camera.take()
    while True:
        newest = _newest(camera)
        if newest is not None:
            return newest[1]
        time.sleep(0.02)


def _newest(camera: Camera) -> tuple[tuple[int, int], int] | None:
    frame = camera.take()
    return None if frame is None else ((frame.hw[1], frame.hw[0]), frame.epoch)


def too_slow(effort: Effort, folder: Path) -> Row:
    """Take five times as long for a frame as the camera."""
    with rtsp_server(small_units(folder)) as server, Cameras(Diary()) as cameras:
        cameras.add("cam", _config(server))
        with consumed(cameras, 5 / FPS) as consumer:
            time.sleep(5 * effort.fault_s)
    allowed_s = 0.5 + 1 / FPS
    return Row(
        "consumer 5 times too slow",
        "age of newest processed frame p99 <= 0.5 s + one frame interval",
        f"p50 {consumer.age_s(50):.3f} s, p99 {consumer.age_s(99):.3f} s when its processing "
        f"begins ({consumer.num_frames} frames, {consumer.missing('cam')} dropped)",
        consumer.age_s(99) <= allowed_s and consumer.missing("cam") > 0,
    )


def failed_opens(effort: Effort, folder: Path) -> Row:
    """Fail to open, in four ways, as often and as fast as can be."""
    num_each = effort.failed_opens // 4
    with ExitStack() as stack:
        server = stack.enter_context(rtsp_server(small_units(folder), login="guard:secret"))
        rude = stack.enter_context(WrongServer(WRONG["hangs up at once"]))
        urls = [
            CLOSED_URL,
            server.url("cam", "guard:hunter2@"),
            server.url("nope", "guard:secret@"),
            rude.url(),
        ]
        _fail(urls, max(20, num_each // 5))
        before = Holdings.now()
        num_failed = _fail(urls, num_each)
        after = Holdings.now()
    return Row(
        f"{num_failed} failed opens",
        "no leak",
        after.since(before),
        after.is_flat_since(before) and num_failed >= effort.failed_opens,
    )


def _fail(urls: list[str], num_each: int) -> int:
    num_failed = 0
    for url in urls:
        diary = Diary()
        config = CameraConfig(url=url, retry_first_s=0.001, retry_longest_s=0.001)
        with Camera("cam", Address.parse(url), config, diary):
            wait_for(diary.has_failed(num_each), 120)
        num_failed += diary.count(CameraState.CONNECTING) - 1
    return num_failed
