"""The walks of a recording: who can be followed for how long, by the pipeline's own perception.

Perception does not depend on the encoder, so what it finds is kept in a file and read back: another
encoder is judged in seconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.evaluation.halves import Walk
from gait.evaluation.stretches import StretchConfig, stretches
from gait.tracklet import SILHOUETTE_HW, Tracklet
from pipeline.config import PipelineConfig
from pipeline.errors import SourceError
from pipeline.file_run import FileRun
from pipeline.values import Embedding, Frame, Match
from pipeline.weights import sha256_of
from trackers.boxes import Mask, Tracks

_FORMAT = 2
_CLOTHES = ((0.15, 0.32), (0.32, 0.5), (0.5, 0.7), (0.7, 0.92))  # chest, hips, thighs, shins
_LEVELS = 8  # of each channel's histogram
_LIGHT, _CHROMA = (0, 255), (88, 168)  # of OpenCV's L and a, b; what is beyond counts as the end
_COLOURS = len(_CLOTHES) * 3 * _LEVELS
_FEW_PIXELS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """Everybody who was followed through a recording, a row a person and frame with a mask.

    Attributes:
        sha256: Of the recording.
        track_ids: Shape (K,), int64.
        times_s: Shape (K,), float64.
        xyxy: Shape (K, 4), float32: boxes in pixels.
        colours: Shape (K, D), float32: what the person wears, as histogram roots.
        silhouettes: Shape (K, 64, 44), uint8; those the assembler did not use are black.
        is_used: Shape (K,), bool: whether the assembler used the silhouette.
    """

    sha256: str
    track_ids: NDArray[np.int64]
    times_s: NDArray[np.float64]
    xyxy: NDArray[np.float32]
    colours: NDArray[np.float32]
    silhouettes: NDArray[np.uint8]
    is_used: NDArray[np.bool_]

    def walks(self, config: StretchConfig) -> list[Walk]:
        """Return the stretches of every track in which one person is followed, in order."""
        found = []
        for track_id in np.unique(self.track_ids).tolist():
            rows = np.flatnonzero(self.track_ids == track_id)
            spans = stretches(self.colours[rows], self.times_s[rows], config)
            found += [
                self._walk(f"{track_id}.{number}", rows, span) for number, span in enumerate(spans)
            ]
        return found

    def boxes(self, walk: Walk) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times, shape (T,), and boxes, shape (T, 4), of all frames of a walk."""
        of_track = self.track_ids == int(walk.track)
        first, last = walk.seen_s
        rows = of_track & (self.times_s >= first) & (self.times_s <= last)
        return self.times_s[rows], self.xyxy[rows].astype(np.float64)

    def _walk(self, name: str, rows: NDArray[np.int64], seen_s: tuple[float, float]) -> Walk:
        times_s = self.times_s[rows]
        inside = (times_s >= seen_s[0]) & (times_s <= seen_s[1])
        used = rows[inside & self.is_used[rows]]
        left, _, right, bottom = self.xyxy[used].astype(np.float64).T
        return Walk(
            name=name,
            track=name.partition(".")[0],
            silhouettes=self.silhouettes[used],
            times_s=self.times_s[used],
            feet_xy=np.stack([(left + right) / 2, bottom], axis=1),
            seen_s=seen_s,
        )


def follow(video: Path, kept_in: Path) -> Followed:
    """Return everybody in a recording, from `kept_in` if the same perception saw it before.

    Args:
        video: The recording.
        kept_in: Folder for what is found, made if missing.

    Raises:
        PipelineError: The recording cannot be read, or a model cannot be loaded.
        DataError: `kept_in` cannot be written.
    """
    if not video.is_file():
        raise SourceError(f"{video}: expected a video file, found none")
    # every usable silhouette counts, also the last few of a track
    config = PipelineConfig.model_validate({"assembler": {"min_length": 1}})
    run = _Perception([video], config=config)
    sha256 = sha256_of(video)
    path = kept_in / f"{video.stem}-{run.key(sha256)}.npz"
    followed = _read(path, sha256)
    if followed is None:
        followed = run.followed(sha256)
        write_atomically(path, _pack(followed))
    else:
        run.pipeline.close()
    return followed


