"""Tracklets on disk: an npz for programs and a contact sheet for people."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.tracklet import SILHOUETTE_HW, Box, Tracklet
from pipeline.errors import OutputError
from pipeline.sinks.drawing import ascii_text, identity_colour
from pipeline.sinks.folder import ResultsFolder, clean_text
from pipeline.sinks.sightings import clock_text
from pipeline.values import Embedding

_COLUMNS = 10
_MOST_CELLS = 60
_ZOOM = 2
_GAP = 6
_CELL_LABEL = 14
_HEADER = 56
_PAPER_BGR = (38, 34, 32)
_INK_BGR = (235, 235, 235)
_FAINT_BGR = (150, 145, 140)


@dataclass(frozen=True, slots=True, eq=False)
class StoredTracklet:
    """A tracklet read back.

    Attributes:
        tracklet: As it was written.
        embedding: Shape (256, 16), float32, when it was stored with it.
        identity: Who, when it was known.
    """

    tracklet: Tracklet
    embedding: Embedding | None
    identity: str | None


class TrackletStore:
    """Writes every tracklet that holds silhouettes into its stream's folder.

    Args:
        folder: The results folder.
    """

    def __init__(self, folder: ResultsFolder) -> None:
        self._folder = folder

    def write(
        self,
        tracklet: Tracklet,
        *,
        embedding: Embedding | None = None,
        identity: str | None = None,
    ) -> Path | None:
        """Write the npz and the contact sheet; a tracklet without silhouettes writes nothing.

        Args:
            tracklet: The tracklet.
            embedding: Shape (256, 16), float32, to store with it.
            identity: Who it was matched to, if anybody.

        Returns:
            The npz's path, or None when there was nothing to write.

        Raises:
            OutputError: There is no room; every file already written is whole.
        """
        if not len(tracklet):
            return None
        stream = self._folder.make_stream(tracklet.stream)
        path = stream.tracklet(tracklet.track_id, int(tracklet.frame_indices[0]))
        sheet = contact_sheet(tracklet, identity=identity)
        self._folder.write(path, _pack(tracklet, embedding, identity))
        self._folder.write(path.with_suffix(".png"), _png(sheet))
        return path


def read_tracklet(path: Path) -> StoredTracklet:
    """Return what a tracklet's npz holds.

    Raises:
        OutputError: The file is damaged or holds something else.
        OSError: It is missing or unreadable.
    """
    try:
        with np.load(path, allow_pickle=False) as npz:
            return _unpack({name: npz[name] for name in npz.files})
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise OutputError(f"{path}: expected a tracklet's npz, it is damaged: {error}") from error


def contact_sheet(tracklet: Tracklet, *, identity: str | None = None) -> NDArray[np.uint8]:
    """Draw the silhouettes in reading order under a caption, with each one's frame number.

    At most 60 are drawn, evenly spread, and the caption says so.

    Args:
        tracklet: At least one silhouette.
        identity: Who, for the caption.

    Returns:
        Shape (H, W, 3), uint8, BGR.
    """
    chosen = _spread(len(tracklet), _MOST_CELLS)
    height, width = (side * _ZOOM for side in SILHOUETTE_HW)
    rows = -(-len(chosen) // _COLUMNS)
    sheet = np.full(
        (
            _HEADER + rows * (height + _CELL_LABEL + _GAP) + _GAP,
            _COLUMNS * (width + _GAP) + _GAP,
            3,
        ),
        _PAPER_BGR,
        dtype=np.uint8,
    )
    _draw_caption(sheet, tracklet, identity, shown=len(chosen))
    for place, index in enumerate(chosen):
        row, column = divmod(place, _COLUMNS)
        top = _HEADER + row * (height + _CELL_LABEL + _GAP)
        left = _GAP + column * (width + _GAP)
        cell = cv2.resize(
            tracklet.silhouettes[index], (width, height), interpolation=cv2.INTER_NEAREST
        )
        sheet[top : top + height, left : left + width] = cell[..., None]
        number = str(tracklet.frame_indices[index])
        _text(sheet, number, (left + 2, top + height + 11), 0.34, _FAINT_BGR)
    return sheet


def gait_energy_image(silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean silhouette (Han and Bhanu, PAMI 2006, equation 1).

    Args:
        silhouettes: Shape (T, 64, 44), at least one.

    Returns:
        Shape (64, 44), uint8: white where the body always is, grey where it swings.
    """
    return np.asarray(np.rint(silhouettes.mean(axis=0)), dtype=np.uint8)


