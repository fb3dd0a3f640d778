"""Silhouettes that wait on our disk: to be sent to another machine, or for their track to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.privacy.labels import Labels
from pipeline.privacy.limits import Limits
from pipeline.privacy.receipt import Removed, Tally

if TYPE_CHECKING:
    from pipeline.transport.zmq_link import ReceivingLink, SendingLink


@dataclass(frozen=True, slots=True)
class LinkPlace:
    """One end of a link, a `Place`; the caller closes it."""

    link: SendingLink | ReceivingLink
    gallery: str | None = None

    @property
    def name(self) -> str:
        """The link."""
        return f"link {self.link.endpoint}"

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove tracklets of which the last silhouette is too old."""
        if limits.silhouettes_s is None:
            return
        tally = Tally("silhouettes", self.name)
        for tracklet in self.link.drop_before(limits.silhouettes_s, is_dry_run=is_dry_run):
            tally.add(tracklet.uid.encode(), tracklet.last_seen_unix_s)
        if removed := tally.removed:
            yield removed

    def forget(
        self, labels: Labels, *, with_everybody: bool, is_dry_run: bool
    ) -> Iterator[Removed]:
        """Remove nothing: nobody knows yet who they are."""
        return iter(())
