"""report.html: one self-contained page that says who was where, when, rebuilt from the folder."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import jinja2

from pipeline.sinks.checked import Checked, read_checked
from pipeline.sinks.drawing import identity_colour
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.portrait import Portrait, portrait
from pipeline.sinks.report_checked import Verdict, checked_card, verdict
from pipeline.sinks.run import RunRecord, StageSpeed, StreamReport, read_run
from pipeline.sinks.sightings import clock_text, read_sightings
from pipeline.values import Sighting

MOST_IDENTITIES = 60
MOST_SIGHTINGS = 12
_MOST_BARS = 200
_MOST_STREAMS = 40
_MIN_BAR_PERCENT = 0.7
_BINS = 10
_REASONS = {
    "no_mask": "no outline was found in the box",
    "no_pixels": "the outline was all but empty",
    "no_centre": "the outline was too thin or cut off at its left",
    "touches_edge": "partly outside the picture",
    "too_small": "too far away, too few pixels high",
    "aspect": "not the shape of somebody walking",
    "area_jump": "the outline changed size suddenly",
    "occluded": "hidden by somebody else",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the time axis, in seconds on the streams' clocks."""

    start_s: float
    end_s: float

    def percent(self, time_s: float) -> float:
        """Where a moment lies on the axis, 0..100."""
        share = (time_s - self.start_s) / (self.end_s - self.start_s)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Round moments, about six, as (percent, label)."""
        length = self.end_s - self.start_s
        steps = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
        step = next((s for s in steps if length / s <= 7), 3600 * math.ceil(length / 3600 / 6))
        first = math.ceil(self.start_s / step)
        moments = [i * step for i in range(first, int(self.end_s // step) + 1)]
        return [(self.percent(t), clock_text(t).removesuffix(".0")) for t in moments]


@dataclass(frozen=True, slots=True)
class Bar:
    """One sighting on a timeline; `href` leads to the moment in the video, if there is one."""

    x: float
    width: float
    href: str | None
    title: str


@dataclass(frozen=True, slots=True)
class SightingRow:
    """One sighting in a table."""

    stream: str
    start: str
    end: str
    duration: str
    quality: float
    distance: float | None
    note: str
    href: str | None


@dataclass(frozen=True, slots=True)
class IdentityCard:
    """Everything the page says of one identity; `verdict` only where the truth is known."""

    name: str
    colour: str
    summary: str
    timeline: list[tuple[str, list[Bar]]]
    portrait: Portrait
    rows: list[SightingRow]
    more: int
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class StreamCard:
    """Everything the page says of one recording."""

    report: StreamReport
    facts: list[tuple[str, str]]
    histogram: list[tuple[float, int]]
    reasons: list[tuple[str, int]]
    links: list[tuple[str, str]]


def write_report(folder: ResultsFolder) -> Path:
    """Write report.html from run.json, sightings.jsonl, checked.json and the tracklets.

    The page loads nothing from anywhere; its links to the videos are relative. Its size is bounded:
    beyond 60 identities and 12 sightings each it says how many more there are.

    Returns:
        The page's path.

    Raises:
        OutputError: run.json is missing or damaged, or the page cannot be written.
    """
    run = read_run(folder)
    sightings = read_sightings(folder.sightings) if folder.sightings.exists() else []
    page = _template().render(_page(folder, run, sightings, read_checked(folder)))
    folder.write(folder.report, page.encode("utf-8", "replace"))
    return folder.report


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.sinks", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _page(
    folder: ResultsFolder, run: RunRecord, sightings: Sequence[Sighting], checked: Checked | None
) -> dict[str, object]:
    by_identity = _by_identity(sightings)
    span = _span(run, sightings)
    streams = {stream.name: stream for stream in run.streams}
    unnamed = [s for s in sightings if s.identity is None]
    brief = [s for s in unnamed if s.num_silhouettes == 0]
    longest = sorted(brief, key=lambda s: s.start_s - s.end_s)
    return {
        "run": run,
        "headline": _headline(len(by_identity), run),
        "problems": [s for s in run.streams if s.problem][:_MOST_STREAMS],
        "tiles": _tiles(by_identity, run, sightings),
        "checked": checked_card(checked, list(by_identity)[:MOST_IDENTITIES]),
        "cards": [
            _card(folder, identity, own, streams, span, checked)
            for identity, own in list(by_identity.items())[:MOST_IDENTITIES]
        ],
        "more_identities": max(0, len(by_identity) - MOST_IDENTITIES),
        "ticks": span.ticks(),
        "num_brief": len(brief),
        "brief_reasons": _reasons_in_words(brief),
        "brief_rows": _rows(longest, streams),
        "more_brief": max(0, len(brief) - MOST_SIGHTINGS),
        "num_strangers": len(unnamed) - len(brief),
        "stranger_rows": _rows([s for s in unnamed if s.num_silhouettes], streams),
        "streams": [_stream_card(s, sightings) for s in run.streams[:_MOST_STREAMS]],
        "more_streams": max(0, len(run.streams) - _MOST_STREAMS),
        "stages": [(stage, _pace(stage)) for stage in run.stages],
        "config": json.dumps(run.config, indent=2, ensure_ascii=False),
        "duration": None if run.seconds is None else _length(run.seconds),
    }


def _by_identity(sightings: Iterable[Sighting]) -> dict[str, list[Sighting]]:
    """Those seen on most streams first, then those seen longest."""
    groups: dict[str, list[Sighting]] = defaultdict(list)
    for sighting in sorted(sightings, key=lambda s: (s.stream, s.start_s)):
        if sighting.identity is not None:
            groups[sighting.identity].append(sighting)

    def weight(item: tuple[str, list[Sighting]]) -> tuple[int, float, str]:
        return -len({s.stream for s in item[1]}), -_seconds(item[1]), item[0]

    return dict(sorted(groups.items(), key=weight))


def _seconds(sightings: Iterable[Sighting]) -> float:
    return sum(s.end_s - s.start_s for s in sightings)


def _headline(people: int, run: RunRecord) -> str:
    recordings = _count(len(run.streams), "recording")
    if not people:
        return f"Nobody was recognised on {recordings}"
    verb = "was" if people == 1 else "were"
    source = "" if run.encoder_is_trained else ", says an untrained encoder"
    return f"{_count(people, 'person', 'people')} {verb} seen on {recordings}{source}"


def _tiles(
    by_identity: dict[str, list[Sighting]], run: RunRecord, sightings: Sequence[Sighting]
) -> list[tuple[str, str]]:
    watched = sum(stream.to_s - stream.from_s for stream in run.streams)
    tiles = [(_length(watched), "of video watched")]
    if by_identity:
        tiles += _identity_tiles(by_identity, run, sightings)
    nameless = sum(s.identity is None for s in sightings)
    return [*tiles, _tile(nameless, "track without an identity", "tracks without an identity")]


def _identity_tiles(
    by_identity: dict[str, list[Sighting]], run: RunRecord, sightings: Sequence[Sighting]
) -> list[tuple[str, str]]:
    several = sum(len({s.stream for s in own}) > 1 for own in by_identity.values())
    again = sum(len(own) > 1 for own in by_identity.values())
    named = sum(s.identity is not None for s in sightings)
    tiles = [
        _tile(named, "sighting with an identity", "sightings with an identity"),
        _tile(again, "person seen more than once", "people seen more than once"),
    ]
    if len(run.streams) > 1:
        tiles.append(
            _tile(several, "person seen on several recordings", "people seen on several recordings")
        )
    return tiles


def _tile(number: int, one: str, many: str) -> tuple[str, str]:
    return str(number), one if number == 1 else many


def _span(run: RunRecord, sightings: Sequence[Sighting]) -> Span:
    starts = [s.from_s for s in run.streams if s.frames] + [s.start_s for s in sightings]
    ends = [s.to_s for s in run.streams if s.frames] + [s.end_s for s in sightings]
    start, end = min(starts, default=0.0), max(ends, default=1.0)
    return Span(start, max(end, start + 0.1))


def _card(
    folder: ResultsFolder,
    identity: str,
    sightings: Sequence[Sighting],
    streams: dict[str, StreamReport],
    span: Span,
    checked: Checked | None,
) -> IdentityCard:
    timeline: dict[str, list[Bar]] = defaultdict(list)
    for sighting in sightings[:_MOST_BARS]:
        timeline[sighting.stream].append(_bar(sighting, streams, span))
    on = _count(len({s.stream for s in sightings}), "recording")
    times = _count(len(sightings), "sighting")
    red, green, blue = identity_colour(identity)
    return IdentityCard(
        name=identity,
        colour=f"rgb({red} {green} {blue})",
        summary=f"{times} on {on}, {_length(_seconds(sightings))} in view",
        timeline=sorted(timeline.items()),
        portrait=portrait(folder, sightings),
        rows=_rows(sightings, streams),
        more=max(0, len(sightings) - MOST_SIGHTINGS),
        verdict=verdict(checked, identity),
    )


def _bar(sighting: Sighting, streams: dict[str, StreamReport], span: Span) -> Bar:
    left, right = span.percent(sighting.start_s), span.percent(sighting.end_s)
    width = max(_MIN_BAR_PERCENT, right - left)
    return Bar(
        x=round(min(left, 100 - width), 2),
        width=round(width, 2),
        href=_moment(sighting, streams),
        title=f"{sighting.stream}, track {sighting.track_id}: "
        f"{clock_text(sighting.start_s)} to {clock_text(sighting.end_s)}",
    )


def _moment(sighting: Sighting, streams: dict[str, StreamReport]) -> str | None:
    stream = streams.get(sighting.stream)
    if stream is None or stream.video_start_s is None:
        return None
    second = max(0.0, sighting.start_s - stream.video_start_s)
    return f"{quote(stream.folder)}/annotated.mp4#t={second:.1f}"


def _rows(sightings: Sequence[Sighting], streams: dict[str, StreamReport]) -> list[SightingRow]:
    return [
        SightingRow(
            stream=s.stream,
            start=clock_text(s.start_s),
            end=clock_text(s.end_s),
            duration=_length(s.end_s - s.start_s),
            quality=s.quality,
            distance=s.distance,
            note="first seen here" if s.is_new else "",
            href=_moment(s, streams),
        )
        for s in sightings[:MOST_SIGHTINGS]
    ]


def _stream_card(stream: StreamReport, sightings: Sequence[Sighting]) -> StreamCard:
    own = [s for s in sightings if s.stream == stream.name]
    facts = [
        ("Picture", f"{stream.width} × {stream.height}" if stream.width else "none"),
        ("Frame rate", "not stated" if stream.fps is None else f"{stream.fps:.4g} fps"),
        ("Length", "not stated" if stream.duration_s is None else _length(stream.duration_s)),
        ("Processed", f"{stream.frames} frames"),
        ("People", f"{stream.people} identities from {stream.tracks} tracks"),
    ]
    if stream.seconds:
        facts.insert(4, ("Speed", f"{stream.frames / stream.seconds:.1f} fps"))
    folder = quote(stream.folder)
    links = [(f"{folder}/tracks.mot.txt", "boxes"), (f"{folder}/tracklets/", "contact sheets")]
    if stream.video_start_s is not None:
        links.insert(0, (f"{folder}/annotated.mp4", "annotated video"))
    return StreamCard(stream, facts, _histogram(own), _reasons_in_words(own), links)


def _histogram(sightings: Iterable[Sighting]) -> list[tuple[float, int]]:
    """Tracks per tenth of quality, as (percent of the highest column, count); empty without any."""
    bins = Counter(
        min(_BINS - 1, int(s.quality * _BINS)) for s in sightings if s.num_silhouettes > 0
    )
    top = max(bins.values(), default=0)
    return [(100 * bins[i] / top, bins[i]) for i in range(_BINS)] if top else []


def _reasons_in_words(sightings: Iterable[Sighting]) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for sighting in sightings:
        counts.update(dict(sighting.reasons))
    return [(_REASONS.get(code, code.replace("_", " ")), n) for code, n in counts.most_common()]


def _pace(stage: StageSpeed) -> str:
    return f"{1000 * stage.seconds / stage.items:.1f} ms" if stage.items else ""


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _length(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
