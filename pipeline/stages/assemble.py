"""Masks of a track, frame after frame, to tracklets."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from gait.silhouette import Reason, SilhouetteLimits, cut, judge, normalise
from gait.strict import StrictModel
from gait.tracklet import SILHOUETTE_HW, Box, Tracklet
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

_LIMITS = SilhouetteLimits()
_EDGE_PX = 2  # a mask this near the picture's border is taken as cut off by it
_AREA_MEMORY = 9  # silhouettes whose median area a new one is compared with
_MAX_WALK = 720  # `gait.encoder.MAX_FRAMES`, which is not imported for the sake of torch


class LimitsConfig(StrictModel):
    """What makes a silhouette unusable; `gait.silhouette` explains each limit in both directions.

    Attributes:
        min_height: Smallest height of the person in pixels.
        min_aspect: Smallest width / height of the person.
        max_aspect: Largest width / height of the person.
        max_area_ratio: How many times larger or smaller than usual the person's area may be.
        max_overlap: Share of the person's box that somebody nearer may cover.
    """

    min_height: int = Field(default=_LIMITS.min_height, ge=1)
    min_aspect: float = Field(default=_LIMITS.min_aspect, ge=0)
    max_aspect: float = Field(default=_LIMITS.max_aspect, gt=0)
    max_area_ratio: float = Field(default=_LIMITS.max_area_ratio, ge=1)
    max_overlap: float = Field(default=_LIMITS.max_overlap, ge=0, le=1)

    def build(self) -> SilhouetteLimits:
        """Return the limits as `gait.silhouette.judge` takes them."""
        return SilhouetteLimits(**self.model_dump())


class AssemblerConfig(StrictModel):
    """When the silhouettes of a track become a tracklet.

    Attributes:
        mode: "windows": each tracklet stands for itself and holds `window` silhouettes.
            "streaming": each tracklet brings only what is new of a walk, and the encoder, which
            remembers the rest, describes the whole walk so far (of at most 720 silhouettes): more
            faithful the longer a walk is, at the price of the encoder's memory (23 MB for every
            walk under way with the standard network, 1.5 MB with nano). "auto": whichever costs
            the encoder less, which is streaming when `window` exceeds `stride` by more than the
            tail (`gait.streaming_state.tail_frames`: 15 for standard, 4 for nano).
        window: Silhouettes in a tracklet; when streaming, in the first one of a walk. Higher
            describes the walk better, at the price of a later first result and of people seen
            only briefly.
        stride: New silhouettes between two tracklets of one track. Lower gives fresher evidence,
            at the price of more work for the encoder; at `window` or above no silhouette is
            embedded twice.
        min_length: Fewest silhouettes in the tracklet left over when a track ends or breaks; when
            streaming, what is left over of a walk that was embedded before may be shorter. Lower
            recognises people seen more briefly, at the price of less certain embeddings.
        max_gap_s: Longest time in seconds between neighbouring silhouettes of one tracklet. Higher
            bridges longer occlusions, at the price of jumps inside the walk.
        limits: What makes a silhouette unusable.
    """

    mode: Literal["auto", "windows", "streaming"] = "auto"
    window: int = Field(default=30, ge=1, le=_MAX_WALK)
    stride: int = Field(default=30, ge=1)
    min_length: int = Field(default=15, ge=1)
    max_gap_s: float = Field(default=0.5, gt=0)
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _lengths_fit(self) -> AssemblerConfig:
        if self.min_length > self.window:
            raise ValueError(
                f"min_length must not exceed window: got {self.min_length} and {self.window}"
            )
        return self

    def streams(self, tail_frames: float) -> bool:
        """Return whether tracklets continue each other.

        Args:
            tail_frames: What the tail of one embedding costs the encoder, in silhouettes.
        """
        is_cheaper = self.window > self.stride + tail_frames
        return self.mode == "streaming" or (self.mode == "auto" and is_cheaper)


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One usable silhouette of a track."""

    silhouette: NDArray[np.uint8]
    index: int
    time_s: float
    quality: float
    box: Box


@dataclass(slots=True)
class _OpenTrack:
    seen_s: tuple[float, float]
    walk: deque[_Step]  # the last silhouettes without a break: `window`, or what is not sent yet
    areas: deque[float]  # relative areas of the last silhouettes
    fresh: int = 0  # how many of `walk` are in no tracklet yet
    sent: int = 0  # when streaming: how many of this walk are in earlier tracklets
    last_s: float | None = None  # when the last silhouette was
    companions: set[int] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)


