"""Where everybody is, exactly: masks, boxes and ids of one camera, in the formats evaluators read.

`masks.json` follows COCO (Lin et al. 2014) with its compressed run lengths, `gt.txt` and
`seqinfo.ini` follow MOTChallenge (Milan et al. 2016). Pixels count from 0, frames from 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.errors import DataError

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""

_FIRST_CHARACTER = 48
_PAYLOAD_BITS = 5


@dataclass(frozen=True, slots=True)
class Appearance:
    """One person in one frame of one camera.

    Attributes:
        frame: Counted from 0.
        track_id: Counted from 1; unique in the camera, and new when the person comes back.
        identity: Who, the same on every camera.
        box: Tight around the visible pixels.
        full_box: Tight around the whole person, also behind others and beyond the frame's edge.
        area: Visible pixels.
        visible: Share of the person's pixels that is visible, 0..1: neither hidden by a person or
            thing in front nor beyond the frame's edge.
        counts: The visible pixels, as `encode_rle` writes them.
    """

    frame: int
    track_id: int
    identity: str
    box: Box
    full_box: Box
    area: int
    visible: float
    counts: str


@dataclass(frozen=True, slots=True)
class CameraTruth:
    """The ground truth of one camera, collected frame after frame.

    Attributes:
        name: The camera; its video is NAME.mp4.
        width: Of the frame, pixels.
        height: Of the frame, pixels.
        fps: Frames a second.
        appearances: Everybody visible, in the order of the frames.
    """

    name: str
    width: int
    height: int
    fps: float
    appearances: list[Appearance] = field(default_factory=list)

    def write(self, folder: Path, num_frames: int) -> None:
        """Write gt/gt.txt, seqinfo.ini and masks.json into `folder`.

        Raises:
            DataError: They cannot be written.
        """
        write_atomically(folder / "gt" / "gt.txt", self.mot().encode())
        write_atomically(folder / "seqinfo.ini", self._seqinfo(num_frames).encode())
        coco = json.dumps(self._coco(num_frames), separators=(",", ":"))
        write_atomically(folder / "masks.json", coco.encode() + b"\n")

    def mot(self) -> str:
        """Return gt.txt: frame, id, left, top, width, height, 1, 1, visibility a line.

        The box is the one around the visible pixels.
        """
        return "".join(
            f"{each.frame + 1},{each.track_id},{','.join(map(str, each.box))},1,1,"
            f"{each.visible:.4f}\n"
            for each in self.appearances
        )

    def _seqinfo(self, num_frames: int) -> str:
        return (
            f"[Sequence]\nname={self.name}\nimDir=../{self.name}.mp4\nframeRate={self.fps:g}\n"
            f"seqLength={num_frames}\nimWidth={self.width}\nimHeight={self.height}\nimExt=.mp4\n"
        )

    def _coco(self, num_frames: int) -> dict[str, Any]:
        size = {"width": self.width, "height": self.height}
        images = [
            {"id": frame + 1, "file_name": f"{self.name}.mp4", "frame": frame, **size}
            for frame in range(num_frames)
        ]
        annotations = [
            self._annotation(number, each) for number, each in enumerate(self.appearances, 1)
        ]
        categories = [{"id": 1, "name": "person"}]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _annotation(self, number: int, each: Appearance) -> dict[str, Any]:
        return {
            "id": number,
            "image_id": each.frame + 1,
            "category_id": 1,
            "track_id": each.track_id,
            "identity": each.identity,
            "bbox": each.box,
            "full_bbox": each.full_box,
            "area": each.area,
            "visible": round(each.visible, 4),
            "iscrowd": 0,
            "segmentation": {"size": [self.height, self.width], "counts": each.counts},
        }


def encode_rle(patch: NDArray[np.bool_], left: int, top: int, hw: tuple[int, int]) -> str:
    """Return a mask in COCO's compressed run lengths: columns from the left, background first.

    A run is written as its difference to the run two before it (from the fourth on), five bits a
    character from the lowest, each with a sixth bit that says whether more follow.

    Args:
        patch: Shape (h, w): the mask where it may hold anything, inside the frame.
        left: Column of the frame where the patch begins.
        top: Row of the frame where the patch begins.
        hw: Height and width of the frame.
    """
    runs = _runs(patch, left, top, hw)
    differences = runs[:3] + [run - runs[at + 1] for at, run in enumerate(runs[3:])]
    return "".join(map(_characters, differences))


def decode_rle(counts: str, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask, shape `hw`, that COCO's compressed run lengths describe.

    Raises:
        DataError: They are damaged, or of a frame of another size.
    """
    runs: list[int] = []
    for difference in _numbers(counts):
        runs.append(difference + (runs[-2] if len(runs) > 2 else 0))
    if sum(runs) != hw[0] * hw[1] or min(runs, default=0) < 0:
        raise DataError(
            f"run lengths of a mask: expected {hw[0] * hw[1]} pixels ({hw[0]} x {hw[1]}), "
            f"got {sum(runs)}; the file is damaged or of another frame size"
        )
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(hw[1], hw[0]).T)


def _runs(patch: NDArray[np.bool_], left: int, top: int, hw: tuple[int, int]) -> list[int]:
    columns = np.zeros((patch.shape[1], hw[0]), dtype=np.int8)
    columns[:, top : top + patch.shape[0]] = patch.T
    flat = columns.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=0)) + left * hw[0]
    size, end = hw[0] * hw[1], left * hw[0] + flat.size
    # A person at the patch's last pixel ends there, unless the frame ends too.
    ends = [end] if flat.size and flat[-1] and end < size else []
    return [after - before for before, after in pairwise([0, *changes.tolist(), *ends, size])]


def _characters(number: int) -> str:
    characters = []
    while True:
        bits, number = number & 0x1F, number >> _PAYLOAD_BITS
        is_last = number == (-1 if bits & 0x10 else 0)
        characters.append(chr((bits if is_last else bits | 0x20) + _FIRST_CHARACTER))
        if is_last:
            return "".join(characters)


def _numbers(counts: str) -> list[int]:
    numbers, value, shift = [], 0, 0
    for character in counts:
        code = ord(character) - _FIRST_CHARACTER
        value |= (code & 0x1F) << shift
        shift += _PAYLOAD_BITS
        if not code & 0x20:
            numbers.append(value - (1 << shift) if code & 0x10 else value)
            value, shift = 0, 0
    return numbers


def tight_box(mask: NDArray[np.bool_]) -> Box | None:
    """Return the box around a mask's pixels, or None when it has none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1
