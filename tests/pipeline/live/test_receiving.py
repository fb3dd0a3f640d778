"""What identity gets from the link after every kind of end; the link is real, models are not."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue

from gait.tracklet import Tracklet
from pipeline.errors import LinkError, OutputError
from pipeline.gallery.sightings import SightingBook
from pipeline.live.failures import Failures
from pipeline.live.identity import LiveIdentity, Told, sighting_id
from pipeline.live.receiving import LiveReceiving
from pipeline.sinks.live import Event
from pipeline.transport.spool import Spool
from pipeline.transport.zmq_link import ReceivingLink, SendingLink
from pipeline.values import Match, Sighting
from pipeline.witness import Witness

ORIGIN_S = 1_700_000_000.0
WITHIN_S = 30.0


def tracklet(track_id: int, first: int, *, is_last: bool = False, length: int = 3) -> Tracklet:
    indices = np.arange(first, first + length)
    return Tracklet(
        stream="door",
        track_id=track_id,
        silhouettes=np.full((length, 64, 44), 7, np.uint8),
        frame_indices=indices,
        times_s=indices / 10,
        seen_s=(0.0, (first + length) / 10),
        is_last=is_last,
        origin_unix_s=ORIGIN_S,
    )


class Site:
    """A gate and a hub with their disks; each can be opened anew."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.sightings = folder / "sightings.jsonl"
        self.is_written = True
        self._folder = folder
        self._opened = opened

    def sender(self) -> SendingLink:
        spool = Spool(self._folder / "gate.spool")
        return self._opened.enter_context(
            SendingLink(f"ipc://{self._folder}/link", spool, sender="gate", resend_s=0.5)
        )

    def hub(self) -> ReceivingLink:
        return self._opened.enter_context(
            ReceivingLink(f"ipc://{self._folder}/link", self._folder / "hub.marks")
        )

    def receiving(self, link: ReceivingLink) -> LiveReceiving:
        return LiveReceiving(link, self._are_written)

    def tell(self, event: str, track_id: int, *, identity: str = "person-001") -> None:
        content: dict[str, JsonValue] = {
            "id": sighting_id("gate/door", track_id, ORIGIN_S),
            "event": event,
            "camera": "gate/door",
            "track_id": track_id,
            "start_s": 0.0,
            "identity": identity,
            "is_new": True,
        }
        self.write(Event("sighting", ORIGIN_S, content))

    def write(self, event: Event) -> None:
        with self.sightings.open("ab") as file:
            file.write(event.as_bytes() + b"\n")

    def _are_written(self, is_stopped: threading.Event) -> bool:
        return self.is_written


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as opened:
        yield Site(tmp_path, opened)


def get(receiving: LiveReceiving, count: int) -> list[Tracklet]:
    received: list[Tracklet] = []
    patience = threading.Timer(WITHIN_S, receiving.close)
    patience.start()
    while len(received) < count:
        received += receiving.get()
        assert not receiving.is_over, received
    patience.cancel()
    return received


def names(tracklets: Sequence[Tracklet]) -> list[str]:
    return [each.uid for each in tracklets]


def test_tracks_that_were_open_go_on_after_a_kill_from_their_first_tracklet(site: Site) -> None:
    sender = site.sender()
    sender.send([tracklet(1, 0), tracklet(2, 0), tracklet(1, 3), tracklet(2, 3, is_last=True)])
    link = site.hub()
    receiving = site.receiving(link)
    get(receiving, 4)
    receiving.written([("gate/door", 2)])
    link.close()  # as far as the disk knows, a kill
    sender.send([tracklet(1, 6, is_last=True)])
    receiving = site.receiving(site.hub())
    again = get(receiving, 3)
    assert names(again) == ["gate/door/1/0", "gate/door/1/3", "gate/door/1/6"]
    assert {each.origin_unix_s for each in again} == {ORIGIN_S}


