from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.gallery.neighbours import FARTHEST
from pipeline.gallery.sketch import Sketcher, lower_bounds, no_sketches

Floats = NDArray[np.float64]


def exact(probes: Floats, rows: Floats) -> NDArray[np.floating[Any]]:
    """Return distances of (M, 16, 256) and (N, 16, 256) with more digits than anybody needs."""
    apart = probes.astype(np.longdouble)[:, np.newaxis] - rows.astype(np.longdouble)
    parts: NDArray[np.floating[Any]] = np.sqrt((apart**2).sum(axis=3))
    return np.asarray(parts.sum(axis=2) / 16)


def bounds(sketcher: Sketcher, probes: Floats, rows: Floats) -> NDArray[np.float32]:
    sketches, longest = sketcher.sketch(rows)
    out = np.empty((len(probes), len(rows)), np.float32)
    lower_bounds(sketcher.ask(probes, longest), sketches, out)
    return out


def half(values: NDArray[np.floating[Any]]) -> Floats:
    return values.astype(np.float16).astype(np.float64)


def gaussian(rng: np.random.Generator) -> Floats:
    return half(rng.standard_normal((60, 16, 256)))


def along_the_axes(rng: np.random.Generator) -> Floats:
    """Return rows of which a plain sketch leaves nothing: bounds are as high as the truth."""
    rows = np.zeros((60, 16, 256))
    rows[:, :, :30] = rng.standard_normal((60, 16, 30))
    return half(rows)


def scaled_copies(rng: np.random.Generator) -> Floats:
    """Return rows on one line: what lengths say of them is all there is."""
    return half(rng.standard_normal((16, 256)) * rng.uniform(0.1, 10, (60, 1, 1)))


def huge(rng: np.random.Generator) -> Floats:
    return half(60_000.0 + 64 * rng.integers(-2, 3, (60, 16, 256)))


def duplicates_far_out(rng: np.random.Generator) -> Floats:
    return half(rng.standard_normal((6, 16, 256)) * 10_000).repeat(10, axis=0)


def smallest(rng: np.random.Generator) -> Floats:
    return half(rng.integers(-2, 3, (60, 16, 256)) * 2.0**-24)


def of_mixed_size(rng: np.random.Generator) -> Floats:
    return half(rng.standard_normal((60, 16, 256)) * 10.0 ** rng.uniform(-7, 4, (60, 16, 1)))


HARD = (
    gaussian,
    along_the_axes,
    scaled_copies,
    huge,
    duplicates_far_out,
    smallest,
    of_mixed_size,
)


@pytest.mark.parametrize("make", HARD, ids=lambda make: make.__name__)
def test_no_bound_is_above_the_distance_whatever_the_sketcher_learnt_from(
    make: Callable[[np.random.Generator], Floats],
) -> None:
    rng = np.random.default_rng(0)
    rows = make(rng)
    near = rows[:10] * (1 + 1e-6)  # as near as float32 probes come without being the same
    probes = np.concatenate([rows[:10], near, make(rng)[:10]])
    truth = exact(probes, rows)
    for sketcher in (Sketcher.plain(), Sketcher.fit(rows), Sketcher.fit(make(rng)[:5])):
        assert (bounds(sketcher, probes, rows) <= truth).all()


def test_bounds_are_nearly_the_distances_where_rows_differ_in_few_directions() -> None:
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((16, 40, 256))
    rows = half(np.einsum("npr,prc->npc", rng.standard_normal((300, 16, 40)), directions) + 50)
    found = bounds(Sketcher.fit(rows), rows[:20], rows)
    truth = exact(rows[:20], rows)
    far = truth > 0
    assert (found[far] > 0.999 * truth[far]).all()


def test_empty_rows_are_beyond_all_distances() -> None:
    sketcher = Sketcher.plain()
    probes = np.random.default_rng(2).standard_normal((3, 16, 256))
    out = np.empty((3, 5), np.float32)
    lower_bounds(sketcher.ask(probes, np.ones(16)), no_sketches(5), out)
    assert (out > FARTHEST).all()
