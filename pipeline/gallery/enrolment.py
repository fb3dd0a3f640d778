"""From videos, or tracklets of a results folder, to the walks somebody is enrolled by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gait.tracklet import Tracklet
from pipeline.config import PipelineConfig
from pipeline.errors import GalleryError, OutputError, SourceError
from pipeline.file_run import FileRun, Progress
from pipeline.gallery.exemplar import Exemplar
from pipeline.sinks.sightings import clock_text
from pipeline.sinks.tracklets import read_tracklet
from pipeline.values import Embedding, Frame, Match
from trackers.boxes import Mask, Tracks

TRACKLET_SUFFIX = ".npz"


@dataclass(slots=True)
class Walk:
    """One track, with what of it somebody could be recognised by.

    Attributes:
        stream: Name of the file.
        track_id: The track.
        seen_s: When it was first and last seen, in seconds of the file.
        places: Where it was first and last seen: the middle of its box, in pixels.
        tracklets: Those with enough silhouettes.
        embeddings: One each.
        longest: Most silhouettes without a break, also where they were too few.
        reasons: How often each reason code spoke against a frame.
        companions: Ids of the tracks that were seen in one frame with it.
    """

    stream: str
    track_id: int
    seen_s: tuple[float, float]
    places: list[tuple[int, int]] = field(default_factory=list)
    tracklets: list[Tracklet] = field(default_factory=list)
    embeddings: list[Embedding] = field(default_factory=list)
    longest: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    companions: set[int] = field(default_factory=set)

    def hear(self, tracklet: Tracklet, embedding: Embedding | None, min_length: int) -> None:
        """Add a tracklet of the track."""
        self.seen_s = min(self.seen_s[0], tracklet.seen_s[0]), tracklet.seen_s[1]
        self.longest = max(self.longest, len(tracklet))
        self.reasons.update(dict(tracklet.reasons))
        self.companions.update(tracklet.companions)
        if embedding is not None and len(tracklet) >= min_length:
            self.tracklets.append(tracklet)
            self.embeddings.append(embedding)

    def exemplars(self) -> list[Exemplar]:
        """Return what is kept of its tracklets."""
        pairs = zip(self.tracklets, self.embeddings, strict=True)
        return [Exemplar.of(tracklet, embedding) for tracklet, embedding in pairs]

    @property
    def description(self) -> str:
        """When and where it was seen, in words."""
        start, end = (clock_text(second) for second in self.seen_s)
        ways = [f"({x}, {y})" for x, y in dict.fromkeys(self.places)]
        where = f", from pixel {' to '.join(ways)}" if ways else ""
        return (
            f"{self.stream}/{self.track_id}: {start} to {end}{where}, "
            f"{len(self.tracklets)} tracklet{'' if len(self.tracklets) == 1 else 's'}"
        )


@dataclass(frozen=True, slots=True)
class Walks:
    """What was found.

    Attributes:
        walks: All tracks, also those with nothing to recognise anybody by.
        model_hash: Of the encoder.
        problems: What could not be read, a line each.
    """

    walks: tuple[Walk, ...]
    model_hash: str
    problems: tuple[str, ...] = ()


class WalkRun(FileRun):
    """A run over recorded files that keeps their walks and knows nobody.

    Args:
        inputs: Videos, as for `FileRun`.
        config: How to do it; its gallery is left alone.
        on_progress: As for `FileRun`.

    Raises:
        PipelineError: As for `FileRun`.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        config: PipelineConfig,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._min_length = config.assembler.min_length
        self._walks: dict[tuple[str, int], Walk] = {}
        super().__init__(inputs, config=_without_gallery(config), on_progress=on_progress)

    def walks(self) -> Walks:
        """Read everything and return what was found."""
        for _ in self.sightings():
            pass
        if not self.read_anything:
            raise SourceError("\n".join(self.problems) or "no frame could be read")
        walks = sorted(self._walks.values(), key=lambda walk: (walk.stream, walk.track_id))
        model_hash = self.pipeline.identity.encoder.model_hash
        return Walks(tuple(walks), model_hash, tuple(self.problems))

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Note where everybody is."""
        FileRun.saw(self, frame, tracks, masks)
        for track_id, box in zip(tracks.track_ids.tolist(), tracks.xyxy, strict=True):
            middle = (round(float(box[0] + box[2]) / 2), round(float(box[1] + box[3]) / 2))
            walk = self._walk(frame.stream, track_id, (frame.time_s, frame.time_s))
            walk.places[1:] = [middle]  # the first one stays

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Keep what is said of a tracklet."""
        FileRun.recognised(self, tracklet, embedding, match)
        walk = self._walk(tracklet.stream, tracklet.track_id, tracklet.seen_s)
        walk.hear(tracklet, embedding, self._min_length)

    def _walk(self, stream: str, track_id: int, seen_s: tuple[float, float]) -> Walk:
        # Both halves of the pipeline come here: perception in its thread, identity in another.
        return self._walks.setdefault((stream, track_id), Walk(stream, track_id, seen_s))