class Assembler:
    """Turns the masks of one stream into tracklets.

    A tracklet is emitted every `stride` usable silhouettes while a track lives, and when the track
    ends or its walk breaks. Each track's last tracklet has `is_last`; it may be empty.

    Args:
        stream: Whose tracks these are.
        config: When a tracklet is emitted.
        is_streaming: Whether a tracklet holds only what no tracklet of the walk held before, and
            says how much that was (`Tracklet.offset`). A walk begins anew when it breaks, and
            after the 720 silhouettes that the encoder takes of one.
    """

    def __init__(self, stream: str, config: AssemblerConfig, *, is_streaming: bool = False) -> None:
        self._stream = stream
        self._config = config
        self._is_streaming = is_streaming
        self._limits = config.limits.build()
        self._tracks: dict[int, _OpenTrack] = {}

    def collect(
        self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]
    ) -> Iterable[Tracklet]:
        """Add one frame's masks and yield the tracklets that are complete with it."""
        overlaps = nearer_overlap(tracks.xyxy)
        present = set(tracks.track_ids.tolist())
        for row, track_id in enumerate(tracks.track_ids.tolist()):
            track = self._open(track_id, frame.time_s)
            track.companions |= present - {track_id}
            step = self._silhouette(frame, tracks.xyxy[row], masks[row], overlaps[row], track)
            if step is not None:
                yield from self._append(track_id, track, step)
        for track_id in tracks.ended:
            yield from self._end(track_id)

    def finish(self) -> Iterable[Tracklet]:
        """Yield the last tracklet of every track still open; the stream is over."""
        for track_id in list(self._tracks):
            yield from self._end(track_id)

    def _open(self, track_id: int, time_s: float) -> _OpenTrack:
        track = self._tracks.get(track_id)
        if track is None:
            room = _MAX_WALK if self._is_streaming else self._config.window
            track = _OpenTrack((time_s, time_s), deque(maxlen=room), deque(maxlen=_AREA_MEMORY))
            self._tracks[track_id] = track
        track.seen_s = (track.seen_s[0], time_s)
        return track

    def _silhouette(
        self,
        frame: Frame,
        box: NDArray[np.float32],
        mask: Mask | None,
        overlap: float,
        track: _OpenTrack,
    ) -> _Step | None:
        """Return the frame's silhouette of one track, or None and count why not."""
        if mask is None:
            track.reasons[Reason.NO_MASK] += 1
            return None
        # relative to the box, so that walking towards the camera is no jump
        scale = max(float(box[3] - box[1]), 1.0) ** 2
        previous = float(np.median(track.areas)) * scale if track.areas else None
        verdict = judge(
            mask.pixels,
            at_edge=_at_edge(mask, frame.hw),
            overlap=overlap,
            previous_area=previous,
            limits=self._limits,
        )
        track.areas.append(float(mask.pixels.sum()) / scale)
        if verdict.reasons:
            track.reasons.update(verdict.reasons)
            return None
        silhouette = normalise(_in_full_width(mask, frame.hw[1]))
        if isinstance(silhouette, Reason):
            track.reasons[silhouette] += 1
            return None
        left, top, right, bottom = map(float, box)
        edges = left, top, right, bottom
        return _Step(cut(silhouette[None])[0], frame.index, frame.time_s, verdict.quality, edges)

    def _append(self, track_id: int, track: _OpenTrack, step: _Step) -> Iterable[Tracklet]:
        if track.last_s is not None and step.time_s - track.last_s > self._config.max_gap_s:
            yield from self._break(track_id, track)
        track.last_s = step.time_s
        track.walk.append(step)
        track.fresh += 1
        length = track.sent + len(track.walk)
        if track.fresh >= self._config.stride and length >= self._config.window:
            yield self._emit(track_id, track, len(track.walk))
        if self._is_streaming and length == _MAX_WALK:
            yield from self._break(track_id, track)

    def _break(self, track_id: int, track: _OpenTrack) -> Iterable[Tracklet]:
        """End a walk, but not its track."""
        length = self._leftover(track)
        if length:
            yield self._emit(track_id, track, length)
        track.walk.clear()
        track.fresh = track.sent = 0

    def _leftover(self, track: _OpenTrack) -> int:
        """Return the length of the tracklet left over when a walk ends; 0 for none."""
        fresh = min(track.fresh, len(track.walk))
        return fresh if track.sent or fresh >= self._config.min_length else 0

    def _end(self, track_id: int) -> Iterable[Tracklet]:
        track = self._tracks.pop(track_id, None)
        if track is None:  # ended before it was ever reported
            return
        yield self._emit(track_id, track, self._leftover(track), is_last=True)

    def _emit(
        self, track_id: int, track: _OpenTrack, length: int, *, is_last: bool = False
    ) -> Tracklet:
        steps = list(track.walk)[len(track.walk) - length :]
        reasons = tuple(sorted((str(reason), n) for reason, n in track.reasons.items()))
        companions = tuple(sorted(track.companions))
        offset = track.sent
        if self._is_streaming:
            track.sent += length
            track.walk.clear()
        track.fresh = 0
        track.reasons.clear()
        track.companions.clear()
        return Tracklet(
            stream=self._stream,
            track_id=track_id,
            silhouettes=np.array([s.silhouette for s in steps], dtype=np.uint8).reshape(
                length, *SILHOUETTE_HW
            ),
            frame_indices=np.array([s.index for s in steps], dtype=np.int64),
            times_s=np.array([s.time_s for s in steps], dtype=np.float64),
            seen_s=track.seen_s,
            quality=float(np.mean([s.quality for s in steps])) if steps else 0.0,
            reasons=reasons,
            companions=companions,
            is_last=is_last,
            offset=offset,
            boxes=(steps[0].box, steps[-1].box) if steps else None,
        )


