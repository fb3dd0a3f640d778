"""The mean person's joint angles over one gait cycle, as Fourier series.

A curve is a row of coefficients (c0, c1..c8, s1..s8): the angle at phase p (0 = contact of the left
heel, 1 = the next one) is c0 + sum of ck cos(2 pi k p) + sk sin(2 pi k p), in degrees. The
coefficients are fitted at import to the key points below (a periodic cubic spline through them, cut
after eight harmonics), which are read off the published mean curves of adults at their usual speed:

    leg         Winter 1991, "The Biomechanics and Motor Control of Human Gait"; Perry & Burnfield
                2010, "Gait Analysis"; Kadaba, Ramakrishnan & Wootten 1990 (J. Orthop. Res. 8)
    pelvis      Kadaba et al. 1990; Perry & Burnfield 2010
    trunk, arm  Murray, Drought & Kory 1964 (J. Bone Joint Surg. 46-A); Murray 1967 (Am. J. Phys.
                Med. 46)

The key points of hip, knee, foot and toes were then moved, by a least-squares fit that held them
close to the published figures (by 1 degree on average, by 5 at most), until the curves agree with
each other as well: published ones are means of different people measured one joint at a time, and
taken together they let a foot slide and scrape.

The ankle is not among them. The foot's pitch against the floor is (Winter 1991), and the ankle is
what brings the foot there: it comes out as published for the mean person, and the foot of anybody
whose hip and knee move otherwise still lies flat on the floor.

Legend of the shape suffixes: T frames, C curves, K coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

NUM_HARMONICS = 8
NUM_COEFFICIENTS = 1 + 2 * NUM_HARMONICS
PELVIS_TILT_DEG = 10.0
"""Forward tilt of the pelvis of somebody who stands; hip flexion is published against it."""

_Points = Sequence[tuple[float, float]]
_SAMPLES = 400

# (percent of the cycle, degrees). Signs: tilt, lean forward; list, bend: the left side up, the
# trunk bent to the right; twist, counter: the left side back.
_AXIAL: dict[str, _Points] = {
    "tilt": ((0, 0.8), (12, -0.8), (28, 0.8), (38, 1.0), (50, 0.8), (62, -0.8), (78, 0.8), (88, 1)),
    "list": ((0, 0.5), (13, 4.5), (30, 2.0), (50, -0.5), (63, -4.5), (80, -2.0)),
    "twist": ((0, -4.5), (15, -3.0), (30, 0.6), (50, 4.5), (65, 3.0), (80, -0.6)),
    "lean": ((0, -0.8), (14, 0.8), (36, -0.8), (50, -0.8), (64, 0.8), (86, -0.8)),
    "bend": ((0, 0.0), (14, -1.8), (32, -1.0), (50, 0.0), (64, 1.8), (82, 1.0)),
    "counter": ((0, 3.4), (25, 0.0), (50, -3.4), (75, 0.0)),
}

# Of one side, from the contact of its own heel. Hip, knee, shoulder, elbow: flexion; foot: toes up;
# toe: bent up; adduction: towards the other leg; rotation: inwards.
_SIDED: dict[str, _Points] = {
    "hip": (
        (0, 30.8), (7, 29.2), (14, 25.4), (22, 17.6), (30, 8.2), (40, -2.2), (47, -7.6),
        (51, -8.9), (56, -6.1), (62, 1.4), (70, 17.2), (78, 29.8), (84, 34.2), (90, 35.2),
        (96, 33.0),
    ),
    "adduction": ((0, 0.5), (13, 5.0), (25, 4.0), (40, 3.0), (52, 0.0), (64, -5.5), (80, -2.5)),
    "rotation": ((0, -1.0), (20, 2.0), (45, 1.0), (62, -2.5), (85, 0.0)),
    "knee": (
        (0, 3.9), (5, 9.5), (10, 15.2), (14, 17.2), (20, 16.0), (28, 10.4), (35, 6.6), (40, 5.3),
        (46, 5.7), (52, 12.1), (58, 29.3), (63, 45.4), (68, 57.7), (72, 60.1), (76, 57.9),
        (82, 43.3), (88, 21.7), (94, 6.1), (97, 3.4),
    ),
    "foot": (
        (0, 15.5), (3, 8.4), (6, 2.2), (9, 0.0), (13, 0.1), (18, -0.2), (24, 0.1), (30, -0.3),
        (36, -3.6), (42, -10.4), (47, -16.0), (52, -26.1), (57, -42.0), (62, -61.1), (66, -66.8),
        (70, -59.8), (76, -38.4), (82, -12.5), (88, 3.9), (93, 15.5), (97, 19.2),
    ),
    "toe": (
        (0, 7.1), (5, 4.0), (10, 0.4), (20, 0.1), (30, 0.1), (38, 4.9), (45, 13.5), (52, 27.4),
        (57, 39.0), (62, 36.5), (67, 26.6), (73, 21.7), (82, 17.2), (92, 10.5),
    ),
    "shoulder": ((0, -24), (12, -21), (30, -6), (50, 8), (62, 5), (80, -10)),
    "elbow": ((0, 15), (12, 16), (30, 25), (50, 38), (60, 36), (80, 23)),
}  # fmt: skip

_STANDING_DEG = {"hip": PELVIS_TILT_DEG, "elbow": 15.0}

AXIAL: tuple[str, ...] = tuple(_AXIAL)
SIDED: tuple[str, ...] = tuple(_SIDED)
CURVES: tuple[str, ...] = (
    *AXIAL,
    *(f"{name}_left" for name in SIDED),
    *(f"{name}_right" for name in SIDED),
)
"""Name of each curve: those of the body's axis, the left side's, the right side's."""