def _without_gallery(config: PipelineConfig) -> PipelineConfig:
    """Return a configuration by which nobody is known, and the shortest walk is told of."""
    gallery = type(config.gallery)(threshold=0.0)
    # Windows: each tracklet is to stand for itself. The shortest ones are only counted.
    assembler = config.assembler.model_copy(update={"mode": "windows", "min_length": 1})
    output = config.output.model_copy(update={"video": False, "tracklets": False})
    return config.model_copy(update={"gallery": gallery, "assembler": assembler, "output": output})


def walks_of_tracklets(paths: Sequence[Path], config: PipelineConfig) -> Walks:
    """Return the walks of tracklets that a run wrote, embedded anew.

    Raises:
        ModelError: The encoder cannot be loaded.
        SourceError: A file is missing or is no tracklet.
    """
    tracklets = [_tracklet(path) for path in paths]
    walks: dict[tuple[str, int], Walk] = {}
    with config.encoder.build() as encoder:
        usable = [tracklet for tracklet in tracklets if len(tracklet)]
        for tracklet, embedding in zip(usable, encoder.encode(usable), strict=True):
            key = tracklet.stream, tracklet.track_id
            walk = walks.setdefault(key, Walk(*key, tracklet.seen_s))
            walk.hear(tracklet, embedding, config.assembler.min_length)
        return Walks(tuple(walks.values()), encoder.model_hash)


def _tracklet(path: Path) -> Tracklet:
    try:
        return read_tracklet(path).tracklet
    except (OSError, OutputError) as error:
        raise SourceError(f"{path}: expected a tracklet of a results folder: {error}") from error


def choose(found: Walks, wanted: Sequence[str], *, min_length: int) -> list[Walk]:
    """Return the walks of the one person who is meant.

    Args:
        found: What there is.
        wanted: Track numbers, or `stream/number`; none when there is only one person.
        min_length: Fewest silhouettes of a tracklet, for what is said.

    Raises:
        GalleryError: Nobody walks long enough; several do, and none is wanted; a wanted one is not
            there or is too short; two wanted ones are seen at the same time.
    """
    usable = [walk for walk in found.walks if walk.tracklets]
    if wanted:
        chosen = [_wanted(text, found.walks) for text in wanted]
        if short := [walk for walk in chosen if not walk.tracklets]:
            raise GalleryError(_too_short(short, min_length))
        _refuse_together(chosen)
        return chosen
    if not usable:
        raise GalleryError(_too_short(found.walks, min_length))
    if len(usable) > 1:
        lines = "\n".join(f"  --track {walk.description}" for walk in usable)
        raise GalleryError(
            f"expected one person, got {len(usable)} tracks:\n{lines}\n"
            f"say which one with --track; several of one person, who was lost in between, by "
            f"giving it again"
        )
    return usable


def _wanted(text: str, walks: Sequence[Walk]) -> Walk:
    names = {f"{walk.stream}/{walk.track_id}": walk for walk in walks}
    numbers = [walk for walk in walks if str(walk.track_id) == text]
    if text in names or len(numbers) == 1:
        return names.get(text) or numbers[0]
    known = ", ".join(names) or "no track at all"
    raise GalleryError(f"--track {text}: expected one of {known}")


def _refuse_together(walks: Sequence[Walk]) -> None:
    for walk in walks:
        for other in walks:
            if other.stream == walk.stream and other.track_id in walk.companions:
                raise GalleryError(
                    f"expected tracks of one person, got two people who are seen at the same "
                    f"time:\n  {walk.description}\n  {other.description}"
                )


def _too_short(walks: Sequence[Walk], min_length: int) -> str:
    """Say how much of a walk is needed, and how much came."""
    need = f"expected a walk of at least {min_length} silhouettes without a break"
    if not walks:
        return f"{need}, got nobody: no person was found"
    best = max(walks, key=lambda walk: (walk.longest, walk.seen_s[1] - walk.seen_s[0]))
    seen_s = best.seen_s[1] - best.seen_s[0]
    against = ", ".join(f"{reason} {count}" for reason, count in best.reasons.most_common(3))
    return (
        f"{need}, got {best.longest} in {seen_s:.1f} s of track {best.stream}/{best.track_id}"
        f"{_seconds_needed(best, min_length)}"
        f"{f' (frames without one: {against})' if against else ''}; let the person walk on, in "
        f"full view"
    )


def _seconds_needed(walk: Walk, min_length: int) -> str:
    seen_s = walk.seen_s[1] - walk.seen_s[0]
    num_frames = walk.longest + sum(walk.reasons.values())
    if num_frames < 2 or seen_s <= 0:
        return ""
    need_s = math.ceil(10 * min_length * seen_s / num_frames) / 10
    return f"; at this video's pace that takes {need_s:.1f} s"