def test_what_was_not_kept_yet_comes_from_the_sender_again_and_what_was_does_not(
    site: Site,
) -> None:
    sender = site.sender()
    sender.send([tracklet(1, 0)])
    link = site.hub()
    assert names(get(site.receiving(link), 1)) == ["gate/door/1/0"]
    sender.send([tracklet(1, 3)])
    assert names(link.receive(WITHIN_S)) == ["gate/door/1/3"]  # and is killed
    link.close()
    received = get(site.receiving(site.hub()), 2)
    assert names(received) == ["gate/door/1/0", "gate/door/1/3"]


def test_an_end_that_was_told_before_the_kill_is_not_told_again(site: Site) -> None:
    sender = site.sender()
    sender.send([tracklet(1, 0), tracklet(1, 3, is_last=True), tracklet(2, 0), tracklet(3, 0)])
    link = site.hub()
    get(site.receiving(link), 4)
    site.tell("seen", 1)
    site.tell("ended", 1)
    site.tell("seen", 2, identity="person-002")
    link.close()
    receiving = site.receiving(site.hub())
    told = receiving.told_before(site.sightings)
    assert told == {("gate/door", 2): Told(ORIGIN_S, "person-002", is_new=True)}
    assert names(get(receiving, 2)) == ["gate/door/2/0", "gate/door/3/0"]


def test_a_track_is_kept_until_its_sighting_is_written(site: Site) -> None:
    site.sender().send([tracklet(1, 0, is_last=True)])
    link = site.hub()
    receiving = site.receiving(link)
    get(receiving, 1)
    site.is_written = False
    receiving.written([("gate/door", 1)])
    assert [names(each) for each in link.kept()] == [["gate/door/1/0"]]
    site.is_written = True
    receiving.written([("gate/door", 1)])
    assert list(link.kept()) == []


def test_of_somebody_who_stands_there_for_hours_the_newest_is_kept(site: Site) -> None:
    site.sender().send([tracklet(1, 3 * number) for number in range(50)])
    link = site.hub()
    get(site.receiving(link), 50)
    kept = [each for some in link.kept() for each in some]
    assert names(kept) == [f"gate/door/1/{3 * number}" for number in range(30, 50)]


def test_a_track_whose_end_was_lost_ends_when_its_sender_tells_of_the_next_day(site: Site) -> None:
    sender = site.sender()
    sender.send([tracklet(1, 0)])
    receiving = site.receiving(site.hub())
    get(receiving, 1)
    sender.send([tracklet(2, 10 * 90_000)])
    *_, ending = get(receiving, 2)
    assert (ending.track, ending.is_last, len(ending)) == (("gate/door", 1), True, 0)
    assert receiving.status().counts["overdue"] == 1
    assert ending.seen_s == (0.0, 0.3)