def clothes(image: NDArray[np.uint8], mask: Mask) -> NDArray[np.float32]:
    """Return the colours of a person's strips, shape (96,): histogram roots of unit length.

    Args:
        image: Shape (H, W, 3), BGR.
        mask: The person in it.
    """
    height, width = mask.pixels.shape
    patch = image[mask.y : mask.y + height, mask.x : mask.x + width]
    lab = np.asarray(cv2.cvtColor(patch, cv2.COLOR_BGR2LAB))
    parts = []
    for top, bottom in _CLOTHES:
        rows = slice(int(top * height), int(bottom * height))
        worn = lab[rows][mask.pixels[rows]]
        for channel, limits in enumerate((_LIGHT, _CHROMA, _CHROMA)):
            counts = np.histogram(worn[:, channel].clip(*limits), _LEVELS, limits)[0]
            parts.append(np.sqrt(counts / max(counts.sum(), 1)))
    return np.concatenate(parts).astype(np.float32) / np.float32(np.sqrt(len(parts)))


class _Perception(FileRun):
    """A run without encoding and without results; it remembers what it saw."""

    def key(self, sha256: str) -> str:
        """Return a name for all that decides what is seen."""
        models = [self.pipeline.perception.detector, self.pipeline.perception.segmenter]
        facts = {
            "format": _FORMAT,
            "video": sha256,
            "models": [getattr(model, "model_hash", None) for model in models],
            "config": {
                name: block
                for name, block in self.config.model_dump(mode="json").items()
                if name in {"read", "detector", "tracker", "segmenter", "assembler"}
            },
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    def followed(self, sha256: str) -> Followed:
        """Run, and return what was seen.

        Raises:
            PipelineError: Nothing could be read.
        """
        self._rows: list[tuple[int, float, NDArray[np.float32], NDArray[np.float32]]] = []
        self._row_of: dict[tuple[int, int], int] = {}
        self._used: dict[int, NDArray[np.uint8]] = {}
        self.pipeline.interrupt()  # embed nothing
        for _ in self.sightings():
            pass
        if self.problems:
            raise SourceError("\n".join(self.problems))
        return self._gathered(sha256)

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Remember boxes and clothes of everybody with a mask."""
        super().saw(frame, tracks, masks)
        for track_id, xyxy, mask in zip(tracks.track_ids.tolist(), tracks.xyxy, masks, strict=True):
            if mask is not None and mask.pixels.sum() >= _FEW_PIXELS:
                self._row_of[track_id, frame.index] = len(self._rows)
                self._rows.append((track_id, frame.time_s, xyxy, clothes(frame.image, mask)))

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Remember the silhouettes."""
        super().recognised(tracklet, embedding, match)
        for index, silhouette in zip(
            tracklet.frame_indices.tolist(), tracklet.silhouettes, strict=True
        ):
            row = self._row_of.get((tracklet.track_id, index))
            if row is not None:
                self._used[row] = silhouette

    def _gathered(self, sha256: str) -> Followed:
        count = len(self._rows)
        silhouettes = np.zeros((count, *SILHOUETTE_HW), dtype=np.uint8)
        for row, silhouette in self._used.items():
            silhouettes[row] = silhouette
        is_used = np.zeros(count, dtype=np.bool_)
        is_used[list(self._used)] = True
        columns = list(zip(*self._rows, strict=True)) or [(), (), (), ()]
        return Followed(
            sha256=sha256,
            track_ids=np.array(columns[0], dtype=np.int64),
            times_s=np.array(columns[1], dtype=np.float64),
            xyxy=np.array(columns[2], dtype=np.float32).reshape(count, 4),
            colours=np.array(columns[3], dtype=np.float32).reshape(count, _COLOURS),
            silhouettes=silhouettes,
            is_used=is_used,
        )


_COLUMNS = ("track_ids", "times_s", "xyxy", "colours", "silhouettes", "is_used")


def _pack(followed: Followed) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: getattr(followed, name) for name in _COLUMNS})
    return buffer.getvalue()


def _read(path: Path, sha256: str) -> Followed | None:
    """Return what was kept; None when nothing was, or it is damaged and must be made again."""
    try:
        with np.load(path, allow_pickle=False) as npz:
            return Followed(sha256=sha256, **{name: npz[name] for name in _COLUMNS})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
