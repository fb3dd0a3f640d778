"""What one person is called, and where that is their name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.errors import PrivacyError


class UnclearGallery(PrivacyError):
    """Data name a pseudonym, and do not say of which of several galleries."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What one person is called: by a name everywhere, by a pseudonym where its gallery gave it.

    `person-001` of another gallery is somebody else.

    Attributes:
        names: Theirs wherever they stand.
        pseudonyms: Theirs in the data of each gallery, by its uid.
    """

    names: frozenset[str] = frozenset()
    pseudonyms: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def all(self) -> frozenset[str]:
        """All of them, each of which may also be somebody else's."""
        return self.names.union(*self.pseudonyms.values())

    def are_among(self, values: Iterable[object], gallery: str | None) -> bool:
        """Return whether one of some values names them.

        Args:
            values: Texts, and others, which name nobody.
            gallery: Uid of the gallery whose pseudonyms these are; None where nobody says.

        Raises:
            UnclearGallery: Nobody says, and it may as well name somebody else.
        """
        found = self.all.intersection(each for each in values if isinstance(each, str))
        if not found or found & self.names:
            return bool(found)
        if gallery is not None:
            return bool(found & self.pseudonyms.get(gallery, frozenset()))
        if len(self.pseudonyms) > 1:
            raise UnclearGallery(
                f"it does not say of which gallery {', '.join(sorted(found))} is: give one gallery "
                "at a time, with what its runs wrote"
            )
        return True
