"""Were the identities of a run right? A results folder against the truth, where it is known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence

import numpy as np

from pipeline.evaluation.boxes import NOBODY, Boxes, whom_tracks_followed, without_ignored
from pipeline.evaluation.identity import id_score
from pipeline.evaluation.scene import CameraTruth
from pipeline.sinks.checked import Checked, CheckedPerson
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.recorder import read_record
from pipeline.sinks.sightings import read_sightings
from pipeline.values import Sighting

MIN_FRAMES = 15
"""Frames a person must be visible in on a stream to be asked for there: a tracklet's least."""

_Identities = dict[str, dict[str, str | None]]


def check(folder: ResultsFolder, truth: Mapping[str, CameraTruth]) -> Checked:
    """Return how right the identities in a results folder are.

    Args:
        folder: Of a run that has ended.
        truth: Stream to who is where on it. These people are taken to be nowhere else: an identity
            of theirs on another stream is wrong.

    Raises:
        OSError: The folder's files cannot be read.
    """
    sightings = read_sightings(folder.sightings)
    found = {stream: _recorded(folder, stream) for stream in truth}
    counted = {stream: camera.counted()[0] for stream, camera in truth.items()}
    for stream, camera in truth.items():
        found[stream] = found[stream][without_ignored(*camera.counted(), found[stream])]
    score = id_score(counted, _named(found, sightings))
    return Checked(
        streams=tuple(truth),
        id_f1=None if np.isnan(score.f1) else round(score.f1, 4),
        people=_people(_identities(counted, found, sightings), _elsewhere(sightings, truth)),
    )


def _recorded(folder: ResultsFolder, stream: str) -> Boxes:
    return Boxes.of(
        (frame.index, str(track.track_id), track.xyxy.tolist())
        for frame in read_record(folder.stream(stream).masks)
        for track in frame.tracks
    )


def _named(found: Mapping[str, Boxes], sightings: Sequence[Sighting]) -> dict[str, Boxes]:
    """Return the boxes under the identities of their tracks."""
    names = {(s.stream, str(s.track_id)): s.identity or NOBODY for s in sightings}
    return {
        stream: boxes.named(
            np.array([names.get((stream, t), NOBODY) for t in boxes.who.tolist()], dtype=np.str_)
        )
        for stream, boxes in found.items()
    }


def _identities(
    truth: Mapping[str, Boxes], found: Mapping[str, Boxes], sightings: Sequence[Sighting]
) -> _Identities:
    """Return person to stream to the identity that most of their boxes there were given."""
    names = {(s.stream, str(s.track_id)): s.identity for s in sightings}
    identities: _Identities = defaultdict(dict)
    for stream, boxes in truth.items():
        given: dict[str, Counter[str | None]] = defaultdict(Counter)
        for track, followed in whom_tracks_followed(boxes, found[stream]).items():
            given[followed.person][names.get((stream, track))] += followed.own
        for person, frames in Counter(boxes.who.tolist()).items():
            if frames >= MIN_FRAMES:
                most = given[person].most_common(1)
                identities[person][stream] = most[0][0] if most else None
    return identities


def _elsewhere(sightings: Sequence[Sighting], streams: Container[str]) -> set[str | None]:
    """Return the identities of people who are on other streams."""
    return {s.identity for s in sightings if s.stream not in streams}


def _people(identities: _Identities, elsewhere: Container[str | None]) -> tuple[CheckedPerson, ...]:
    owners = Counter(name for of_person in identities.values() for name in set(of_person.values()))
    return tuple(
        CheckedPerson(
            person=person,
            identities=of_person,
            is_right=len(names := set(of_person.values())) == 1
            and None not in names
            and all(owners[name] == 1 and name not in elsewhere for name in names),
        )
        for person, of_person in sorted(identities.items())
    )