def test_who_never_ends_a_track_loses_the_oldest_and_no_other_sender_does(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.live.receiving._MOST_OPEN", 10)
    spool = Spool(site.sightings.with_name("honest.spool"))
    receiving = site.receiving(link := site.hub())
    with SendingLink(link.endpoint, spool, sender="honest", resend_s=0.5) as honest:
        honest.send([tracklet(1, 0)])
        get(receiving, 1)
    site.sender().send([tracklet(number, 0) for number in range(1, 31)])
    came = get(receiving, 30 + 21)
    ended = [each.track for each in came if each.is_last]
    assert ended == [("gate/door", number) for number in range(1, 22)]
    assert receiving.status().counts["crowded"] == 21
    assert "tracks that have not ended: this one counts as ended (1 so far)" in caplog.text
    receiving.written(ended)
    assert len([each for some in link.kept() for each in some]) == 10


class GoesOver:
    """Says that a track is Anna, and from 0.6 s on that it is Bert."""

    def __init__(self) -> None:
        self._book = SightingBook()
        self._were_anna: set[tuple[str, int]] = set()

    def identify(self, tracklets: Sequence[Tracklet], witness: Witness) -> list[Sighting]:
        matches = [self._match(each) if len(each) else None for each in tracklets]
        for each, match in zip(tracklets, matches, strict=True):
            witness.recognised(each, None, match)
        return self._book.collect(tracklets, matches)

    def _match(self, tracklet: Tracklet) -> Match:
        if tracklet.times_s[0] < 0.6:
            self._were_anna.add(tracklet.track)
            return Match("Anna", 0.1, 1.0, False)
        switched = tracklet.track in self._were_anna
        self._were_anna.discard(tracklet.track)
        return Match("Bert", 0.1, 1.0, False, switched_at_s=0.6 if switched else None)


def identify(site: Site, receiving: LiveReceiving, last: str) -> None:
    """Identify what is kept and what comes, up to the tracklet of a name."""
    naming = LiveIdentity(
        GoesOver(),  # type: ignore[arg-type]
        receiving,
        site.write,
        observe=lambda tracklet, seconds: heard.append(tracklet),
        failures=Failures("identity", pytest.fail),
        written=receiving.written,
        told=receiving.told_before(site.sightings),
    )
    heard: list[Tracklet] = []
    naming.start()
    ends_s = time.monotonic() + WITHIN_S
    while last not in names(heard):
        assert time.monotonic() < ends_s, heard
        time.sleep(0.01)
    assert naming.end(WITHIN_S)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_track_that_is_two_peoples_is_told_once_of_each_over_a_kill(
    site: Site, lost: int
) -> None:
    sender = site.sender()
    sender.send([tracklet(1, first) for first in (0, 3, 6, 9)])
    link = site.hub()
    identify(site, site.receiving(link), last="gate/door/1/9")
    said = site.sightings.read_bytes().splitlines(keepends=True)
    assert len(said) == 3, "Anna is seen, has ended, Bert is seen"
    site.sightings.write_bytes(b"".join(said[: 3 - lost]))  # what the disk had when it was killed
    link.close()
    sender.send([tracklet(1, 12, is_last=True)])
    receiving = site.receiving(site.hub())
    identify(site, receiving, last="gate/door/1/12")
    contents = [json.loads(line)["content"] for line in site.sightings.open()]
    of_track = [each for each in contents if each["track_id"] == 1]
    assert [(each["identity"], each["event"], each["start_s"]) for each in of_track] == [
        ("Anna", "seen", 0.0),
        ("Anna", "ended", 0.0),
        ("Bert", "seen", 0.6),
        ("Bert", "ended", 0.6),
    ]
    assert max(Counter(each["id"] + each["event"] for each in contents).values()) == 1
    assert list(receiving.link.kept()) == []


def test_nothing_is_acknowledged_while_the_disk_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, link = site.sender(), site.hub()
    fails = iter([True, True])

    def acknowledge(keep: Sequence[Tracklet]) -> None:
        if next(fails, False):
            raise LinkError("the disk is full")
        ReceivingLink.acknowledge(link, keep)

    monkeypatch.setattr(link, "acknowledge", acknowledge)
    monkeypatch.setattr("pipeline.live.receiving._RETRY_S", 0.01)
    receiving = site.receiving(link)
    sender.send([tracklet(1, 0)])
    assert names(get(receiving, 1)) == ["gate/door/1/0"]
    assert next(fails, None) is None
    assert receiving.problem is None
    assert [names(each) for each in link.kept()] == [["gate/door/1/0"]]


def test_closing_wakes_who_waits(site: Site) -> None:
    receiving = site.receiving(site.hub())
    waiting = threading.Thread(target=receiving.get)
    waiting.start()
    receiving.close()
    waiting.join(WITHIN_S)
    assert (waiting.is_alive(), receiving.is_over, receiving.get()) == (False, True, [])


def test_sightings_that_cannot_be_read_are_not_told_over(site: Site) -> None:
    site.sender().send([tracklet(1, 0)])
    link = site.hub()
    receiving = site.receiving(link)
    get(receiving, 1)
    site.sightings.write_text("not one of ours\n")
    with pytest.raises(OutputError, match="move the file away"):
        receiving.told_before(site.sightings)
