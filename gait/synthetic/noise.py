"""What a segmenter does to a mask: outlines swim, feet go missing, background sticks.

Lengths are in heights of the person and times in seconds, so that the same numbers serve near and
far people and any frame rate. `SegmentationNoise.learnt()` holds the numbers measured on our own
segmenter (scripts/fit_noise.py); docs/synthetic.md compares the two.

Legend of the shape suffixes: T frames, G grid rows, K grid columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from gait.errors import DataError
from gait.strict import StrictModel

LEARNT = Path(__file__).with_name("noise.json")
"""The numbers that ship."""

BANDS = 8
"""Slices of a person, from the head down, whose noise differs."""

Masks = NDArray[np.uint8]
_Floats = NDArray[np.float32]
_Profile = Annotated[tuple[float, ...], Field(min_length=BANDS, max_length=BANDS, strict=False)]
_BAND_CENTRES = (np.arange(BANDS) + 0.5) / BANDS
_ON = 255
_LEVELS_A_PIXEL, _ZERO = 64, 1 << 15  # distances as 16-bit integers, which OpenCV blurs exactly
_FARTHEST_PX = 500.0
_REFERENCE_PX = 100.0  # height at which the strength holds
_SMALLEST_PX = 50.0  # and below which it grows no more: no smaller people were measured
_EDGE = 0.15  # how far beyond the person the field reaches, in person heights


class _Finite(StrictModel):
    model_config = ConfigDict(allow_inf_nan=False)


class Lumps(_Finite):
    """Pieces of the mask that are wrong together: bitten out of the person, or stuck on.

    Attributes:
        rate: How many begin a second. Higher spoils more frames.
        radius: Usual radius in person heights. Higher loses whole feet, at the price of masks that
            are no longer a person.
        spread: How much the radius differs: standard deviation of its logarithm.
        stretch: Greatest ratio of length to width. Higher makes tongues of spots.
        duration_s: How long one lasts on average. Higher fools the eye of a temporal model more.
        inside: Share of them that lie anywhere in the person; the others lie at the outline on the
            left or right. Higher makes holes.
        where: Chance of each of the eight slices from the head down, in any scale.
    """

    rate: float = Field(default=1.0, ge=0, le=1000)
    radius: float = Field(default=0.05, gt=0, le=0.5)
    spread: float = Field(default=0.4, ge=0, le=1.5)
    stretch: float = Field(default=2.5, ge=1, le=10)
    duration_s: float = Field(default=0.15, gt=0, le=60)
    inside: float = Field(default=0.2, ge=0, le=1)
    where: _Profile = (1.0,) * BANDS


class SegmentationNoise(_Finite):
    """The noise model. The defaults are a mild segmenter; `learnt()` is ours.

    Attributes:
        strength: Scales all of it; 0 changes nothing. Higher makes the encoder hardier, at the
            price of detail it could have used.
        fade: How fast it fades as people come nearer: the strength is that of a person 100 pixels
            high, and that of another the same times (100 / height) to this power. At 0 all people
            are spoilt in the same way, at 1 their outlines swim by the same number of pixels.
        unevenness: How much it differs between walks: standard deviation of the strength's
            logarithm. Higher mixes clean walks with hopeless ones.
        rounding: How far corners and thin parts are rounded off (sigma). Higher loses hands, straps
            and toes.
        webbing: How wide gaps are filled (sigma). Higher closes those between the legs and between
            arm and trunk.
        swell: How far outside the true outline the mask's lies on average in each slice. Higher
            fattens, below 0 thins.
        swell_spread: How much that differs between walks (standard deviation).
        jitter: How far the outline swims in each slice (standard deviation).
        grain: Length of the outline's waves. Higher bends whole limbs, lower frays them.
        lasting: Share of the jitter's variance that stays for the whole walk, 0..1.
        memory_s: How long the rest lasts. Lower flickers more.
        flicker: How much the whole outline swells and shrinks from frame to frame.
        bites: What goes missing.
        blobs: What sticks: shadows at the feet, background beside the head.
        wrong: Share of frames in which a large part is missing.
        blocky: Share of walks whose masks come from a coarse grid.
        block: Side of that grid's cells. Higher makes coarser steps.
        whole: Whether only the largest piece is kept, as our segmenter's guard does.
    """

    strength: float = Field(default=1.0, ge=0, le=5)
    fade: float = Field(default=1.0, ge=0, le=2)
    unevenness: float = Field(default=0.3, ge=0, le=1.5)
    rounding: float = Field(default=0.008, ge=0, le=0.1)
    webbing: float = Field(default=0.01, ge=0, le=0.1)
    swell: _Profile = (0.0,) * BANDS
    swell_spread: float = Field(default=0.003, ge=0, le=0.1)
    jitter: _Profile = (0.006,) * BANDS
    grain: float = Field(default=0.05, ge=0.005, le=1)
    lasting: float = Field(default=0.3, ge=0, le=1)
    memory_s: float = Field(default=0.1, gt=0)
    flicker: float = Field(default=0.001, ge=0, le=0.1)
    bites: Lumps = Lumps()
    blobs: Lumps = Lumps()
    wrong: float = Field(default=0.005, ge=0, le=1)
    blocky: float = Field(default=0.1, ge=0, le=1)
    block: float = Field(default=0.02, ge=0.002, le=0.2)
    whole: bool = True

    @classmethod
    def learnt(cls, path: Path = LEARNT) -> SegmentationNoise:
        """Return the noise of our own segmenter.

        Raises:
            DataError: The file is missing or damaged.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(
                f"{path}: cannot read the learnt noise ({error.strerror}); "
                "`python scripts/fit_noise.py` makes it anew"
            ) from error
        except ValidationError as error:
            raise DataError(
                f"{path}: expected the numbers of SegmentationNoise: {error}"
            ) from error

    def apply(self, masks: Masks, rng: np.random.Generator, *, fps: float = 25.0) -> Masks:
        """Return the masks of one walk as a segmenter would have made them.

        Args:
            masks: One person without what others hide, shape (T, H, W), uint8, non-zero is the
                person; in a window that follows the person with some margin, and before
                `silhouette.normalise`.
            rng: Where the noise comes from; one walk, one call.
            fps: Frames a second.

        Returns:
            Shape (T, H, W), uint8, 0 or 255. Frames of which nothing is left are empty.

        Raises:
            ValueError: Another shape or dtype, or a frame rate that is not above 0.
        """
        _check(masks, fps)
        person = masks > 0
        if self.strength > 0 and person.any():
            strength = self.strength * float(np.exp(rng.normal(0, self.unevenness)))
            person = self._spoilt(person, strength, fps, rng)
        return person.astype(np.uint8) * np.uint8(_ON)

    def _spoilt(
        self, person: NDArray[np.bool_], strength: float, fps: float, rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        extent = _Extent.of(person)
        size = float(np.median(extent.height))
        strength *= (_REFERENCE_PX / max(size, _SMALLEST_PX)) ** self.fade
        level = _signed_distance(person)
        for lump in self._lumps(len(person), strength, fps, rng):
            _apply_lump(level, lump, person, extent)
        level = np.maximum(level, _blurred(level, self.webbing * strength * size))
        level = _blurred(level, self.rounding * strength * size)
        level += (
            self._shifts(extent, person.shape, strength, fps, rng) * extent.height[:, None, None]
        )
        if rng.random() < self.blocky * strength:
            level = _blocky(level, self.block * size)
        spoilt = level > 0
        return _largest(spoilt) if self.whole else spoilt

    def _shifts(
        self,
        extent: _Extent,
        shape: tuple[int, ...],
        strength: float,
        fps: float,
        rng: np.random.Generator,
    ) -> _Floats:
        """Return how far the outline moves outward near each pixel, (T, H, W), in heights."""
        frames, height, width = shape
        rows = (np.arange(height) + 0.5 - extent.top[:, None]) / extent.height[:, None]
        columns = (np.arange(width) + 0.5 - extent.centre[:, None]) / extent.height[:, None]
        along = np.arange(-_EDGE, 1 + _EDGE + self.grain, self.grain)
        across = np.arange(-0.5, 0.5 + self.grain, self.grain)
        waves = self._waves((frames, len(along), len(across)), fps, rng)
        field = _weights(rows, along, self.grain) @ waves
        field = field @ _weights(columns, across, self.grain).transpose(0, 2, 1)
        steady = rng.normal(0, self.swell_spread) + rng.normal(0, self.flicker, frames)
        swell = np.interp(rows, _BAND_CENTRES, self.swell) + steady[:, None]
        jitter = np.interp(rows, _BAND_CENTRES, self.jitter)
        shifts = jitter[..., None].astype(np.float32) * field
        shifts += swell[..., None].astype(np.float32)
        return np.asarray(shifts * np.float32(strength))

    def _waves(self, shape: tuple[int, int, int], fps: float, rng: np.random.Generator) -> _Floats:
        """Return noise of unit variance, (T, G, K), that partly lasts and partly fades."""
        keep = np.float32(np.exp(-1 / (fps * self.memory_s)))
        fresh = np.sqrt(1 - keep**2)
        fading = rng.standard_normal(shape, dtype=np.float32)
        for frame in range(1, shape[0]):
            fading[frame] = keep * fading[frame - 1] + fresh * fading[frame]
        lasting = rng.standard_normal(shape[1:], dtype=np.float32)
        share = np.float32(self.lasting)
        return np.asarray(np.sqrt(share) * lasting + np.sqrt(1 - share) * fading)

    def _lumps(
        self, frames: int, strength: float, fps: float, rng: np.random.Generator
    ) -> Iterator[_Lump]:
        for lumps, is_bite in ((self.bites, True), (self.blobs, False)):
            lead = 3 * lumps.duration_s * fps  # frames before the walk in which some began
            count = rng.poisson(lumps.rate * strength * (frames + lead) / fps)
            for _ in range(count):
                begin = int(np.floor(rng.uniform(-lead, frames)))
                lasts = 1 + int(rng.exponential(lumps.duration_s * fps))
                lump = _drawn(lumps, begin, begin + lasts, is_bite=is_bite, rng=rng)
                if lump.end > 0:
                    yield lump
        for frame in np.flatnonzero(rng.random(frames) < self.wrong * strength).tolist():
            radius = float(rng.uniform(0.2, 0.4))
            place, side = rng.uniform(0, 1, 2).tolist()
            yield _Lump(frame, frame + 1, True, place, side, radius, radius, 0.0, (0.0, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Extent:
    """Where the person is in each frame, shape (T,), pixels."""

    top: NDArray[np.float64]
    height: _Floats
    centre: NDArray[np.float64]

    @classmethod
    def of(cls, person: NDArray[np.bool_]) -> _Extent:
        """Measure masks of which at least one is not empty; empty ones count as the usual one."""
        rows = np.asarray(person.any(axis=2))
        seen = np.asarray(rows.any(axis=1))
        top = rows.argmax(axis=1).astype(np.float64)
        height = rows.shape[1] - rows[:, ::-1].argmax(axis=1) - top
        columns = person.sum(axis=1)
        mass = columns.sum(axis=1)
        centre = columns @ (np.arange(person.shape[2]) + 0.5) / np.maximum(mass, 1)
        for values in (top, height, centre):
            values[~seen] = np.median(values[seen])
        return cls(top, height.astype(np.float32), centre)


@dataclass(frozen=True, slots=True)
class _Lump:
    """An uneven ellipse, from frame `begin` to before `end`.

    `down` is its place from head (0) to feet (1), `side` from the person's left outline in that row
    (0) to the right one (1); lengths are in person heights.
    """

    begin: int
    end: int
    is_bite: bool
    down: float
    side: float
    length: float
    width: float
    angle: float
    bumps: tuple[float, float]


def _drawn(lumps: Lumps, begin: int, end: int, *, is_bite: bool, rng: np.random.Generator) -> _Lump:
    chances = np.asarray(lumps.where) / max(sum(lumps.where), 1e-9)
    band = int(np.searchsorted(np.cumsum(chances)[:-1], rng.random(), side="right"))
    radius = lumps.radius * float(np.exp(rng.normal(0, lumps.spread)))
    stretch = np.sqrt(rng.uniform(1, lumps.stretch))
    is_flat = band == BANDS - 1 and not is_bite  # a shadow lies on the ground
    return _Lump(
        begin,
        end,
        is_bite,
        down=(band + float(rng.random())) / BANDS,
        side=float(rng.random() if rng.random() < lumps.inside else rng.integers(2)),
        length=radius * stretch,
        width=radius / stretch,
        angle=float(rng.normal(0, 0.2) if is_flat else rng.uniform(0, np.pi)),
        bumps=(float(rng.uniform(0, 0.4)), float(rng.uniform(0, 2 * np.pi))),
    )


def _apply_lump(level: _Floats, lump: _Lump, person: NDArray[np.bool_], extent: _Extent) -> None:
    """Take the lump out of the person or add it, in the frames it lasts."""
    for frame in range(max(lump.begin, 0), min(lump.end, len(level))):
        size = float(extent.height[frame])
        y = float(extent.top[frame]) + lump.down * size
        columns = np.flatnonzero(person[frame, min(int(y), level.shape[1] - 1)])
        if len(columns) == 0:
            continue
        x = columns[0] + 0.5 + lump.side * float(columns[-1] - columns[0])
        reach = int(1.5 * lump.length * size) + 2
        rows = slice(max(int(y) - reach, 0), int(y) + reach + 1)
        cols = slice(max(int(x) - reach, 0), int(x) + reach + 1)
        near = level[frame, rows, cols]
        dy = np.arange(rows.start, rows.start + near.shape[0])[:, None] + 0.5 - y
        dx = np.arange(cols.start, cols.start + near.shape[1]) + 0.5 - x
        outside = _outside(lump, dx, dy, size).astype(np.float32)
        near[:] = np.minimum(near, outside) if lump.is_bite else np.maximum(near, -outside)


def _outside(
    lump: _Lump, dx: NDArray[np.float64], dy: NDArray[np.float64], size: float
) -> NDArray[np.float64]:
    """Return about how many pixels outside the lump a point is, below 0 inside."""
    sin, cos = np.sin(lump.angle), np.cos(lump.angle)
    along, across = (dx * cos + dy * sin) / lump.length, (dy * cos - dx * sin) / lump.width
    bump, phase = lump.bumps
    rim = 1 + bump * np.cos(3 * np.arctan2(across, along) + phase)
    ratio = np.hypot(along, across) / size
    return np.asarray((ratio - rim) * lump.width * size)


def _signed_distance(person: NDArray[np.bool_]) -> _Floats:
    """Return the distance of each pixel's centre from the outline, above 0 inside, (T, H, W)."""
    level = np.empty(person.shape, dtype=np.float32)
    for frame, mask in enumerate(person.astype(np.uint8)):
        inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
        outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_5)
        np.subtract(inside, outside, out=level[frame])
    level -= np.float32(0.5) * np.sign(level)
    return level.clip(-_FARTHEST_PX, _FARTHEST_PX)


def _blurred(level: _Floats, sigma: float) -> _Floats:
    if sigma < 0.3:  # of a pixel: no change worth the time
        return level
    whole = np.rint(level * _LEVELS_A_PIXEL + _ZERO).astype(np.uint16)
    soft = np.stack([cv2.GaussianBlur(each, (0, 0), sigma) for each in whole])
    return (soft.astype(np.float32) - _ZERO) / np.float32(_LEVELS_A_PIXEL)


def _weights(at: NDArray[np.float64], nodes: NDArray[np.float64], grain: float) -> _Floats:
    """Return how much each node of a grid counts at each place, (T, places, nodes).

    The squares of a place's weights sum to 1, so that noise of unit variance keeps it.
    """
    near = np.exp(-(((at[..., None] - nodes) / grain) ** 2))
    norm = np.sqrt((near**2).sum(axis=-1, keepdims=True))
    return np.asarray(near / np.maximum(norm, 1e-6), dtype=np.float32)


def _blocky(level: _Floats, side_px: float) -> _Floats:
    height, width = level.shape[1:]
    small = (max(1, round(width / side_px)), max(1, round(height / side_px)))
    coarse = (cv2.resize(each, small, interpolation=cv2.INTER_AREA) for each in level)
    fine = [cv2.resize(each, (width, height), interpolation=cv2.INTER_NEAREST) for each in coarse]
    return np.asarray(np.stack(fine), dtype=np.float32)


def _largest(person: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return each frame's largest connected piece."""
    kept = np.zeros_like(person)
    for frame, mask in enumerate(person.astype(np.uint8)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        if count > 1:
            kept[frame] = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return kept


def _check(masks: Masks, fps: float) -> None:
    if masks.ndim != 3 or masks.dtype != np.uint8 or masks.size == 0:
        raise ValueError(
            f"masks: expected uint8 of shape (T, H, W), got {masks.dtype} of shape {masks.shape}"
        )
    if not fps > 0:
        raise ValueError(f"fps: expected a frame rate above 0, got {fps}")
