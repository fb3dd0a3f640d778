"""Folders of tracking data as MOTChallenge, DanceTrack and `trackletgait synth video` lay them out.

    FOLDER/[any/folders/]NAME/gt/gt.txt        frame, id, left, top, width, height, counts,
                                               class, visible
                         NAME/det/det.txt      frame, -1, left, top, width, height, confidence
                         NAME/det/features.npy optional: (N, D), a row for each line of det.txt
                         NAME/seqinfo.ini      frameRate, seqLength; imDir, where the pictures are

Frames count from 1 in the files and from 0 here; lines may come in any order.
"""

from __future__ import annotations

import configparser
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.errors import DataError
from trackers.boxes import Detections

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TRUTH = "gt/gt.txt"
DETECTIONS = "det/det.txt"
FEATURES = "det/features.npy"
SEQUENCE = "seqinfo.ini"

_BOX_COLUMNS = 6
_LONGEST_FRAMES = 10_000_000
_LARGEST_BYTES = 1 << 30
_PEDESTRIAN = 1
_DISTRACTORS = (2, 7, 8, 12)  # on a vehicle, standing still, "distractor", reflection
_NON_MOT_VEHICLE = 6  # another distractor in MOT20 (Dendorfer et al. 2020)


@dataclass(frozen=True, slots=True, eq=False)
class MotBoxes:
    """Boxes of one sequence, in the order of the frames.

    Attributes:
        frames: Shape (N,), int64, rising: counted from 0.
        ids: Shape (N,), int64: whose box; -1 where nobody said.
        xyxy: Shape (N, 4), float64 pixels.
        rest: Shape (N, C), float64: the columns after the box.
        lines: Shape (N,), int64: where in the file each box was, for what lies beside it.
    """

    frames: Ints
    ids: Ints
    xyxy: Floats
    rest: Floats
    lines: Ints

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: NDArray[np.bool_] | Ints | slice) -> MotBoxes:
        return MotBoxes(
            self.frames[rows], self.ids[rows], self.xyxy[rows], self.rest[rows], self.lines[rows]
        )

    def by_frame(self, num_frames: int) -> list[slice]:
        """Return for each frame which rows are its boxes."""
        ends = np.searchsorted(self.frames, np.arange(num_frames + 1)).tolist()
        return [slice(a, b) for a, b in pairwise(ends)]

    def column(self, index: int, default: float) -> Floats:
        """Return a column of `rest`; `default` everywhere when the file has it not."""
        if index < self.rest.shape[1]:
            return self.rest[:, index]
        return np.full(len(self), default)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Who is where in one sequence.

    Attributes:
        boxes: Of everybody and everything that was annotated.
        counts: Shape (N,), bool: people who must be found.
        is_ignored: Shape (N,), bool: those who need not be found, and may be. What is neither
            is as good as not annotated: a box there is false.
        visible: Shape (N,), float64: share of the person that is visible; 1 where nobody said.
    """

    boxes: MotBoxes
    counts: NDArray[np.bool_]
    is_ignored: NDArray[np.bool_]
    visible: Floats


@dataclass(frozen=True, slots=True)
class Sequence:
    """One recording.

    Attributes:
        name: Of its folder.
        folder: Where it lies.
        fps: Frames a second.
        num_frames: How many frames there are.
        pictures: A folder of them, or a video; nobody looks whether it is there.
    """

    name: str
    folder: Path
    fps: float
    num_frames: int
    pictures: Path

    def truth(self, min_visible: float = 0.0) -> Truth:
        """Read who is where.

        Args:
            min_visible: Share of a person that must be visible for him to count. Higher leaves out
                more of what no detector finds; MOTChallenge's own figures are at 0.

        Raises:
            DataError: gt.txt is missing or damaged.
        """
        path = self.folder / TRUTH
        boxes = self._read(path, at_least=_BOX_COLUMNS)
        check_ids(boxes, path)
        kind = boxes.column(1, _PEDESTRIAN)
        visible = boxes.column(2, 1.0)
        visible = np.where(visible < 0, 1.0, visible)
        distractors = [*_DISTRACTORS, *([_NON_MOT_VEHICLE] if "MOT20" in self.name else [])]
        is_person = (kind == _PEDESTRIAN) & (boxes.column(0, 1.0) != 0)
        is_seen = visible >= min_visible
        ignored = np.isin(kind, distractors) | (is_person & ~is_seen)
        return Truth(boxes, is_person & is_seen, ignored, visible)

    def detections(self, folder: Path | None = None) -> list[Detections]:
        """Read what a detector found, frame by frame.

        Args:
            folder: Where NAME.txt or NAME/det/det.txt lies instead of beside the truth.

        Raises:
            DataError: The file is missing or damaged, or a confidence is neither in 0..1 nor -1.
        """
        path = self.folder / DETECTIONS if folder is None else _result(folder, self.name)
        if not path.exists():
            raise DataError(
                f"{path}: no such file; expected what a detector found, lines of "
                "frame,-1,left,top,width,height,confidence. Scenes of `synth video` come without: "
                "`track-eval --detect` writes it, once; or give a folder with --detections"
            )
        boxes = self._read(path, at_least=_BOX_COLUMNS + 1)
        confidence = boxes.column(0, 1.0)
        confidence = np.where(confidence == -1, 1.0, confidence)
        if len(boxes) and not (confidence.min() >= 0 and confidence.max() <= 1):
            raise DataError(
                f"{path}: expected confidences in 0..1 (or -1 for certain), got "
                f"{confidence.min():g} to {confidence.max():g}; bring the detector's scores (such "
                "as MOT17's DPM) into 0..1 first"
            )
        features = None
        if path.name == Path(DETECTIONS).name:
            features = _features(path.with_name(Path(FEATURES).name), len(boxes))
        return [
            Detections(
                boxes.xyxy[rows].astype(np.float32),
                confidence[rows].astype(np.float32),
                features=None if features is None else features[boxes.lines[rows]],
            )
            for rows in boxes.by_frame(self.num_frames)
        ]

    def results(self, folder: Path) -> MotBoxes:
        """Read a tracker's results: NAME.txt in the folder, or in data/ as TrackEval has it.

        Raises:
            DataError: The file is missing or damaged.
        """
        path = _result(folder, self.name)
        boxes = self._read(path, at_least=_BOX_COLUMNS)
        check_ids(boxes, path)
        return boxes

    def _read(self, path: Path, at_least: int) -> MotBoxes:
        boxes = read_boxes(path, at_least)
        if len(boxes) and boxes.frames[-1] >= self.num_frames:
            raise DataError(
                f"{path}: expected frames from 1 to {self.num_frames}, as {SEQUENCE} says, got "
                f"frame {boxes.frames[-1] + 1}"
            )
        return boxes


def find_sequences(folder: Path) -> list[Sequence]:
    """Return every recording with a gt/gt.txt in or below a folder, by name.

    Raises:
        DataError: There is none, or two have one name, or a seqinfo.ini is missing or damaged.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    places = sorted({path.parent.parent for path in _truths(folder)})
    if not places:
        raise DataError(
            f"{folder}: expected NAME/{TRUTH} in or below it (MOTChallenge, DanceTrack, or what "
            "`trackletgait synth video` writes), found none"
        )
    sequences = [read_sequence(place) for place in places]
    names = [each.name for each in sequences]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{folder}: expected each sequence once, got {sorted(twice)[0]} twice")
    return sequences


