"""Drawing: a colour per identity, text in OpenCV's font, and people on a video's picture."""

from __future__ import annotations

import colorsys
import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.sinks.recorder import RecordedTrack

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

UNKNOWN_RGB: Colour = (150, 150, 150)
_GOLDEN_RATIO = 0.618033988749895
_MASK_OPACITY = 0.35
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def identity_colour(identity: str | None) -> Colour:
    """Return the RGB colour of an identity: the same in every stream, page and run; None is grey.

    Pseudonyms that end in a number walk round the colour circle by the golden ratio, so that
    neighbours never look alike; other names are placed on it by their hash.
    """
    if identity is None:
        return UNKNOWN_RGB
    number = re.search(r"(\d{1,6})$", identity)
    if number:
        turn = int(number[1])
    else:
        turn = int.from_bytes(hashlib.sha256(identity.encode("utf-8", "replace")).digest()[:2])
    hue = (0.55 + turn * _GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.53 + 0.07 * (turn // 8 % 2), 0.72)
    return round(red * 255), round(green * 255), round(blue * 255)


def ascii_text(text: str) -> str:
    """Return `text` in the letters OpenCV's font has: accents dropped, others as question marks."""
    plain = unicodedata.normalize("NFKD", text)
    kept = "".join(c for c in plain if not unicodedata.combining(c))
    printable = "".join(c if c.isprintable() else "?" for c in kept)
    return printable.encode("ascii", "replace").decode()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a frame lies on the canvas: scaled by `scale`, then moved by `left` and `top`."""

    canvas: Canvas
    hw: tuple[int, int]
    scale: float
    left: int
    top: int

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a new picture of the canvas's size with the frame on it and black around it."""
        height, width = self.hw
        if image.shape[:2] != self.hw:
            image = _u8(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        if self.hw == (self.canvas.height, self.canvas.width):
            return image.copy()
        picture = np.zeros((self.canvas.height, self.canvas.width, 3), dtype=np.uint8)
        picture[self.top : self.top + height, self.left : self.left + width] = image
        return picture

    def points(self, points: NDArray[np.float64] | NDArray[np.int32]) -> NDArray[np.int32]:
        """Move (K, 2) frame coordinates onto the canvas."""
        moved = points * self.scale + (self.left, self.top)
        return np.rint(moved).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Canvas:
    """The picture of a video: even sides, as H.264's yuv420p asks.

    Attributes:
        width: Pixels.
        height: Pixels.
    """

    width: int
    height: int

    @classmethod
    def of(cls, hw: tuple[int, int], max_width: int) -> Canvas:
        """Return the canvas for frames of size `hw`: at most `max_width` wide, padded to even."""
        height, width = hw
        scale = min(1.0, max_width / width)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(width + width % 2, height + height % 2)

    def place(self, hw: tuple[int, int]) -> Placement:
        """Return how a frame of size `hw` fits, centred; a side that was padded is not scaled."""
        height, width = hw
        scale = min(self.width / width, self.height / height)
        if self.width - width in (0, 1) and self.height - height in (0, 1):
            return Placement(self, hw, 1.0, 0, 0)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        left, top = (self.width - size[1]) // 2, (self.height - size[0]) // 2
        return Placement(self, size, scale, left, top)


def annotate_image(
    picture: NDArray[np.uint8],
    tracks: Sequence[RecordedTrack],
    identities: Mapping[int, str | None],
    placement: Placement,
    caption: str,
) -> None:
    """Draw masks, boxes, labels and a line of text into `picture`.

    Args:
        picture: Shape (H, W, 3), uint8, BGR, of the canvas's size; changed in place.
        tracks: The people, in frame coordinates.
        identities: Who each track is; missing or None is drawn as unknown, grey.
        placement: How frame coordinates lie on the picture.
        caption: The moment in words, drawn in the lower left corner.
    """
    people = [_Person.of(track, identities.get(track.track_id), placement) for track in tracks]
    for person in people:
        _draw_mask(picture, person)
    for person in people:
        left, top, right, bottom = person.box
        cv2.rectangle(picture, (left, top), (right, bottom), person.bgr, _line(picture))
    taken: list[Box] = []
    for person in people:
        taken.append(_draw_label(picture, person, taken))
    _draw_caption(picture, ascii_text(caption))


@dataclass(frozen=True, slots=True, eq=False)
class _Person:
    box: Box
    polygons: list[NDArray[np.int32]]
    label: str
    bgr: Colour

    @classmethod
    def of(cls, track: RecordedTrack, identity: str | None, placement: Placement) -> _Person:
        (left, top), (right, bottom) = placement.points(track.xyxy.reshape(2, 2)).tolist()
        red, green, blue = identity_colour(identity)
        return cls(
            box=(left, top, right, bottom),
            polygons=[placement.points(polygon) for polygon in track.outlines],
            label=f"#{track.track_id} {'unknown' if identity is None else ascii_text(identity)}",
            bgr=(blue, green, red),
        )


def _draw_mask(picture: NDArray[np.uint8], person: _Person) -> None:
    if not person.polygons:
        return
    corners = np.concatenate(person.polygons)
    height, width = picture.shape[:2]
    left, top = np.clip(corners.min(axis=0), 0, (width, height)).tolist()
    right, bottom = np.clip(corners.max(axis=0) + 1, 0, (width, height)).tolist()
    if left >= right or top >= bottom:
        return
    patch = picture[top:bottom, left:right]
    filled = patch.copy()
    # One call with all polygons: OpenCV fills by the even-odd rule, so holes stay open.
    cv2.fillPoly(filled, person.polygons, person.bgr, offset=(-left, -top))
    cv2.addWeighted(filled, _MASK_OPACITY, patch, 1 - _MASK_OPACITY, 0, dst=patch)
    cv2.polylines(picture, person.polygons, True, person.bgr, 1, cv2.LINE_AA)


def _draw_label(picture: NDArray[np.uint8], person: _Person, taken: Sequence[Box]) -> Box:
    """Draw the label where it hides no other: above the box, below it, else inside."""
    size = _font_scale(picture)
    (width, height), _ = cv2.getTextSize(person.label, _FONT, size, _line(picture))
    width, height = width + 8, height + 8
    left, top, _, bottom = person.box
    candidates = [
        _inside(picture, left, y, width, height) for y in (top - height, bottom, top, top + height)
    ]
    place = next((c for c in candidates if not any(_overlap(c, t) for t in taken)), candidates[0])
    cv2.rectangle(picture, place[:2], place[2:], person.bgr, cv2.FILLED)
    # Black reads on light colours, white on dark ones (luma of BT.601).
    luma = 0.114 * person.bgr[0] + 0.587 * person.bgr[1] + 0.299 * person.bgr[2]
    ink = (0, 0, 0) if luma > 120 else (255, 255, 255)
    at = (place[0] + 4, place[3] - 4)
    cv2.putText(picture, person.label, at, _FONT, size, ink, _line(picture), cv2.LINE_AA)
    return place


def _draw_caption(picture: NDArray[np.uint8], text: str) -> None:
    size, line = _font_scale(picture), _line(picture)
    (width, height), _ = cv2.getTextSize(text, _FONT, size, line)
    bottom = picture.shape[0]
    cv2.rectangle(
        picture, (0, bottom - height - 10), (width + 10, bottom), (25, 25, 25), cv2.FILLED
    )
    cv2.putText(picture, text, (5, bottom - 5), _FONT, size, (240, 240, 240), line, cv2.LINE_AA)


def _inside(picture: NDArray[np.uint8], left: int, top: int, width: int, height: int) -> Box:
    left = max(0, min(left, picture.shape[1] - width - 1))
    top = max(0, min(top, picture.shape[0] - height - 1))
    return left, top, left + width, top + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _font_scale(picture: NDArray[np.uint8]) -> float:
    return float(min(1.2, max(0.4, picture.shape[1] / 1600)))


def _line(picture: NDArray[np.uint8]) -> int:
    return 1 if picture.shape[1] < 900 else 2


def _u8(image: object) -> NDArray[np.uint8]:
    return np.asarray(image, dtype=np.uint8)
