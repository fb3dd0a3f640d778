"""checked.json: which identities of a run are right, where the truth about its people is known."""

from __future__ import annotations

from pydantic import ValidationError

from gait.strict import StrictModel
from pipeline.errors import OutputError
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.run import Text


class CheckedPerson(StrictModel):
    """One person of the truth.

    Attributes:
        person: Their name in the truth.
        identities: Stream on which they were long enough in view to be recognised, to the identity
            that most of their boxes there were given; None when none was.
        is_right: Whether it is one identity on all these streams, and nobody else's anywhere.
    """

    person: Text
    identities: dict[str, Text | None]
    is_right: bool

    @property
    def is_asked(self) -> bool:
        """Whether they were in view of several streams: else there is nothing to get right."""
        return len(self.identities) > 1


class Checked(StrictModel):
    """How right the identities of a run are.

    Attributes:
        streams: Those whose truth is known.
        id_f1: IDF1 over these streams (Ristani et al. 2016); None where nobody is.
        people: Everybody who was in view long enough, by name.
    """

    streams: tuple[Text, ...]
    id_f1: float | None
    people: tuple[CheckedPerson, ...]

    @property
    def num_asked(self) -> int:
        """People in view of several streams."""
        return sum(each.is_asked for each in self.people)

    @property
    def num_right(self) -> int:
        """Those of them who got one identity of their own."""
        return sum(each.is_asked and each.is_right for each in self.people)

    def owners(self, identity: str) -> list[CheckedPerson]:
        """Return the people who were given an identity."""
        return [each for each in self.people if identity in each.identities.values()]


def write_checked(folder: ResultsFolder, checked: Checked) -> None:
    """Write checked.json.

    Raises:
        OutputError: It cannot be written.
    """
    folder.write(folder.checked, checked.model_dump_json(indent=2).encode() + b"\n")


def read_checked(folder: ResultsFolder) -> Checked | None:
    """Return what checked.json says; None when there is none: the truth is rarely known.

    Raises:
        OutputError: It is damaged.
    """
    try:
        return Checked.model_validate_json(folder.checked.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise OutputError(f"{folder.checked}: cannot be read; delete it ({error})") from error
