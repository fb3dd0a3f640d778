"""The two halves of a live run, joined by a real link, in this process."""

from __future__ import annotations

import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gait.tracklet import Tracklet
from pipeline.commands.top import table
from pipeline.errors import LinkError, OutputError, PipelineError
from pipeline.live.config import LiveConfig
from pipeline.live.control import ask
from pipeline.live.failures import Failures
from pipeline.live.links import ListenAt, SendTo
from pipeline.live.run import LiveRun
from pipeline.live.sending import LiveSending
from pipeline.transport.keys import ReceiverKeys, SenderKeys, make_keys
from pipeline.transport.spool import Spool
from pipeline.transport.superseding import SupersedingQueue
from pipeline.transport.zmq_link import ReceivingLink, SendingLink
from tests.pipeline.live.walkers import IN_TIME_S, write_clip, write_walker

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_walker(tmp_path_factory.mktemp("walker"))


def until(what: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not what():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


class Site:
    """One machine with cameras and one without."""

    def __init__(self, folder: Path, walker: dict[str, object], opened: ExitStack) -> None:
        self.folder = folder
        self.endpoint = f"ipc://{folder}/link"
        self._walker = walker
        self._opened = opened

    def perceive(self, cameras: dict[str, str], **options: Any) -> LiveRun:
        link = SendTo(options.pop("endpoint", self.endpoint), "gate", **options)
        return self._run({"cameras": cameras, "end_after_s": 0.5}, "gate", link)

    def identify(self, **options: Any) -> LiveRun:
        return self._run({}, "hub", ListenAt(options.pop("endpoint", self.endpoint), **options))

    def _run(self, config: dict[str, object], name: str, link: SendTo | ListenAt) -> LiveRun:
        checked = LiveConfig.model_validate({"pipeline": self._walker, **config})
        run = self._opened.enter_context(LiveRun(checked, out=self.folder / name, link=link))
        thread = threading.Thread(target=run.run)
        thread.start()
        self._opened.callback(thread.join)
        self._opened.callback(run.stop)
        return run


@pytest.fixture
def site(tmp_path: Path, walker: dict[str, object]) -> Iterator[Site]:
    with ExitStack() as opened:
        yield Site(tmp_path, walker, opened)


def shown(run: LiveRun) -> str:
    """What `top` prints."""
    printed = io.StringIO()
    Console(file=printed, width=300).print(table(run.status()))
    return printed.getvalue()


def test_both_halves_show_what_they_do_and_only_one_has_cameras(site: Site, clip: Path) -> None:
    hub = site.identify()
    gate = site.perceive({"door": str(clip)})
    until(lambda: hub.status().streams)
    until(lambda: gate.status().link.counts.get("acknowledged"))  # type: ignore[union-attr]
    [stream] = hub.status().streams
    assert (stream.name, stream.people, stream.sightings) == ("gate/door", 1, 0)
    assert stream.latency_p50_s is not None
    assert 0 < stream.latency_p50_s < WITHIN_S
    [camera] = gate.status().cameras
    assert (camera.name, camera.people) == ("door", 1)
    assert "connected" in shown(gate)
    assert "gate/door" in shown(hub)
    with pytest.raises(PipelineError, match="expected one of status, stop"):
        ask(site.folder / "hub" / "control.sock", {"do": "pause", "name": "door"})
    ask(site.folder / "gate" / "control.sock", {"do": "pause", "name": "door"})
    until(lambda: hub.status().sightings == 1)
    assert hub.instruments.health.ready().is_good
    assert not (site.folder / "gate" / "sightings.jsonl").exists()


def test_what_is_wrong_with_keys_is_shown_until_it_is_right(
    site: Site, clip: Path, tmp_path: Path
) -> None:
    hub_key, hub_public = make_keys("hub", tmp_path)
    gate_key, gate_public = make_keys("gate", tmp_path)
    (tmp_path / "senders").mkdir()
    endpoint = "tcp://127.0.0.1:*"
    hub = site.identify(endpoint=endpoint, keys=ReceiverKeys.read(hub_key, tmp_path / "senders"))
    listening = hub.status().link
    assert listening is not None
    keys = SenderKeys.read(gate_key, hub_public)
    gate = site.perceive({"door": str(clip)}, endpoint=listening.endpoint, keys=keys)
    until(lambda: "does not allow this sender's key" in shown(gate))
    assert "not connected" in shown(gate)
    shutil.copy(gate_public, tmp_path / "senders")
    until(lambda: hub.status().streams)
    assert "does not allow" not in shown(gate)


@pytest.mark.parametrize("half", [SendTo("ipc://x", "gate"), ListenAt("ipc://x")])
def test_a_half_wants_a_folder(half: SendTo | ListenAt, walker: dict[str, object]) -> None:
    with pytest.raises(OutputError, match="--out"):
        LiveRun(LiveConfig.model_validate({"pipeline": walker}), link=half)


def test_a_half_that_cannot_open_its_link_leaves_everything_free(
    site: Site, walker: dict[str, object]
) -> None:
    hub = site.identify(endpoint="tcp://127.0.0.1:*")
    until(lambda: hub.taking.is_alive)
    taken = hub.status().link
    assert taken is not None
    threads = set(threading.enumerate())
    for _ in range(2):
        with pytest.raises(LinkError, match="Address already in use"):
            LiveRun(
                LiveConfig.model_validate({"pipeline": walker}),
                out=site.folder / "second",
                link=ListenAt(taken.endpoint),
            )
    assert set(threading.enumerate()) <= threads


def windows(count: int) -> list[Tracklet]:
    """Windows of one track, the last of which ends it."""
    noise = np.random.default_rng(1).integers(0, 256, (2, 64, 44), np.uint8)
    return [
        Tracklet(
            stream="door",
            track_id=1,
            silhouettes=noise,
            frame_indices=np.array([number, number + 1]),
            times_s=np.array([number, number + 1.0]),
            seen_s=(0.0, number + 1.0),
            is_last=number == count - 1,
            origin_unix_s=time.time() - 100,
        )
        for number in range(count)
    ]


def test_from_half_a_spool_on_new_windows_take_the_room_of_old_ones_and_no_end_is_lost(
    tmp_path: Path,
) -> None:
    queue = SupersedingQueue(capacity=4)
    spool = Spool(tmp_path / "link.spool", max_bytes=60_000)  # some ten windows
    with (
        ReceivingLink(f"ipc://{tmp_path}/link", tmp_path / "marks") as hub,
        SendingLink(f"ipc://{tmp_path}/link", spool, sender="gate") as link,
    ):
        until(lambda: link.is_connected)
        sending = LiveSending(queue, link, Failures("link", pytest.fail))
        sending.start()
        sent = windows(40)
        for window in sent:
            queue.put([window])
            until(lambda: link.fill > 0.5 or not queue.depth)
        until(lambda: queue.counts.superseded > 10)
        assert (link.counts["dropped"], queue.depth <= 4) == (0, True)
        assert sending.status().waiting_s > 0
        received: list[Tracklet] = []
        while not received or not received[-1].is_last:
            received += hub.receive(WITHIN_S)
            hub.acknowledge()
        assert [len(each) for each in received] == [2] * len(received)
        assert len(received) < 25
        assert sending.end(IN_TIME_S)


def test_tracklets_that_the_disk_refuses_are_sent_when_it_takes_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.live.sending._RETRY_S", 0.01)
    spool, queue = Spool(tmp_path / "link.spool"), SupersedingQueue()
    put, fails = spool.put, iter([True, True, True])

    def failing(messages: Any, **more: Any) -> int:
        if next(fails, False):
            raise LinkError("the disk is full: free some room")
        return put(messages, **more)

    monkeypatch.setattr(spool, "put", failing)
    with SendingLink(f"ipc://{tmp_path}/link", spool, sender="gate") as link:
        sending = LiveSending(queue, link, Failures("link", pytest.fail))
        sending.start()
        queue.put(windows(3))
        until(lambda: link.num_waiting == 3)
        assert sending.status().problem is None
        assert sending.end(IN_TIME_S)
    assert caplog.text.count("the disk is full") == 1
