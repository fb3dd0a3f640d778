from __future__ import annotations

import numpy as np

from pipeline.gallery.matrix import ExemplarMatrix, Row
from pipeline.values import Embedding


def naive_distance(one: Embedding, other: Embedding) -> float:
    total = 0.0
    for part in range(16):
        total += float(np.sqrt(((one[:, part].astype(np.float64) - other[:, part]) ** 2).sum()))
    return total / 16


def filled(count: int, rng: np.random.Generator) -> tuple[ExemplarMatrix, list[Embedding]]:
    matrix = ExemplarMatrix()
    embeddings = [rng.standard_normal((256, 16)).astype(np.float32) for _ in range(count)]
    for n, embedding in enumerate(embeddings):
        matrix.append(Row(key=100 + n, owner=n % 7, quality=1.0), embedding)
    return matrix, embeddings


def test_the_nearest_is_the_one_a_naive_loop_finds() -> None:
    rng = np.random.default_rng(0)
    matrix, embeddings = filled(100, rng)
    for _ in range(20):
        probe = rng.standard_normal((256, 16)).astype(np.float32)
        expected = [naive_distance(probe, embedding) for embedding in embeddings]
        found = matrix.nearest(probe)
        assert found is not None
        assert found[0] == int(np.argmin(expected))
        # float64 both times; only the order of additions differs.
        np.testing.assert_allclose(found[1], min(expected), rtol=1e-9)


def test_the_barred_are_never_found() -> None:
    rng = np.random.default_rng(1)
    matrix, embeddings = filled(50, rng)
    for n, probe in enumerate(embeddings):
        found = matrix.nearest(probe, barred={n % 7, 3})
        expected = [
            np.inf if m % 7 in (n % 7, 3) else naive_distance(probe, embedding)
            for m, embedding in enumerate(embeddings)
        ]
        assert found is not None
        assert found[0] == int(np.argmin(expected))
    assert matrix.nearest(embeddings[0], barred=range(7)) is None


def test_nobody_is_found_in_an_empty_matrix() -> None:
    assert ExemplarMatrix().nearest(np.zeros((256, 16), np.float32)) is None


def test_the_matrix_is_copied_only_when_it_doubles() -> None:
    matrix, _ = filled(16, np.random.default_rng(2))
    copies = 0
    for n in range(16, 1024):
        before = matrix.embeddings.ctypes.data
        matrix.append(Row(key=n, owner=n, quality=1.0), np.zeros((256, 16), np.float32))
        copies += matrix.embeddings.ctypes.data != before
    assert len(matrix) == 1024
    assert copies <= 6  # 16 -> 32 -> ... -> 1024


def test_a_replaced_row_is_found_by_its_new_embedding() -> None:
    matrix, embeddings = filled(20, np.random.default_rng(3))
    new = np.full((256, 16), 5.0, np.float32)
    matrix.replace(4, Row(key=999, owner=4, quality=0.5), new)
    assert matrix.nearest(new) == (4, 0.0)
    assert 999 in matrix
    assert 104 not in matrix
    found = matrix.nearest(embeddings[4])
    assert found is not None
    assert found[0] != 4
    assert matrix.rows_of(4) == [4, 11, 18]
