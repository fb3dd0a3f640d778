"""sightings.jsonl: who was where, when, a line each."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from gait.closing import Closing
from pipeline.sinks.folder import LineFile, ResultsFolder, clean_text
from pipeline.values import Explanation, Sighting, Window

logger = logging.getLogger(__name__)


class SightingLog(Closing):
    """Writes each sighting as one JSON line that reaches the disk's cache at once.

    Args:
        folder: The results folder.

    Raises:
        OutputError: The file cannot be made.
    """

    def __init__(self, folder: ResultsFolder) -> None:
        self._file = LineFile(folder, folder.sightings)

    def write(self, sighting: Sighting) -> None:
        """Append one sighting.

        Raises:
            OutputError: There is no room; the sightings before are safe.
        """
        self._file.write(json.dumps(_as_json(sighting), ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_sightings(path: Path) -> list[Sighting]:
    """Return the sightings of a file; a damaged line is left out with a warning.

    One that was revised is returned as it is now, in its old place.

    Where `trackletgait purge` took a sighting out, an empty object is left.

    Raises:
        OSError: The file is missing or unreadable.
    """
    sightings: list[Sighting] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() == "{}":
                continue
            try:
                take(sightings, _from_json(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                logger.warning("%s: line %d is damaged and left out: %s", path, number, error)
    return sightings


def take(sightings: list[Sighting], new: Sighting) -> None:
    """Append a sighting, or put a revised one in the place of what it revises."""
    for at in range(len(sightings) - 1, -1, -1) if new.is_revision else ():
        old = sightings[at]
        if (old.stream, old.track_id, old.start_s) == (new.stream, new.track_id, new.start_s):
            sightings[at] = new
            return
    sightings.append(new)


def clock_text(seconds: float) -> str:
    """Return a moment as people read it: 0:12.3, 1:02:03.4."""
    tenths = round(abs(seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if seconds < 0 and tenths else ""
    clock = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{sign}{clock}:{rest // 10:02d}.{rest % 10}"


def _as_json(sighting: Sighting) -> dict[str, object]:
    identity = sighting.identity
    why = sighting.explanation
    return {
        "identity": None if identity is None else clean_text(identity),
        "stream": clean_text(sighting.stream),
        "track_id": sighting.track_id,
        "start_s": round(sighting.start_s, 3),
        "end_s": round(sighting.end_s, 3),
        "start": clock_text(sighting.start_s),
        "end": clock_text(sighting.end_s),
        "distance": sighting.distance,
        "is_new": sighting.is_new,
        "quality": round(sighting.quality, 4),
        "num_silhouettes": sighting.num_silhouettes,
        "tracklets": [clean_text(uid) for uid in sighting.tracklets],
        "reasons": dict(sighting.reasons),
        "probability": None if sighting.probability is None else round(sighting.probability, 4),
        **({} if why is None else {"explanation": _explanation_as_json(why)}),
        **({"was": clean_text(sighting.was or "")} if sighting.is_revision else {}),
    }


def _explanation_as_json(why: Explanation) -> dict[str, object]:
    return {
        "parts": [round(part, 4) for part in why.parts],
        "exemplar": clean_text(why.exemplar),
        "stream": clean_text(why.stream),
        "times_s": [round(time_s, 3) for time_s in why.times_s],
        "windows": [
            {
                "uid": clean_text(window.uid),
                "distance": round(window.distance, 4),
                "weight": round(window.weight, 4),
            }
            for window in why.windows
        ],
    }


def _explanation_from_json(data: dict[str, Any]) -> Explanation:
    first, last = data["times_s"]
    return Explanation(
        parts=tuple(data["parts"]),
        exemplar=data["exemplar"],
        stream=data["stream"],
        times_s=(first, last),
        windows=tuple(Window(w["uid"], w["distance"], w["weight"]) for w in data["windows"]),
    )


def _from_json(line: str) -> Sighting:
    data = json.loads(line)
    return Sighting(
        identity=data["identity"],
        stream=data["stream"],
        track_id=data["track_id"],
        start_s=data["start_s"],
        end_s=data["end_s"],
        distance=data["distance"],
        is_new=data["is_new"],
        quality=data["quality"],
        num_silhouettes=data["num_silhouettes"],
        tracklets=tuple(data["tracklets"]),
        reasons=tuple(sorted(data["reasons"].items())),
        probability=data.get("probability"),  # not in results of before there were any
        explanation=_explanation_from_json(data["explanation"]) if "explanation" in data else None,
        is_revision="was" in data,
        was=data.get("was") or None,
    )
