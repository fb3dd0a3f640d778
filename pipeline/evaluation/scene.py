"""A scene whose truth is known: videos and what `trackletgait synth video` wrote beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.errors import DataError
from pipeline.evaluation.boxes import Boxes

MIN_VISIBLE = 0.3
"""Share of a person's pixels from which he counts: fewer need not be found, and may be."""

MASKS = "masks.json"
_FACTS = ("layout", "colours", "num_frames", "fps", "seed")


@dataclass(frozen=True, slots=True, eq=False)
class CameraTruth:
    """Who is where on one camera.

    Attributes:
        boxes: Around the visible pixels of each person; `who` is the person.
        track_ids: Shape (N,), int64: one id from when a person comes into view until he leaves.
        visible: Shape (N,): share of the person that is visible.
    """

    boxes: Boxes
    track_ids: NDArray[np.int64]
    visible: NDArray[np.float64]

    def rows(self) -> list[list[float | str]]:
        """Return rows for JSON: frame, track, person, left, top, right, bottom, visible."""
        return [
            [frame, track, who, *box, visible]
            for frame, track, who, box, visible in zip(
                self.boxes.frames.tolist(),
                self.track_ids.tolist(),
                self.boxes.who.tolist(),
                self.boxes.xyxy.tolist(),
                self.visible.tolist(),
                strict=True,
            )
        ]

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[Any]]) -> Self:
        """Return the truth that `rows` wrote."""
        boxes = Boxes.of((int(row[0]), str(row[2]), row[3:7]) for row in rows)
        tracks = np.array([row[1] for row in rows], dtype=np.int64)
        return cls(boxes, tracks, np.array([row[7] for row in rows], dtype=np.float64))

    @property
    def counts(self) -> NDArray[np.bool_]:
        """Which boxes are of people who must be found, shape (N,)."""
        return np.asarray(self.visible >= MIN_VISIBLE)

    @property
    def num_walks(self) -> int:
        """How often somebody came into view."""
        return len(np.unique(self.track_ids[self.counts]))

    def counted(self) -> tuple[Boxes, Boxes]:
        """Return the boxes of those who must be found, and of those who need not."""
        return self.boxes[self.counts], self.boxes[~self.counts]

    def mot(self) -> str:
        """Return the boxes that count as a MOTChallenge file, for `detector: replay`."""
        rows = np.flatnonzero(self.counts)
        return "".join(
            f"{self.boxes.frames[row] + 1},{self.track_ids[row]},{x0:g},{y0:g},"
            f"{x1 - x0:g},{y1 - y0:g},1\n"
            for row in rows.tolist()
            for x0, y0, x1, y1 in [self.boxes.xyxy[row].tolist()]
        )

    @classmethod
    def of(cls, annotations: Sequence[Mapping[str, Any]]) -> Self:
        """Return the truth in COCO annotations with identity, track_id and visible."""
        corners = np.array([each["bbox"] for each in annotations], dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        frames = np.array([each["image_id"] for each in annotations], dtype=np.int64) - 1
        who = np.array([str(each["identity"]) for each in annotations], dtype=np.str_)
        return cls(
            Boxes(frames, who, corners),
            np.array([each["track_id"] for each in annotations], dtype=np.int64),
            np.array([each["visible"] for each in annotations], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The cameras of a scene.

    Attributes:
        folder: Where it lies; camera NAME has NAME.mp4 and NAME/masks.json.
        cameras: The truth of each, by name.
        facts: How it was drawn, in words.
    """

    folder: Path
    cameras: Mapping[str, CameraTruth]
    facts: str = ""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read scene.json and every camera's masks.json.

        Raises:
            DataError: The folder is no such scene, or a file is missing or damaged.
        """
        described = _read(folder / "scene.json")
        try:
            names = [str(camera["name"]) for camera in described["cameras"]]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{folder / 'scene.json'}: expected cameras with names; write the folder with "
                f"`trackletgait synth video`"
            ) from error
        for name in names:
            if not (folder / f"{name}.mp4").is_file():
                raise DataError(f"{folder}: expected the video {name}.mp4, it is not there")
        facts = ", ".join(f"{key} {described[key]}" for key in _FACTS if key in described)
        return cls(folder, {name: _camera(folder / name / MASKS) for name in names}, facts)

    @property
    def videos(self) -> list[tuple[Path, str]]:
        """Path and name of each camera's video."""
        return [(self.folder / f"{name}.mp4", name) for name in self.cameras]

    @property
    def people(self) -> set[str]:
        """Everybody who is in view of any camera."""
        return {who for camera in self.cameras.values() for who in camera.boxes.who.tolist()}


def write_truth(path: Path, truth: Mapping[str, CameraTruth]) -> None:
    """Write who is where on each camera as one small JSON file, without masks.

    Raises:
        DataError: It cannot be written.
    """
    text = json.dumps({name: camera.rows() for name, camera in truth.items()})
    write_atomically(path, text.replace("], [", "],\n[").encode() + b"\n")


def read_truth(path: Path) -> dict[str, CameraTruth]:
    """Return what `write_truth` wrote.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        return {name: CameraTruth.of_rows(rows) for name, rows in _read(path).items()}
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: expected camera names with rows of boxes ({type(error).__name__}: {error})"
        ) from error


def _camera(path: Path) -> CameraTruth:
    try:
        return CameraTruth.of(_read(path)["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected annotations with image_id, bbox, identity, track_id and visible "
            f"({type(error).__name__}: {error})"
        ) from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror}); expected a folder that `trackletgait synth "
            f"video` wrote"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, it is damaged ({error})") from error