def _truths(folder: Path) -> Iterator[Path]:
    for pattern in ("", "*/", "*/*/"):
        yield from folder.glob(pattern + TRUTH)


def read_sequence(folder: Path) -> Sequence:
    """Return the recording in a folder.

    Raises:
        DataError: Its seqinfo.ini is missing or damaged.
    """
    path = folder / SEQUENCE
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        fps = float(parser["Sequence"]["frameRate"])
        num_frames = int(parser["Sequence"]["seqLength"])
    except OSError as error:
        raise DataError(
            f"{path}: cannot read it ({error.strerror}); expected [Sequence] with frameRate and "
            "seqLength: without the frame rate nobody knows how long a track is"
        ) from error
    except (configparser.Error, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: expected [Sequence] with frameRate and seqLength as numbers ({error})"
        ) from error
    if not (0 < fps <= 1000 and 0 < num_frames <= _LONGEST_FRAMES):
        raise DataError(
            f"{path}: expected a frameRate up to 1000 and a seqLength up to {_LONGEST_FRAMES}, "
            f"got {fps:g} and {num_frames}"
        )
    pictures = folder / parser["Sequence"].get("imDir", "img1")
    return Sequence(folder.resolve().name, folder, fps, num_frames, pictures)


def read_boxes(path: Path, at_least: int = _BOX_COLUMNS) -> MotBoxes:
    """Read a MOTChallenge file.

    Args:
        path: Comma-separated, a box a line.
        at_least: Columns it must have.

    Raises:
        DataError: It is missing, too large or not in the format.
    """
    values = _table(path, at_least)
    bad = ~np.isfinite(values[:, :at_least]).all(axis=1)
    bad |= (values[:, 0] < 1) | (values[:, 0] > _LONGEST_FRAMES) | (values[:, 0] % 1 != 0)
    bad |= (values[:, 4:6] < 0).any(axis=1) | (np.abs(values[:, 1:6]) > 1e9).any(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{path}: expected whole frames from 1, finite numbers and sides from 0, got "
            f"{values[row, :at_least].tolist()} in box {row + 1}"
        )
    order = np.lexsort((values[:, 1], values[:, 0]))
    values = values[order]
    corners = values[:, 2:4]
    return MotBoxes(
        values[:, 0].astype(np.int64) - 1,
        values[:, 1].astype(np.int64),
        np.concatenate([corners, corners + values[:, 4:6]], axis=1),
        values[:, 6:],
        order.astype(np.int64),
    )