def _fit(points: _Points) -> NDArray[np.float64]:
    """Return the coefficients (K,) of the smooth periodic curve through key points."""
    phase = np.array([percent / 100 for percent, _ in points] + [1.0])
    angle = np.array([angle for _, angle in points] + [points[0][1]], dtype=np.float64)
    spline = CubicSpline(phase, angle, bc_type="periodic")
    spectrum = np.fft.rfft(spline(np.arange(_SAMPLES) / _SAMPLES)) / _SAMPLES
    waves = 2 * spectrum[1 : NUM_HARMONICS + 1]
    return np.concatenate([spectrum.real[:1], waves.real, -waves.imag])


def basis(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the waves (T, K) whose weighted sum a curve is, at phases (T,) in cycles."""
    turns = 2 * np.pi * phase[:, None] * np.arange(1, NUM_HARMONICS + 1)
    return np.concatenate([np.ones_like(turns[:, :1]), np.cos(turns), np.sin(turns)], axis=1)


def shifted(
    coefficients_CK: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return coefficients (C, K) of the curves that run `shift` (C,) cycles ahead."""
    turns = 2 * np.pi * shift[:, None] * np.arange(1, NUM_HARMONICS + 1)
    cos, sin = np.cos(turns), np.sin(turns)
    even = coefficients_CK[:, 1 : NUM_HARMONICS + 1]
    odd = coefficients_CK[:, NUM_HARMONICS + 1 :]
    return np.concatenate(
        [coefficients_CK[:, :1], even * cos + odd * sin, odd * cos - even * sin], axis=1
    )


def _mean_person() -> NDArray[np.float64]:
    axial = np.stack([_fit(points) for points in _AXIAL.values()])
    sided = np.stack([_fit(points) for points in _SIDED.values()])
    sided[:, 0] -= [_STANDING_DEG.get(name, 0.0) for name in SIDED]
    opposite = shifted(sided, np.full(len(SIDED), 0.5))
    return np.concatenate([axial, sided, opposite])


MEAN_CK: NDArray[np.float64] = _mean_person()
"""Coefficients (C, K) of the mean person, degrees from where each joint is when standing."""
MEAN_CK.flags.writeable = False


def _bounce() -> dict[str, NDArray[np.float64]]:
    """Return what a knee that gives one degree more adds to the curves, by name of the curve."""
    knee = _fit(((0, 0.0), (14, 1.0), (32, 0.0), (60, 0.0), (85, 0.0)))[None]
    hip = _fit(((0, 0.0), (14, 0.5), (32, 0.0), (60, 0.0), (85, 0.0)))[None]
    half = np.array([0.5])
    return {
        "knee_left": knee[0],
        "knee_right": shifted(knee, half)[0],
        "hip_left": hip[0],
        "hip_right": shifted(hip, half)[0],
    }


BOUNCE_K: dict[str, NDArray[np.float64]] = _bounce()
"""Coefficients (K,) by name of the curve that one degree of bounce adds."""
