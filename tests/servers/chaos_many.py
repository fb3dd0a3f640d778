"""Rows of the chaos table with several cameras, or with servers that are none."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.sources.address import Address
from pipeline.sources.camera import Camera, CameraConfig
from pipeline.sources.camera_state import CameraState
from pipeline.sources.cameras import Cameras
from tests.servers.chaos import (
    CLOSED_URL,
    LARGE,
    UNKNOWN_URL,
    Effort,
    rtsp_server,
    small_units,
)
from tests.servers.rtsp_process import FPS, RtspServer, write_units
from tests.servers.watch import Consumer, Diary, Row, all_live, consumed, wait_for
from tests.servers.wrong import WRONG, WrongServer


def opening_is_bounded(effort: Effort, folder: Path) -> Row:
    """Connect to what is no camera; the camera's defaults."""
    limit_s = CameraConfig(url="").open_timeout_s + 1.0
    took_s = {}
    with ExitStack() as stack:
        diaries = {name: Diary() for name in WRONG}
        began_s = time.monotonic()
        for name, talk in WRONG.items():
            server = stack.enter_context(WrongServer(talk))
            config = CameraConfig(url=server.url())
            camera = Camera(name, Address.parse(config.url), config, diaries[name])
            stack.enter_context(camera)
        wait_for(lambda: all(diary.entries for diary in diaries.values()), 3 * limit_s)
        for name, diary in diaries.items():
            took_s[name] = diary.entries[0][0] - began_s if diary.entries else float("inf")
    return Row(
        "a server that is no camera",
        f"given up within open_timeout_s (+1 s = {limit_s:g} s)",
        "; ".join(f"{name}: {seconds:.2f} s" for name, seconds in took_s.items()),
        max(took_s.values()) <= limit_s,
    )


@dataclass
class _Bad:
    """The camera that misbehaves, among seven that do not."""

    cameras: Cameras
    server: RtspServer
    locked: RtspServer
    wrong: dict[str, WrongServer]
    folder: Path

    def ways(self) -> dict[str, Callable[[], None]]:
        """Return what can be done to it, by name; each begins and leaves the fault."""
        large = write_units(self.folder / "large-bad.units", LARGE)
        small = small_units(self.folder)
        urls = {
            "wrong password": self.locked.url("bad", "guard:hunter2@"),
            "wrong path": self.server.url("nope"),
            "unknown host": UNKNOWN_URL,
            "closed port": CLOSED_URL,
        } | {name: server.url() for name, server in self.wrong.items()}
        ways = {name: lambda url=url: self._point_at(url) for name, url in urls.items()}
        own = self.server.url("bad")
        return {
            "garbage": lambda: self.server.tell("garbage bad 15"),
            "no key frames": lambda: self.server.tell("no-key bad 3"),
            "another size": lambda: self.server.tell(f"switch bad {large}"),
            "size again": lambda: self.server.tell(f"switch bad {small}"),
            "sends nothing": lambda: self.server.tell("pause bad"),
            "sends again": lambda: self.server.tell("resume bad"),
            "frozen": self.server.freeze,
            "thawed": self.server.thaw,
            "killed": self.server.kill,
            "back": self.server.start,
            "flaps": self._flap,
            **ways,
            "right again": lambda: self._point_at(own),
        }

    def _point_at(self, url: str) -> None:
        self.cameras.change("bad", CameraConfig(url=url))

    def _flap(self) -> None:
        for _ in range(2):
            self.server.kill()
            time.sleep(0.5)
            self.server.start()
            time.sleep(0.5)


