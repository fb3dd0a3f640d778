"""The pictures of one identity on the report: silhouettes and the gait energy image."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.tracklet import Tracklet
from pipeline.errors import OutputError
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.tracklets import gait_energy_image, read_tracklet, silhouette_strip
from pipeline.values import Sighting

logger = logging.getLogger(__name__)

_STRIPS = 3
_STRIP_LENGTH = 12
_ZOOM = 1.25
_MOST_TRACKLETS = 8


@dataclass(frozen=True, slots=True)
class Strip:
    """Silhouettes of one walk: a data URL, what to write under it, and its width in CSS pixels."""

    png: str
    caption: str
    width: int


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of the silhouettes on one stream, as a data URL."""

    png: str
    stream: str
    num_silhouettes: int


@dataclass(frozen=True, slots=True)
class Portrait:
    """An identity's pictures; both are empty when no tracklet could be read."""

    means: tuple[Mean, ...]
    strips: tuple[Strip, ...]


def portrait(folder: ResultsFolder, sightings: Sequence[Sighting]) -> Portrait:
    """Return the pictures of an identity, from the best tracklets of up to 8 of its sightings.

    Sightings on different streams come first and each stream has a mean of its own, so that walks
    on two cameras can be compared.
    """
    chosen = _stored(folder, _by_variety(sightings)[:_MOST_TRACKLETS])
    streams = list(dict.fromkeys(tracklet.stream for tracklet in chosen))[:_STRIPS]
    means = tuple(_mean([t for t in chosen if t.stream == stream]) for stream in streams)
    return Portrait(means, tuple(_strip(tracklet) for tracklet in chosen[:_STRIPS]))


def _by_variety(sightings: Sequence[Sighting]) -> list[Sighting]:
    """The best sighting of each stream, best first, then the others."""
    ranked = sorted(sightings, key=lambda s: -s.quality)
    first = {s.stream: s for s in reversed(ranked)}
    leaders = sorted(first.values(), key=lambda s: -s.quality)
    return leaders + [s for s in ranked if first[s.stream] is not s]


def _stored(folder: ResultsFolder, sightings: Iterable[Sighting]) -> list[Tracklet]:
    """The middle tracklet of each sighting: there the whole person is usually in view."""
    found = []
    for sighting in sightings:
        if not sighting.tracklets:
            continue
        uid = sighting.tracklets[len(sighting.tracklets) // 2]
        try:
            tracklet = _read(folder, sighting, uid)
            if tracklet.offset:  # the first of a walk is a whole window, this may be one silhouette
                first = _read(folder, sighting, sighting.tracklets[0])
                tracklet = max(tracklet, first, key=len)
            found.append(tracklet)
        except (OutputError, OSError, ValueError) as error:
            logger.warning("tracklet %s is left out of the report: %s", uid, error)
    return found


def _read(folder: ResultsFolder, sighting: Sighting, uid: str) -> Tracklet:
    path = folder.stream(sighting.stream).tracklet(sighting.track_id, _first_frame(uid))
    return read_tracklet(path).tracklet


def _first_frame(uid: str) -> int:
    return int(uid.rpartition("/")[2])


def _mean(tracklets: Sequence[Tracklet]) -> Mean:
    silhouettes = np.concatenate([tracklet.silhouettes for tracklet in tracklets])
    png = _data_url(gait_energy_image(silhouettes))
    return Mean(png, tracklets[0].stream, len(silhouettes))


def _strip(tracklet: Tracklet) -> Strip:
    image = silhouette_strip(tracklet.silhouettes, _STRIP_LENGTH)
    caption = f"{tracklet.stream}, track {tracklet.track_id}"
    return Strip(_data_url(image), caption, width=round(_ZOOM * image.shape[1]))


def _data_url(image: NDArray[np.uint8]) -> str:
    _, png = cv2.imencode(".png", image)
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode()