def silhouette_strip(silhouettes: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return at most `count` silhouettes, evenly spread, side by side.

    Args:
        silhouettes: Shape (T, 64, 44), at least one.
        count: The most to show.

    Returns:
        Shape (64, 44 * shown), uint8.
    """
    return np.hstack(list(silhouettes[_spread(len(silhouettes), count)]))


def _spread(total: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(np.int64))


def _draw_caption(
    sheet: NDArray[np.uint8], tracklet: Tracklet, identity: str | None, *, shown: int
) -> None:
    first, last = (clock_text(float(t)) for t in tracklet.times_s[[0, -1]])
    count = f"{len(tracklet)} silhouettes"
    if shown < len(tracklet):
        count = f"{shown} of {count}"
    if tracklet.offset:
        count += f" after {tracklet.offset} earlier ones"
    red, green, blue = identity_colour(identity)
    cv2.rectangle(sheet, (0, 0), (7, _HEADER - 10), (blue, green, red), cv2.FILLED)
    who = f"track {tracklet.track_id}   {'identity not known' if identity is None else identity}"
    room = 46
    stream = tracklet.stream if len(tracklet.stream) <= room else tracklet.stream[:room] + "..."
    _text(sheet, f"{stream}   {who}", (16, 20), 0.58, _INK_BGR)
    _text(
        sheet,
        f"{first} to {last}   quality {tracklet.quality:.2f}   {count}, frame numbers below",
        (16, 42),
        0.46,
        _FAINT_BGR,
    )


def _text(
    sheet: NDArray[np.uint8],
    text: str,
    at: tuple[int, int],
    size: float,
    colour: tuple[int, int, int],
) -> None:
    cv2.putText(sheet, ascii_text(text), at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def _png(image: NDArray[np.uint8]) -> bytes:
    # Level 1 is four times as fast as the default and a few per cent larger on flat pictures.
    _, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return data.tobytes()


def _pack(tracklet: Tracklet, embedding: Embedding | None, identity: str | None) -> bytes:
    """Key `silhouettes` first: the file is also an input of `trackletgait embed`."""
    arrays: dict[str, NDArray[np.generic]] = {
        "silhouettes": tracklet.silhouettes,
        "frame_indices": tracklet.frame_indices,
        "times_s": tracklet.times_s,
        "seen_s": np.array(tracklet.seen_s, dtype=np.float64),
        "companions": np.array(tracklet.companions, dtype=np.int64),
        "quality": np.array(tracklet.quality),
        "reason_codes": np.array([code for code, _ in tracklet.reasons], dtype=np.str_),
        "reason_counts": np.array([count for _, count in tracklet.reasons], dtype=np.int64),
        "stream": np.array(clean_text(tracklet.stream)),
        "track_id": np.array(tracklet.track_id),
        "is_last": np.array(tracklet.is_last),
        "offset": np.array(tracklet.offset),
        "boxes": np.array(tracklet.boxes or (), dtype=np.float64).reshape(-1, 4),
    }
    if embedding is not None:
        arrays["embedding"] = np.asarray(embedding, dtype=np.float32)
    if identity is not None:
        arrays["identity"] = np.array(clean_text(identity))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpack(arrays: dict[str, NDArray[np.generic]]) -> StoredTracklet:
    first, last = arrays["seen_s"].tolist()
    codes, counts = arrays["reason_codes"].tolist(), arrays["reason_counts"].tolist()
    tracklet = Tracklet(
        stream=str(arrays["stream"]),
        track_id=int(arrays["track_id"].item()),
        silhouettes=arrays["silhouettes"].astype(np.uint8, copy=False),
        frame_indices=arrays["frame_indices"].astype(np.int64, copy=False),
        times_s=arrays["times_s"].astype(np.float64, copy=False),
        seen_s=(first, last),
        quality=float(arrays["quality"].item()),
        reasons=tuple(zip(codes, counts, strict=True)),
        companions=tuple(arrays["companions"].tolist()),
        is_last=bool(arrays["is_last"].item()),
        offset=int(arrays["offset"].item()) if "offset" in arrays else 0,
        boxes=_boxes(arrays["boxes"]) if "boxes" in arrays else None,
    )
    embedding = arrays.get("embedding")
    identity = arrays.get("identity")
    return StoredTracklet(
        tracklet=tracklet,
        embedding=None if embedding is None else embedding.astype(np.float32, copy=False),
        identity=None if identity is None else str(identity),
    )


def _boxes(edges: NDArray[np.generic]) -> tuple[Box, Box] | None:
    if not len(edges):
        return None
    first, last = ((left, top, right, bottom) for left, top, right, bottom in edges.tolist())
    return first, last