def one_of_eight(effort: Effort, folder: Path) -> Row:
    """Do everything to one camera and count the frames of the other seven."""
    units, good = small_units(folder), [f"good{n}" for n in range(7)]
    with ExitStack() as stack:
        server = stack.enter_context(rtsp_server(units, *good))
        own = stack.enter_context(rtsp_server(units, "bad"))
        locked = stack.enter_context(rtsp_server(units, "bad", login="guard:secret"))
        wrong = {n: stack.enter_context(WrongServer(talk)) for n, talk in WRONG.items()}
        cameras = stack.enter_context(Cameras(Diary()))
        for name in good:
            cameras.add(name, CameraConfig(url=server.url(name)))
        cameras.add("bad", CameraConfig(url=own.url("bad")))
        consumer = stack.enter_context(consumed(cameras))
        wait_for(all_live(cameras, [*good, "bad"]), 20)
        first = {name: cameras.by_name[name].counts.decoded for name in good}
        began_s = time.monotonic()
        ways = _Bad(cameras, own, locked, wrong, folder).ways()
        for harm in ways.values():
            harm()
            time.sleep(effort.fault_s / 2)
        is_back = wait_for(all_live(cameras, ["bad"]), 40)
        passed_s = time.monotonic() - began_s
        counts = {name: cameras.by_name[name].counts for name in good}
    missing = {name: consumer.missing(name) for name in good}
    came = [counts[name].decoded - first[name] for name in good]
    due = round(passed_s * FPS)
    dropped = sum(c.dropped for c in counts.values())
    broken = sum(c.damaged + c.connections - 1 for c in counts.values())
    return Row(
        f"8 cameras, one misbehaving in {len(ways)} ways",
        "the other 7 lose 0 frames",
        f"{sum(missing.values())} lost, {dropped} dropped, {broken} damaged or reconnected; "
        f"{min(came)} to {max(came)} frames each of {due} due in {passed_s:.0f} s; the eighth "
        + ("is back" if is_back else "is NOT back")
        + (f"; {consumer.error!r}" if consumer.error else ""),
        not any(missing.values())
        and dropped == broken == 0
        and min(came) >= due - FPS
        and is_back
        and consumer.error is None,
    )


def all_dead(effort: Effort, folder: Path) -> Row:
    """Kill the server of all cameras, and bring it back."""
    names = [f"cam{n}" for n in range(4)]
    with rtsp_server(small_units(folder), *names) as server, Cameras(Diary()) as cameras:
        for name in names:
            cameras.add(name, CameraConfig(url=server.url(name)))
        with consumed(cameras) as consumer:
            wait_for(all_live(cameras, names), 20)
            time.sleep(3.5)
            server.kill()
            time.sleep(2 * effort.fault_s)
            num_live = sum(c.state is CameraState.LIVE for c in cameras.by_name.values())
            server.start()
            began_s = time.monotonic()
            is_back = wait_for(all_live(cameras, names), 40)
            took_s = time.monotonic() - began_s
            is_fed = wait_for(lambda: _is_fed(consumer, names), 5)
    return Row(
        f"all cameras dead for {2 * effort.fault_s:g} s",
        "the process lives and recovers",
        f"{num_live} of {len(names)} live meanwhile; all back after {took_s:.1f} s",
        num_live == 0 and is_back and is_fed and consumer.error is None,
    )


def _is_fed(consumer: Consumer, names: list[str]) -> bool:
    return set(names) <= set(consumer.last) and consumer.error is None


def flapping(effort: Effort, folder: Path) -> Row:
    """Bring the server up for 2 s and down for 2 s, over and over."""
    diary, turns = Diary(), max(3, round(effort.fault_s * 2))
    with rtsp_server(small_units(folder)) as server, Cameras(diary) as cameras:
        cameras.add("cam", CameraConfig(url=server.url("cam")))
        with consumed(cameras):
            wait_for(all_live(cameras, ["cam"]), 10)
            began_s, before = time.monotonic(), diary.count(CameraState.CONNECTING)
            for _ in range(turns):
                time.sleep(2)
                server.kill()
                time.sleep(2)
                server.start()
            passed_s = time.monotonic() - began_s
            attempts = diary.count(CameraState.CONNECTING) - before
            is_back = wait_for(all_live(cameras, ["cam"]), 40)
            took_s = time.monotonic() - began_s - passed_s
    return Row(
        f"flapping: up 2 s, down 2 s, {turns} times",
        "less than one attempt in a second; recovers",
        f"{attempts} attempts in {passed_s:.0f} s; live {took_s:.1f} s after the last return",
        attempts <= passed_s and is_back,
    )
