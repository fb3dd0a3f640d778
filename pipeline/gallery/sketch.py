"""Short forms of embeddings that never overstate how far apart two are.

Search reads 16 x 48 numbers of each exemplar instead of 16 x 256, rules out all that cannot be
among the nearest, and measures what is left exactly. A part x becomes

    z(x) = (B'(x - m), |x - m - BB'(x - m)|)

its coordinates along the `_AXES` directions B in which a gallery's parts differ most, and the
length of what these leave. Coordinates are no longer than what they are of, and lengths differ by
no more than what they are of (the triangle inequality), so |z(x) - z(y)| <= |x - y| for any
orthonormal B and any m: bad ones make the search slow, not wrong.

Rounding could still lift a bound above the truth, so its worst case is taken off:

* z is computed in float64. The length is a root of a difference, so it errs by up to the root of
  what float64 does: less than `_SHORTER` of |x - m|. Rounding to float32 is far below that.
* |z(x)|² + |z(y)|² - 2 z(x)·z(y) is one product of `_WIDTH` numbers in float32, which errs by at
  most its length times 2^-24 of (|z(x)| + |z(y)|)², in whatever order it is added up (Higham,
  Accuracy and Stability of Numerical Algorithms, section 3.1); `_PRODUCT` is twice that.
* 16 roots and their sum err by less than `_SUM` of the sum.

Legend of the shape suffixes: N exemplars, M probes, P parts, C channels, W numbers of a sketch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.gallery.exemplar import EMBEDDING_SHAPE

Floats = NDArray[np.floating[Any]]

_CHANNELS, _PARTS = EMBEDDING_SHAPE
_WIDTH = 48
_AXES = _WIDTH - 3  # the others: the length of the rest, the square of all, a one
_REST, _SQUARE, _ONE = _AXES, _AXES + 1, _AXES + 2
_SHORTER = 2e-6
_PRODUCT = 2 * (_WIDTH + 8) * 2.0**-24
_SUM = 1e-5
_UNDERFLOW = 1e-12
_NOWHERE = 1e30  # not infinite: products of matrices may multiply by zeros of their own


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What probes are compared with sketches by.

    Attributes:
        factors_PMW: float32; its product with a sketch is the squares of the bounds.
        slack_M: What rounding may have added to a bound.
    """

    factors_PMW: NDArray[np.float32]
    slack_M: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sketcher:
    """Makes sketches.

    Attributes:
        mean_PC: What is taken off first; any will do.
        axes_PCW: Orthonormal directions of each part; any will do.
    """

    mean_PC: NDArray[np.float64]
    axes_PCW: NDArray[np.float64]

    @classmethod
    def plain(cls) -> Sketcher:
        """Return one for when there is nothing to learn from yet."""
        axes_CW = np.eye(_CHANNELS, _AXES)
        return cls(
            np.zeros((_PARTS, _CHANNELS)), np.broadcast_to(axes_CW, (_PARTS, *axes_CW.shape))
        )

    @classmethod
    def fit(cls, sample_NPC: Floats) -> Sketcher:
        """Return the one whose sketches say most of embeddings like these."""
        parts_PNC = np.ascontiguousarray(sample_NPC.transpose(1, 0, 2), dtype=np.float64)
        mean_PC = parts_PNC.mean(axis=1)
        parts_PNC -= mean_PC[:, np.newaxis]
        # Ascending: the last are those along which they differ most.
        _, axes_PCC = np.linalg.eigh(parts_PNC.transpose(0, 2, 1) @ parts_PNC)
        return cls(mean_PC, np.ascontiguousarray(axes_PCC[:, :, -_AXES:]))

    def sketch(self, embeddings_NPC: Floats) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return sketches, shape (P, W, N), and the length of each part's longest, shape (P,)."""
        z_PNW, lengths_PN = self._project(embeddings_NPC)
        sketches_PWN = np.empty((_PARTS, _WIDTH, len(embeddings_NPC)), np.float32)
        sketches_PWN[:, : _REST + 1] = z_PNW.transpose(0, 2, 1)
        sketches_PWN[:, _SQUARE] = (z_PNW.astype(np.float64) ** 2).sum(axis=2)
        sketches_PWN[:, _ONE] = 1.0
        return sketches_PWN, lengths_PN.max(axis=1, initial=0.0)

    def ask(self, probes_MPC: Floats, longest_P: NDArray[np.float64]) -> Asked:
        """Return what `lower_bounds` takes, for exemplars that are nowhere longer."""
        z_PMW, lengths_PM = self._project(probes_MPC)
        reach_PM = (1 + _SHORTER) * (lengths_PM + longest_P[:, np.newaxis])
        factors_PMW = np.empty((_PARTS, len(probes_MPC), _WIDTH), np.float32)
        factors_PMW[:, :, : _REST + 1] = -2 * z_PMW
        factors_PMW[:, :, _SQUARE] = 1.0
        squares_PM = (z_PMW.astype(np.float64) ** 2).sum(axis=2)
        factors_PMW[:, :, _ONE] = squares_PM - _PRODUCT * reach_PM**2
        return Asked(factors_PMW, _SHORTER * reach_PM.mean(axis=0) + _UNDERFLOW)

    def _project(self, embeddings_NPC: Floats) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return z, shape (P, N, `_AXES` + 1), and the lengths it is of, shape (P, N)."""
        parts_PNC = embeddings_NPC.transpose(1, 0, 2) - self.mean_PC[:, np.newaxis]
        along_PNW = parts_PNC @ self.axes_PCW
        squares_PN = np.einsum("pnc,pnc->pn", parts_PNC, parts_PNC)
        rest_PN = squares_PN - np.einsum("pnw,pnw->pn", along_PNW, along_PNW)
        z_PNW = np.empty((*squares_PN.shape, _AXES + 1), np.float32)
        z_PNW[:, :, :_REST] = along_PNW
        z_PNW[:, :, _REST] = np.sqrt(np.maximum(rest_PN, 0))
        return z_PNW, np.sqrt(squares_PN)


def lower_bounds(asked: Asked, sketches_PWN: NDArray[np.float32], out: Floats) -> None:
    """Write into `out`, shape (M, N), what the distances are not below."""
    squares_PMN = np.matmul(asked.factors_PMW, sketches_PWN)
    np.maximum(squares_PMN, 0, out=squares_PMN)
    np.sqrt(squares_PMN, out=squares_PMN)
    np.sum(squares_PMN, axis=0, out=out)
    out *= (1 - _SUM) / _PARTS
    out -= asked.slack_M[:, np.newaxis]


def no_sketches(count: int) -> NDArray[np.float32]:
    """Return sketches, shape (P, W, N), of rows that are empty: bounds are beyond all distances."""
    sketches_PWN = np.zeros((_PARTS, _WIDTH, count), np.float32)
    sketches_PWN[:, _SQUARE] = _NOWHERE
    return sketches_PWN


def vectors_of(sketches_PWN: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return z of all parts one after the other, shape (N, P x (`_AXES` + 1))."""
    z_NPW = sketches_PWN[:, : _REST + 1].transpose(2, 0, 1)
    return np.ascontiguousarray(z_NPW).reshape(len(z_NPW), -1)
