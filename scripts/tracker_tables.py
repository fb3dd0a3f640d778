"""The tables of docs/trackers-evaluated.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gait.data.atomic import write_atomically
from gait.errors import DataError
from pipeline.evaluation.tracking_folder import MotBoxes
from pipeline.evaluation.tracking_scores import Tally
from trackers.association import iou_matrix


@dataclass
class Ran:
    """What a tracker did to the scenes."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    boxes: dict[str, MotBoxes] = field(default_factory=dict)


def totalled(tallies: Iterable[Tally]) -> Tally:
    """Return one tally of several."""
    total = Tally()
    for each in tallies:
        total = total + each
    return total


def accuracy_table(ran: Mapping[str, Ran]) -> list[str]:
    """Return a table of scores, best HOTA first."""
    head = ["tracker", "HOTA", "AssA", "IDF1", "MOTA", "switches", "tracks", "purity"]
    head += ["pure 2 s", "pure 4 s", "pure 8 s", "usable s"]
    totals = {name: totalled(one.tallies.values()) for name, one in ran.items()}
    rows = []
    for name, t in sorted(totals.items(), key=lambda item: -item[1].hota):
        shares = [f"{100 * v:.1f}" for v in (t.hota, t.ass_a, t.idf1, t.mota)]
        pure = [f"{100 * v:.1f}" for v in (t.purity, *map(t.pure_share, (2.0, 4.0, 8.0)))]
        usable = f"{t.usable_s_per_person:.2f}"
        rows.append([_bold(name), *shares, f"{t.switches}", f"{t.tracks}", *pure, usable])
    return table(head, rows)


def clip_table(ran: Mapping[str, Ran], labels: Mapping[str, Any]) -> list[str]:
    """Return a table of ids and purity on the real clip, fewest ids first."""
    head = ("tracker", "ids", "ids a person", "found", "purity", "pure 4 s", "median length")
    rows = []
    for name, one in ran.items():
        boxes = one.boxes["vtest"]
        lengths = np.unique(boxes.ids, return_counts=True)[1]
        track = _tracks_of(boxes, labels)
        people = labels["person"]
        own = {t: _commonest(people[track == t]) for t in set(track[track >= 0].tolist())}
        purity = sum(n for _, n in own.values()) / max(1, int((track >= 0).sum()))
        ids = np.mean([len(set(track[(people == p) & (track >= 0)])) for p in set(people.tolist())])
        long = _pure_share(boxes, track, people, own)
        figures = f"{ids:.2f}", f"{100 * (track >= 0).mean():.1f}", f"{100 * purity:.1f}"
        median = f"{np.median(lengths) / 10:.1f} s"
        rows.append([_bold(name), f"{len(lengths)}", *figures, f"{100 * long:.1f}", median])
    return table(head, sorted(rows, key=lambda row: int(row[1])))


def _tracks_of(boxes: MotBoxes, labels: Mapping[str, Any]) -> Any:
    """Return the track on each labelled box, -1 where there is none."""
    tracks = []
    for frame, box in zip(labels["frame"].tolist(), labels["xyxy"].astype(float), strict=True):
        rows = np.flatnonzero(boxes.frames == frame)
        overlap = iou_matrix(box[None], boxes.xyxy[rows])[0]
        is_on = len(rows) > 0 and overlap.max() >= 0.45
        tracks.append(boxes.ids[rows[overlap.argmax()]] if is_on else -1)
    return np.array(tracks)


def _pure_share(boxes: MotBoxes, track: Any, people: Any, own: Mapping[int, Any]) -> float:
    """Return the share of labelled boxes in tracks of 4 s or more on which all labels agree."""
    good = [
        t
        for t, (person, count) in own.items()
        if count == (track == t).sum() and (boxes.ids == t).sum() >= 40
    ]
    return float(np.isin(track, good).mean())


def _commonest(names: Any) -> tuple[str, int]:
    values, counts = np.unique(names, return_counts=True)
    return str(values[counts.argmax()]), int(counts.max())


def speed_table(
    times: Mapping[str, Sequence[float]], people: Sequence[int], boxes: Sequence[float]
) -> list[str]:
    """Return a table of microseconds, fastest first."""
    head = ["tracker", *(f"{n} people ({b:.0f} boxes)" for n, b in zip(people, boxes, strict=True))]
    rows = sorted(times.items(), key=lambda item: item[1][-1])
    return table(head, [[_bold(name), *(f"{us:.0f}" for us in each)] for name, each in rows])


def _bold(name: str) -> str:
    return f"**{name}**" if name.startswith("our") else name


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def write_section(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between a page's markers.

    Raises:
        DataError: The page has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise DataError(f"{page}: expected the markers of {name}")
    text = "\n".join([before + begin, *lines, "", end + after])
    write_atomically(page, text.encode())
