"""For how long each kind of data about people is kept."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from gait.strict import StrictModel

_DAY_S = 86400.0


class RetentionConfig(StrictModel):
    """For how many days data are kept; null keeps them for good.

    Higher lets questions be answered that come later, at the price of holding data about people
    for longer, which the law wants a reason for.

    Attributes:
        video_days: Annotated videos and recordings.
        silhouettes_days: Silhouettes and outlines: of the gallery, tracklets, masks, contact
            sheets, reports, and what waits on a link, which a live run purges alone.
        embeddings_days: Embeddings of the gallery, since they were stored, and tracklets that hold
            one. Who has none left is not recognised any more, and their enrolment goes, too.
        sightings_days: Who was where, when: files and databases of sightings, reports, tracks.
        pseudonyms_days: Everything about people who are known by a pseudonym only, since they
            were last seen.
    """

    video_days: float | None = Field(default=None, ge=0)
    silhouettes_days: float | None = Field(default=None, ge=0)
    embeddings_days: float | None = Field(default=None, ge=0)
    sightings_days: float | None = Field(default=None, ge=0)
    pseudonyms_days: float | None = Field(default=1.0, ge=0)

    def limits(self, now_s: float) -> Limits:
        """Return from which moments on data are kept, at the moment `now_s` (Unix time)."""
        since = {
            name.replace("_days", "_s"): None if days is None else now_s - days * _DAY_S
            for name, days in self.model_dump().items()
        }
        return Limits(now_s=now_s, **since)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is older goes; in seconds since 1970, None keeps all.

    Attributes:
        now_s: Enrolments that expire up to now go.
        video_s: Videos.
        silhouettes_s: Silhouettes.
        embeddings_s: Embeddings, and who has no other.
        sightings_s: Sightings.
        pseudonyms_s: People known by a pseudonym only.
    """

    now_s: float
    video_s: float | None = None
    silhouettes_s: float | None = None
    embeddings_s: float | None = None
    sightings_s: float | None = None
    pseudonyms_s: float | None = None
