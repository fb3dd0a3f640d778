"""Folders, files and galleries with somebody in them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gait.tracklet import Tracklet
from pipeline.gallery.exemplar import Enrolment, Exemplar
from pipeline.gallery.store import GalleryStore
from pipeline.recording.clip import ClipRecord, TrackOnClip
from pipeline.sinks.folder import MARKER, ResultsFolder
from pipeline.sinks.jsonl import JsonlSink
from pipeline.sinks.live import Event
from pipeline.sinks.sightings import SightingLog
from pipeline.sinks.tracklets import TrackletStore
from pipeline.values import Sighting

DAY_S = 86400.0
NOW_S = 2.0e9


def event(days_old: float = 0.0, identity: str = "person-001", **more: object) -> Event:
    """Return a live sighting."""
    content = {"event": "ended", "identity": identity, "camera": "gate", "is_new": False}
    return Event("sighting", NOW_S - days_old * DAY_S, {**content, **more})  # type: ignore[dict-item]


def kill_while(action: Callable[[], object], after_s: float) -> None:
    """Do something in a process of its own that is killed so many seconds later."""
    process = os.fork()
    if not process:
        try:
            action()
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def make_old(path: Path, days: float) -> Path:
    """Give a file the age of so many days."""
    os.utime(path, (NOW_S - days * DAY_S,) * 2)
    return path


def make_tracklet(track_id: int = 1, stream: str = "door") -> Tracklet:
    indices = np.arange(30, dtype=np.int64)
    return Tracklet(
        stream=stream,
        track_id=track_id,
        silhouettes=np.full((30, 64, 44), 255, dtype=np.uint8),
        frame_indices=indices,
        times_s=indices / 10,
        seen_s=(0.0, 3.0),
        quality=1.0,
    )


def make_exemplar(track_id: int = 1) -> Exemplar:
    embedding = np.full((256, 16), track_id, dtype=np.float32)
    return Exemplar.of(make_tracklet(track_id), embedding)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What `trackletgait process` leaves: person-001 at the door, person-002 at the yard."""
    folder = ResultsFolder.create(tmp_path / "results", room_bytes=0)
    tracklets = TrackletStore(folder)
    with SightingLog(folder) as log:
        for number, stream in enumerate(("door", "yard"), start=1):
            who = f"person-{number:03d}"
            log.write(Sighting(who, stream, number, 0.0, 3.0, None, True, 1.0, 30, ("a",), ()))
            tracklets.write(make_tracklet(number, stream), identity=who)
            files = folder.make_stream(stream)
            files.video.write_bytes(f"video of {stream}".encode())
            files.masks.write_text('{"frame": 0, "tracks": []}\n')
            files.tracks.write_text("1,1,0,0,9,9,1,-1,-1,-1\n")
    folder.report.write_text("person-001 and person-002")
    (folder.path / "run.json").write_text("{}")
    return folder.path


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """What a live run leaves: sightings of ten days, a clip a person."""
    folder = tmp_path / "live"
    folder.mkdir()
    (folder / MARKER).touch()
    with JsonlSink(folder / "sightings.jsonl") as sink:
        sink.write([event(10 - day, f"person-{day % 2 + 1:03d}") for day in range(10)])
    for number in (1, 2):
        clip = folder / "clips" / "gate" / f"2026112{number}T081803.123Z.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(b"clip")
        track = TrackOnClip(
            track_id=1, start_unix_s=1.0, end_unix_s=2.0, identity=f"person-{number:03d}"
        )
        record = ClipRecord(
            camera="gate",
            file=clip.name,
            start_unix_s=1.0,
            end_unix_s=2.0,
            width=64,
            height=48,
            codec="mpeg4",
            annotated=True,
            tracks=(track,),
        )
        clip.with_suffix(".json").write_text(record.model_dump_json())
    return folder


@pytest.fixture
def open_gallery(tmp_path: Path) -> Iterator[Callable[..., GalleryStore]]:
    """Opens tmp_path/people.gallery at a moment; closes it."""
    stores = []

    def opened(days_old: float = 0.0, **more: object) -> GalleryStore:
        store = GalleryStore(
            tmp_path / "people.gallery",
            model_hash="0" * 64,
            keep_silhouettes=True,
            clock=lambda: NOW_S - days_old * DAY_S,
            **more,  # type: ignore[arg-type]
        )
        stores.append(store)
        return store

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def gallery(open_gallery: Callable[..., GalleryStore]) -> GalleryStore:
    """Anna, enrolled 9 days ago for ever; Bert, till yesterday; two pseudonyms, one of today."""
    with open_gallery(9.0) as store:
        store.enrol("Anna", [make_exemplar(1)], Enrolment(basis="consent"))
        expires_s = NOW_S - DAY_S
        store.enrol("Bert", [make_exemplar(2)], Enrolment(basis="consent", expires_s=expires_s))
    with open_gallery(2.0) as store:
        store.found(make_exemplar(3))
    store = open_gallery()
    store.found(make_exemplar(4))
    return store