def _table(path: Path, at_least: int) -> Floats:
    try:
        if (size := path.stat().st_size) > _LARGEST_BYTES:
            raise DataError(
                f"{path}: expected at most {_LARGEST_BYTES >> 30} GiB, got {size / 2**30:.1f}; "
                "split the recording"
            )
        with warnings.catch_warnings(), path.open(encoding="utf-8") as file:
            warnings.simplefilter("ignore", UserWarning)  # of an empty file: nobody was seen
            values = np.loadtxt(file, delimiter=",", ndmin=2, dtype=np.float64)
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror})") from error
    except ValueError as error:
        raise DataError(
            f"{path}: expected lines of frame,id,left,top,width,height,... ({error})"
        ) from error
    if not values.size:
        return np.empty((0, at_least))
    if values.shape[1] < at_least:
        raise DataError(
            f"{path}: expected at least {at_least} columns, frame,id,left,top,width,height"
            f"{',confidence' if at_least > _BOX_COLUMNS else ''}, got {values.shape[1]}"
        )
    return values


def check_ids(boxes: MotBoxes, path: Path) -> None:
    """Refuse boxes of which two in a frame have one id, or one has none.

    Raises:
        DataError: With the frame in the message.
    """
    if len(boxes) and boxes.ids.min() < 0:
        raise DataError(
            f"{path}: expected an id from 0 for each box, got {boxes.ids.min()}: these are "
            "detections, not tracks"
        )
    same = (np.diff(boxes.frames) == 0) & (np.diff(boxes.ids) == 0)
    if same.any():
        row = int(np.flatnonzero(same)[0])
        raise DataError(
            f"{path}: expected an id once in a frame, got {boxes.ids[row]} twice in frame "
            f"{boxes.frames[row] + 1}"
        )


def _result(folder: Path, name: str) -> Path:
    """Return where a sequence's file lies in a folder of results or detections."""
    choices = (f"{name}.txt", f"data/{name}.txt", f"{name}/{DETECTIONS}")
    for choice in choices:
        if (folder / choice).is_file():
            return folder / choice
    raise DataError(f"{folder}: expected {choices[0]} or {choices[1]} in it, found neither")


def _features(path: Path, count: int) -> NDArray[np.float32] | None:
    if not path.is_file():
        return None
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read it as numbers ({error})") from error
    if features.ndim != 2 or len(features) != count or features.dtype.kind != "f":
        raise DataError(
            f"{path}: expected numbers of shape ({count}, D), a row for each line of det.txt, got "
            f"{features.dtype} of shape {features.shape}"
        )
    return np.asarray(features, dtype=np.float32)


def mot_text(boxes: MotBoxes) -> str:
    """Return boxes as a MOTChallenge result file."""
    columns = boxes.rest[:, 0] if boxes.rest.shape[1] else np.ones(len(boxes))
    return "".join(
        f"{frame + 1},{who},{x0:.3f},{y0:.3f},{x1 - x0:.3f},{y1 - y0:.3f},{sure:.4f},-1,-1,-1\n"
        for frame, who, (x0, y0, x1, y1), sure in zip(
            boxes.frames.tolist(),
            boxes.ids.tolist(),
            boxes.xyxy.tolist(),
            columns.tolist(),
            strict=True,
        )
    )


def write_boxes(path: Path, boxes: MotBoxes) -> None:
    """Write boxes as a MOTChallenge result file.

    Raises:
        DataError: It cannot be written.
    """
    write_atomically(path, mot_text(boxes).encode())
