"""How `trackletgait gallery` prints people, what is kept of them, and what a search found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.table import Table

from pipeline.commands.console import Console

if TYPE_CHECKING:
    from pipeline.gallery.decision import Limit
    from pipeline.gallery.enrolment import Walk
    from pipeline.gallery.exemplar import Identity
    from pipeline.gallery.lookup import Answer
    from pipeline.gallery.records import Kept, Person


def say(text: str) -> None:
    """Print a line of text as it is."""
    _print(escape(text))


def people_text(count: int) -> str:
    """Return how many people are what comes next, in words."""
    return "1 person is" if count == 1 else f"{count} people are"


def print_json(value: object) -> None:
    """Print one JSON value, for programs."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_enrolled(person: Person, walks: Sequence[Walk]) -> None:
    """Print by what somebody is known now, and from which walks."""
    who = person.identity
    say(
        f"{who.label} ({who.pseudonym}) is known by {person.num_exemplars} tracklets now; given: "
        f"{'; '.join(walk.description for walk in walks)}"
    )


def print_people(people: Sequence[Person]) -> None:
    """Print a line for each person."""
    table = _table("who", "known as", "tracklets", "with silhouettes", "since", "expires", "basis")
    for person in people:
        known = person.enrolment
        table.add_row(
            escape(person.identity.label),
            escape(person.identity.pseudonym) if person.identity.name else "",
            str(person.num_exemplars),
            str(person.num_with_silhouettes),
            _day(person.enrolled_s or person.created_s),
            _day(known.expires_s if known else None),
            escape(known.basis if known else ""),
        )
    _print(table if people else "The gallery is empty.")


def print_person(person: Person, kept: Sequence[Kept]) -> None:
    """Print all that is known of somebody, and a line for each exemplar."""
    known = person.enrolment
    rows = {
        "Who": person.identity.label,
        "Pseudonym": person.identity.pseudonym,
        "In the gallery since": _day(person.created_s),
        "Basis": known and known.basis,
        "Purpose": known and known.purpose,
        "Enrolled by": known and known.by,
        "Enrolled": _day(person.enrolled_s),
        "Expires": _day(known.expires_s if known else None),
    }
    for title, text in rows.items():
        if text:
            _print(f"{title + ':':22}{escape(text)}")
    table = _table("key", "tracklet", "silhouettes", "kept", "quality", "written")
    for each in kept:
        table.add_row(
            str(each.id),
            escape(each.tracklet_uid),
            str(each.num_silhouettes),
            "yes" if each.has_silhouettes else "no",
            f"{each.quality:.2f}",
            _day(each.created_s),
        )
    _print(table)


def print_answers(answers: Sequence[Answer], limit: Limit | None) -> None:
    """Print who the people of a video may be."""
    from pipeline.sinks.sightings import clock_text

    table = _table("track", "from", "to", "tracklets", "who", "next")
    for answer in answers:
        walk = answer.walk
        near = [_near(identity, distance) for identity, distance in answer.nearest]
        is_known = near and (limit is None or answer.nearest[0][1] <= limit.distance)
        table.add_row(
            escape(f"{walk.stream}/{walk.track_id}"),
            clock_text(walk.seen_s[0]),
            clock_text(walk.seen_s[1]),
            str(len(walk.tracklets)),
            near[0] if is_known else "nobody known",
            ", ".join(near[1:] if is_known else near),
        )
    _print(table if answers else "Nobody on it walks long enough to be recognised.")
    if limit is not None:
        _print(
            f"Within a distance of {limit.distance:.2f} ({escape(limit.name)}) somebody is taken "
            f"for known."
        )


def person_data(person: Person) -> dict[str, Any]:
    """Return somebody as JSON."""
    data = asdict(person)
    return {**data.pop("identity"), **data}


def kept_data(kept: Kept) -> dict[str, Any]:
    """Return what is known of an exemplar as JSON, without what it looks like."""
    left_out = {"embedding", "silhouettes"}
    return {name: getattr(kept, name) for name in kept.__slots__ if name not in left_out}


def answer_data(answer: Answer, limit: Limit | None) -> dict[str, Any]:
    """Return who somebody may be as JSON."""
    walk = answer.walk
    return {
        "stream": walk.stream,
        "track_id": walk.track_id,
        "start_s": walk.seen_s[0],
        "end_s": walk.seen_s[1],
        "num_tracklets": len(walk.tracklets),
        "threshold": None if limit is None else limit.distance,
        "nearest": [
            {**asdict(identity), "distance": distance} for identity, distance in answer.nearest
        ],
    }


def _near(identity: Identity, distance: float) -> str:
    return f"{escape(identity.label)} ({distance:.2f})"


def _day(unix_s: float | None) -> str:
    if unix_s is None:
        return ""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M} UTC"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(what: Table | str) -> None:
    Console(highlight=False).print(what, soft_wrap=isinstance(what, str))