class Assemblers:
    """One assembler per stream; the arguments are those of each."""

    def __init__(self, config: AssemblerConfig, *, is_streaming: bool = False) -> None:
        self._config = config
        self._is_streaming = is_streaming
        self._streams: dict[str, Assembler] = {}

    def collect(
        self,
        frames: Sequence[Frame],
        tracks: Sequence[Tracks],
        masks: Sequence[Sequence[Mask | None]],
    ) -> list[Tracklet]:
        """Return the tracklets that are complete with these frames."""
        tracklets: list[Tracklet] = []
        for frame, in_frame, of_frame in zip(frames, tracks, masks, strict=True):
            if frame.stream not in self._streams:
                self._streams[frame.stream] = self._begin(frame.stream)
            tracklets.extend(self._streams[frame.stream].collect(frame, in_frame, of_frame))
        return tracklets

    def _begin(self, stream: str) -> Assembler:
        return Assembler(stream, self._config, is_streaming=self._is_streaming)

    def finish(self, stream: str) -> list[Tracklet]:
        """Return the last tracklets of a stream that is over."""
        assembler = self._streams.pop(stream, None)
        return [] if assembler is None else list(assembler.finish())


def nearer_overlap(xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much of each box is covered by the one nearer person who covers it most.

    Who stands lower in the picture is taken to be nearer to the camera, so only boxes with a lower
    bottom edge can hide a person.

    Args:
        xyxy: Shape (N, 4) pixels.

    Returns:
        Shape (N,), fractions in 0..1.
    """
    if len(xyxy) == 0:
        return np.zeros(0)
    boxes = xyxy.astype(np.float64)
    left_top = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
    shared[boxes[None, :, 3] <= boxes[:, None, 3]] = 0
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    return np.asarray((shared / area[:, None]).max(axis=1))


def _in_full_width(mask: Mask, frame_width: int) -> NDArray[np.bool_]:
    """Return the mask's rows of the whole frame, as a data set stores them.

    The normalisation rounds the scaled width of what it is given down to whole pixels. On the whole
    frame's width that is harmless, and live silhouettes are bit for bit those of a data set; on a
    narrow patch it would squeeze the person by up to 4 %.
    """
    rows = np.zeros((mask.pixels.shape[0], frame_width), dtype=np.bool_)
    left, right = max(mask.x, 0), min(mask.x + mask.pixels.shape[1], frame_width)
    rows[:, left:right] = mask.pixels[:, left - mask.x : right - mask.x]
    return rows


def _at_edge(mask: Mask, frame_hw: tuple[int, int]) -> bool:
    rows = np.flatnonzero(mask.pixels.any(axis=1))
    columns = np.flatnonzero(mask.pixels.any(axis=0))
    if len(rows) == 0:
        return False
    top, bottom = mask.y + rows[0], mask.y + rows[-1]
    left, right = mask.x + columns[0], mask.x + columns[-1]
    return bool(
        min(top, left) < _EDGE_PX
        or bottom >= frame_hw[0] - _EDGE_PX
        or right >= frame_hw[1] - _EDGE_PX
    )
