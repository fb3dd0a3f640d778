"""From a planned walk to its silhouettes: dress, walk, film, hide, segment, normalise.

Legend of the shape suffixes: T frames, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.errors import DataError
from gait.silhouette import Reason, SilhouetteLimits, judge, normalise
from gait.synthetic.bodies import Body
from gait.synthetic.camera import Camera
from gait.synthetic.noise import SegmentationNoise
from gait.synthetic.occlusion import hidden
from gait.synthetic.outfit import Dressed, dressed
from gait.synthetic.outline import Outline
from gait.synthetic.plan import Band, Subject, View, Walk
from gait.synthetic.stroll import stroll
from gait.synthetic.walkers import Person, person

Masks = NDArray[np.uint8]

_LIMITS = SilhouetteLimits(min_height=24, max_aspect=1.2)
_ENOUGH = 8
_ATTEMPTS = 4
_MOST_HIDDEN = 0.4
_MEMORY = 15  # masks whose area is the usual one
_MARGIN_PX = 12
_FOCAL_PX = 1000.0


def film(seed: int, subject: Subject, noise: SegmentationNoise, device: str = "cpu") -> list[Masks]:
    """Return the silhouettes of all sequences of a person, in the order of `subject.keys`.

    Args:
        seed: Of the people.
        subject: Who, and their planned walks.
        noise: What a segmenter does to masks; each view says how strongly.
        device: Where masks are rendered.

    Returns:
        Shape (T, 64, 64) each, uint8, with T of at least 1.

    Raises:
        DataError: The baked bodies cannot be read.
    """
    who = person(seed, subject.index)
    return [sequence for walk in subject.walks for sequence in _film_walk(who, walk, noise, device)]


def _film_walk(who: Person, walk: Walk, noise: SegmentationNoise, device: str) -> list[Masks]:
    rng = np.random.default_rng(walk.seed)
    clad = dressed(who.body, who.clothes(walk.session), walk.condition, rng, who.habits.side)
    scene = _Scene.of(who, walk, clad, rng)
    outline = Outline(scene.body.faces, device)
    return [_film_view(scene, view, outline, noise) for view in walk.views]


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """A walk that has been walked.

    Attributes:
        body: Dressed.
        points_TV3: Of its vertices in the world.
        position_T2: On the ground.
        heading_T: Where the person faces, radians.
        fps: Frames a second.
    """

    body: Body
    points_TV3: NDArray[np.float32]
    position_T2: NDArray[np.float32]
    heading_T: NDArray[np.float32]
    fps: float

    @classmethod
    def of(cls, who: Person, walk: Walk, clad: Dressed, rng: np.random.Generator) -> _Scene:
        motion = stroll(who.style, clad, walk, rng)
        return cls(clad.body, clad.body.posed(motion), motion.position, motion.heading, walk.fps)

    @property
    def middle(self) -> int:
        """Index of the frame at which the view is as planned."""
        return len(self.points_TV3) // 2

    @property
    def waist_T3(self) -> NDArray[np.float64]:
        """The middle of the body, where a camera looks."""
        height = np.full((len(self.position_T2), 1), 0.5 * self.body.height_m)
        return np.concatenate([self.position_T2, height], axis=1).astype(np.float64)


def _film_view(scene: _Scene, view: View, outline: Outline, noise: SegmentationNoise) -> Masks:
    """Return a view's silhouettes; where bad luck leaves too few, it is tried again."""
    shot = _Shot.of(scene, view)
    found: list[NDArray[np.uint8]] = []
    for attempt in range(_ATTEMPTS + 1):
        rng = np.random.default_rng([*view.seed, attempt])
        is_last = attempt == _ATTEMPTS  # then nothing is in the way
        kept = _kept_frames(scene, view, shot.camera, rng, all_of_them=is_last)
        masks = outline.fill(shot.pixels_TV2[kept], shot.size_hw)
        if not is_last:
            masks = _spoilt(masks, shot.corner_T2[kept], view, scene.fps, noise, rng)
        found = _normalised(masks, shot.heights_T[kept])
        if len(found) >= min(_ENOUGH, len(scene.position_T2)):
            break
    if not found:
        raise DataError(f"{view.key}: expected at least one silhouette, got none; report this")
    return np.stack(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    """Where the person is seen.

    Attributes:
        camera: The camera.
        pixels_TV2: Vertices in a window that follows the person by whole pixels.
        corner_T2: The window's corner in the picture, pixels.
        heights_T: Of the person, pixels.
        size_hw: Of the window.
    """

    camera: Camera
    pixels_TV2: NDArray[np.float32]
    corner_T2: NDArray[np.float32]
    heights_T: NDArray[np.float64]
    size_hw: tuple[int, int]

    @classmethod
    def of(cls, scene: _Scene, view: View) -> _Shot:
        camera = _camera(scene, view)
        seen, _ = camera.project(scene.points_TV3)
        middle = seen[scene.middle, scene.body.treads, 1]
        pixels = seen * np.float32(view.height_px / float(np.ptp(middle)))
        low, high = pixels.min(axis=1), pixels.max(axis=1)
        corner = np.floor(low) - _MARGIN_PX
        width, height = np.ceil((high - corner).max(axis=0)) + _MARGIN_PX
        window = (pixels - corner[:, None]).astype(np.float32)
        tall = (high - low)[:, 1].astype(np.float64)
        return cls(camera, window, corner.astype(np.float32), tall, (int(height), int(width)))


def _camera(scene: _Scene, view: View) -> Camera:
    """Return a camera far enough away that nobody walks into it."""
    target = scene.waist_T3[scene.middle]
    stretch = float(np.linalg.norm(scene.waist_T3 - target, axis=1).max())
    return Camera.around(
        target,
        float(scene.heading_T[scene.middle]) + np.radians(view.azimuth),
        np.radians(view.pitch),
        max(view.distance_m, 1.3 * stretch + 1.5),
        _FOCAL_PX,
    )


def _kept_frames(
    scene: _Scene, view: View, camera: Camera, rng: np.random.Generator, *, all_of_them: bool
) -> NDArray[np.int64]:
    """Return the frames that are not lost and whose view is not to be avoided."""
    num = len(scene.position_T2)
    kept = np.full(num, True) if all_of_them else rng.random(num) >= view.drop
    kept[scene.middle] = True
    if view.avoided is not None:
        kept &= ~_is_in(view.avoided, scene, camera)
        kept[scene.middle] = True  # outside by its plan, whatever rounding says
    return np.flatnonzero(kept)


def _is_in(band: Band, scene: _Scene, camera: Camera) -> NDArray[np.bool_]:
    towards = camera.position - scene.waist_T3
    azimuth = np.degrees(np.arctan2(towards[:, 1], towards[:, 0]) - scene.heading_T)
    pitch = np.degrees(np.arctan2(towards[:, 2], np.hypot(towards[:, 0], towards[:, 1])))
    return np.array(
        [band.holds(a, p) for a, p in zip(azimuth.tolist(), pitch.tolist(), strict=True)]
    )


def _spoilt(
    masks: Masks,
    corner_T2: NDArray[np.float32],
    view: View,
    fps: float,
    noise: SegmentationNoise,
    rng: np.random.Generator,
) -> Masks:
    """Return the masks behind what is in the way and as the segmenter sees them.

    A mask of which too much is hidden is empty, as the pipeline would not use it.
    """
    if view.occluder is not None:
        seen = hidden(masks, corner_T2, view.occluder, view.height_px, rng)
        share = _areas(seen) / np.maximum(_areas(masks), 1)
        masks = np.where((share >= 1 - _MOST_HIDDEN)[:, None, None], seen, np.uint8(0))
    spoiling = noise.model_copy(update={"strength": noise.strength * view.noise})
    return spoiling.apply(masks, rng, fps=fps) if view.noise else masks


def _areas(masks: Masks) -> NDArray[np.int64]:
    return np.array([cv2.countNonZero(each) for each in masks])


def _normalised(masks: Masks, heights_T: NDArray[np.float64]) -> list[NDArray[np.uint8]]:
    """Return the silhouettes of the masks that the pipeline would not refuse.

    Args:
        masks: Shape (T, H, W), uint8.
        heights_T: Of the person's box in each, pixels.
    """
    areas: list[float] = []
    found = []
    for mask, height in zip(masks, heights_T.tolist(), strict=True):
        patch = _patch(mask)
        if patch is None:
            continue
        usual = float(np.median(areas[-_MEMORY:])) * height**2 if areas else None
        verdict = judge(patch, previous_area=usual, limits=_LIMITS)
        areas.append(verdict.area / height**2)
        silhouette = normalise(patch)
        if verdict.is_good and not isinstance(silhouette, Reason):
            found.append(silhouette)
    return found


def _patch(mask: Masks) -> Masks | None:
    """Return the person's rows, twice as wide as high: so the scale has nothing to round."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    person_rows = mask[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(person_rows.any(axis=0))
    wide = 2 * len(person_rows)
    left = (int(columns[0]) + int(columns[-1])) // 2 - wide // 2
    patch = np.zeros((len(person_rows), wide), np.uint8)
    low, high = max(left, 0), min(left + wide, mask.shape[1])
    patch[:, low - left : high - left] = person_rows[:, low:high]
    return patch
