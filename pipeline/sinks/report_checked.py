"""What the report says of identities whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.sinks.checked import Checked, CheckedPerson
from pipeline.sinks.drawing import identity_colour


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is right, and why not."""

    kind: Literal["right", "wrong", "open"]
    text: str


@dataclass(frozen=True, slots=True)
class Cell:
    """Who a person was taken for on one stream; `href` leads to that identity on the page."""

    text: str
    colour: str | None = None
    href: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One person of the truth."""

    person: str
    cells: list[Cell]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class CheckedCard:
    """Everything the page says of the truth."""

    streams: tuple[str, ...]
    num_asked: int
    num_right: int
    score: str | None
    rows: list[Row]


def checked_card(checked: Checked | None, shown: Sequence[str]) -> CheckedCard | None:
    """Return the page's part on the truth; None where nobody knows it.

    Args:
        checked: What is known.
        shown: The identities on the page, in the order of their cards.
    """
    if checked is None:
        return None
    places = {identity: f"#identity-{place}" for place, identity in enumerate(shown, start=1)}
    return CheckedCard(
        streams=checked.streams,
        num_asked=checked.num_asked,
        num_right=checked.num_right,
        score=None if checked.id_f1 is None else f"{checked.id_f1:.2f}",
        rows=[
            Row(
                each.person,
                [_cell(each, stream, places) for stream in checked.streams],
                _of_person(checked, each),
            )
            for each in sorted(checked.people, key=lambda each: (not each.is_asked, each.person))
        ],
    )


def _cell(person: CheckedPerson, stream: str, places: dict[str, str]) -> Cell:
    if stream not in person.identities:
        return Cell("not in view")
    identity = person.identities[stream]
    if identity is None:
        return Cell("not recognised")
    red, green, blue = identity_colour(identity)
    return Cell(identity, f"rgb({red} {green} {blue})", places.get(identity))


def _of_person(checked: Checked, person: CheckedPerson) -> Verdict:
    if person.is_right:
        return Verdict("right", "right") if person.is_asked else Verdict("open", "alone here")
    names = set(person.identities.values())
    others = sorted(
        {
            other.person
            for name in names - {None}
            for other in checked.owners(str(name))
            if other != person
        }
    )
    if others:
        return Verdict("wrong", f"mixed up with {', '.join(others)}")
    if None in names:
        return Verdict("wrong", "missed")
    if len(names) > 1:
        return Verdict("wrong", "not found again")
    return Verdict("wrong", "mixed up with somebody on another recording")


def verdict(checked: Checked | None, identity: str) -> Verdict | None:
    """Return whether an identity stands for one person; None where nobody knows.

    Args:
        checked: What is known.
        identity: As the gallery calls it.
    """
    owners = [] if checked is None else checked.owners(identity)
    if not owners:
        return None
    if len(owners) > 1:
        return Verdict("wrong", f"in truth {' and '.join(each.person for each in owners)}")
    [person] = owners
    if person.is_right:
        return Verdict("right" if person.is_asked else "open", f"in truth {person.person}")
    is_all_of_them = len(set(person.identities.values())) == 1
    return Verdict(
        "wrong",
        f"in truth {person.person}" + (" and somebody else" if is_all_of_them else ", in part"),
    )
