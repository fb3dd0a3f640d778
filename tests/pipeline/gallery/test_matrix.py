from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.gallery.matrix import ExemplarMatrix
from pipeline.gallery.neighbours import Neighbour, Row
from pipeline.values import Embedding

SMALL_BLOCKS = 16


def naive_parts(one: Embedding, other: Embedding) -> list[float]:
    apart = one.astype(np.float64) - other
    return [float(np.sqrt((apart[:, part] ** 2).sum())) for part in range(16)]


def naive_distance(one: Embedding, other: Embedding) -> float:
    return sum(naive_parts(one, other)) / 16


def as_stored(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    return embeddings.astype(np.float16).astype(np.float32)


class Naive:
    """A dictionary and a loop: what every answer is compared with."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[int, Embedding]] = {}

    def search(
        self, probe: Embedding, k: int, barred: Collection[int] = (), *, per_owner: bool = False
    ) -> list[tuple[int, int, float]]:
        found = sorted(
            (naive_distance(probe, embedding), key, owner)
            for key, (owner, embedding) in self.kept.items()
            if owner not in barred
        )
        seen: set[int] = set()
        answers = []
        for distance, key, owner in found:
            if not (per_owner and owner in seen):
                answers.append((key, owner, distance))
                seen.add(owner)
        return answers[:k]


def append(matrix: ExemplarMatrix, row: Row, embedding: NDArray[np.floating]) -> None:
    matrix.extend([row], embedding[np.newaxis])


def nearest(
    matrix: ExemplarMatrix, probe: Embedding, *, barred: Collection[int] = ()
) -> Neighbour | None:
    [found] = matrix.search([probe], barred=[barred])
    return found[0] if found else None


def clustered(count: int, rng: np.random.Generator, *, rank: int = 40) -> NDArray[np.float32]:
    """Return people of five rows each, of few directions, as encoders give them."""
    directions = rng.standard_normal((16, rank, 256)) * (0.9 ** np.arange(rank))[:, np.newaxis]
    weights = rng.standard_normal((count // 5 + 1, 16, rank)).repeat(5, axis=0)[:count]
    weights = weights + 0.5 * rng.standard_normal(weights.shape)
    return as_stored(np.einsum("npr,prc->ncp", weights, directions) + 3.0)


def both(
    embeddings: NDArray[np.float32], owners: Sequence[int], *, block_rows: int = SMALL_BLOCKS
) -> tuple[ExemplarMatrix, Naive]:
    matrix, naive = ExemplarMatrix(block_rows=block_rows), Naive()
    rows = [Row(100 + n, owner, 1.0) for n, owner in enumerate(owners)]
    matrix.extend(rows, embeddings)
    naive.kept = {row.key: (row.owner, each) for row, each in zip(rows, embeddings, strict=True)}
    return matrix, naive


def check(found: Sequence[Neighbour], expected: Sequence[tuple[int, int, float]]) -> None:
    assert [(each.key, each.owner) for each in found] == [each[:2] for each in expected]
    # float64 both times; only the order of additions differs.
    np.testing.assert_allclose(
        [each.distance for each in found], [each[2] for each in expected], rtol=1e-12, atol=0
    )


def gaussian(rng: np.random.Generator) -> NDArray[np.float32]:
    return as_stored(rng.standard_normal((100, 256, 16)))


def all_but_equal(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return rows that differ in the last digit of a few numbers."""
    embeddings = np.full((100, 256, 16), 9.0, np.float32)
    where = rng.integers(0, 256, (100, 3)), rng.integers(0, 16, (100, 3))
    embeddings[np.arange(100)[:, np.newaxis], where[0], where[1]] += 2.0**-7
    return embeddings


def huge(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return rows near the end of float16 whose distances are small beside them."""
    return as_stored(60_000.0 + 64 * rng.integers(-2, 3, (100, 256, 16)))


def tiny(rng: np.random.Generator) -> NDArray[np.float32]:
    return as_stored(rng.standard_normal((100, 256, 16)) * 1e-7)


def of_mixed_size(rng: np.random.Generator) -> NDArray[np.float32]:
    return as_stored(rng.standard_normal((100, 256, 16)) * 10.0 ** rng.uniform(-6, 4, (100, 1, 1)))


HARD = (gaussian, all_but_equal, huge, tiny, of_mixed_size)


@pytest.mark.parametrize("make", HARD, ids=lambda make: make.__name__)
def test_the_nearest_are_those_a_naive_loop_finds_however_hard_they_are_to_tell_apart(
    make: type,
) -> None:
    rng = np.random.default_rng(0)
    embeddings = make(rng)
    matrix, naive = both(embeddings, [n % 30 for n in range(100)])
    probes = [embeddings[17], (embeddings[3] + embeddings[4]) / 2, make(rng)[5]]
    for probe, found, owners in zip(
        probes, matrix.search(probes, k=7), matrix.search_owners(probes, k=4), strict=True
    ):
        check(found, naive.search(probe, 7))
        check(owners, naive.search(probe, 4, per_owner=True))


def test_the_nearest_of_thousands_are_those_a_naive_loop_finds() -> None:
    rng = np.random.default_rng(1)
    embeddings = clustered(1300, rng)
    matrix, naive = both(embeddings, [n // 5 for n in range(1300)], block_rows=256)
    probes = [*embeddings[::260], *clustered(5, rng)]
    for probe, found in zip(probes, matrix.search(probes, k=3), strict=True):
        check(found, naive.search(probe, 3))
    for probe, found in zip(probes, matrix.search_owners(probes), strict=True):
        check(found, naive.search(probe, 2, per_owner=True))


def test_few_of_many_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = 0
    gather = ExemplarMatrix._gather

    def counting(self: ExemplarMatrix, rows: Sequence[int]) -> NDArray[np.float16]:
        nonlocal measured
        measured += len(rows)
        return gather(self, rows)

    embeddings = clustered(1000, np.random.default_rng(2))
    matrix, _ = both(embeddings, [n // 5 for n in range(1000)])
    monkeypatch.setattr(ExemplarMatrix, "_gather", counting)
    matrix.search(list(embeddings[:50]))
    assert measured / 50 < 100


def test_of_equal_distances_the_oldest_key_is_the_answer_wherever_it_lies() -> None:
    same = np.full((256, 16), 2.0, np.float32)
    matrix = ExemplarMatrix(block_rows=SMALL_BLOCKS)
    keys = [int(key) for key in np.random.default_rng(3).permutation(200)]
    for key in keys:
        append(matrix, Row(key, key % 10, 1.0), same)
    assert [each.key for each in matrix.search([same], k=5)[0]] == [0, 1, 2, 3, 4]
    assert nearest(matrix, same) == Neighbour(0, 0, 0.0)
    probe = same + 1
    assert [each.key for each in matrix.search_owners([probe], k=3)[0]] == [0, 1, 2]
    assert [each.key for each in matrix.search([probe], k=2, barred=[{0, 1}])[0]] == [2, 3]


def test_the_barred_are_never_found_and_each_probe_has_its_own() -> None:
    rng = np.random.default_rng(4)
    embeddings = as_stored(rng.standard_normal((50, 256, 16)))
    matrix, naive = both(embeddings, [n % 7 for n in range(50)])
    barred = [{n % 7, 3} for n in range(50)]
    for probe, out, found in zip(
        embeddings, barred, matrix.search(list(embeddings), k=3, barred=barred), strict=True
    ):
        check(found, naive.search(probe, 3, out))
    assert nearest(matrix, embeddings[0], barred=range(7)) is None


def test_nobody_is_found_in_an_empty_matrix() -> None:
    matrix = ExemplarMatrix()
    probe = np.zeros((256, 16), np.float32)
    assert nearest(matrix, probe) is None
    assert matrix.search([probe, probe]) == [[], []]
    assert matrix.search([]) == []
    append(matrix, Row(1, 1, 1.0), probe)
    matrix.remove(1)
    assert nearest(matrix, probe) is None


def test_a_matrix_answers_as_a_dictionary_would_after_any_changes() -> None:
    rng = np.random.default_rng(5)
    pool = clustered(400, rng)
    matrix, naive = ExemplarMatrix(block_rows=SMALL_BLOCKS), Naive()
    for key, embedding in enumerate(pool):
        owner = int(rng.integers(20))
        if key % 3 and naive.kept:
            _change(matrix, naive, rng)
        append(matrix, Row(key, owner, 1.0), embedding)
        naive.kept[key] = owner, embedding
        if key % 25 == 0:
            probe = pool[rng.integers(len(pool))]
            check(matrix.search([probe], k=4)[0], naive.search(probe, 4))
            check(matrix.search_owners([probe], k=4)[0], naive.search(probe, 4, per_owner=True))
    assert len(matrix) == len(naive.kept)
    assert all(key in matrix for key in naive.kept)
    for owner in range(20):
        keys = {key for key, (whose, _) in naive.kept.items() if whose == owner}
        assert [row.key for row in matrix.rows_of(owner)] == sorted(keys)


def _change(matrix: ExemplarMatrix, naive: Naive, rng: np.random.Generator) -> None:
    key = int(rng.choice(list(naive.kept)))
    if rng.random() < 0.5:
        matrix.remove(key)
        del naive.kept[key]
    else:
        owner = int(rng.integers(20))
        matrix.move(key, owner)
        naive.kept[key] = owner, naive.kept[key][1]


def test_what_is_removed_is_gone_from_memory_and_its_place_is_taken_again() -> None:
    embeddings = as_stored(np.random.default_rng(7).standard_normal((SMALL_BLOCKS, 256, 16)))
    matrix, _ = both(embeddings, range(SMALL_BLOCKS))
    taken = matrix.nbytes
    matrix.remove(105)
    assert not matrix._gather([5]).any()
    append(matrix, Row(7777, 5, 1.0), embeddings[5])
    np.testing.assert_array_equal(matrix.embeddings_of(5), embeddings[5:6])
    assert matrix.nbytes == taken


def test_memory_is_counted() -> None:
    matrix = ExemplarMatrix(block_rows=SMALL_BLOCKS)
    assert matrix.nbytes == 0
    for key in range(SMALL_BLOCKS + 1):
        append(matrix, Row(key, 0, 1.0), np.zeros((256, 16), np.float32))
    assert matrix.nbytes == 2 * SMALL_BLOCKS * (16 * 256 * 2 + 16 * 48 * 4)


def test_the_parts_of_a_match_explain_its_distance() -> None:
    rng = np.random.default_rng(8)
    embeddings = as_stored(rng.standard_normal((20, 256, 16)))
    matrix, _ = both(embeddings, range(20))
    probe = rng.standard_normal((256, 16)).astype(np.float32)
    found = nearest(matrix, probe)
    assert found is not None
    parts = matrix.parts(probe, found.key)
    np.testing.assert_allclose(parts, naive_parts(probe, embeddings[found.key - 100]), rtol=1e-12)
    assert parts.mean() == found.distance


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: append(m, Row(100, 1, 1.0), np.zeros((256, 16))), "one that is"),
        (lambda m: append(m, Row(7, 1, 1.0), np.zeros((16, 256))), "expected shape"),
        (lambda m: append(m, Row(7, 1, 1.0), np.full((256, 16), np.nan)), "finite"),
        (lambda m: append(m, Row(7, 1, 1.0), np.full((256, 16), 1e6)), "finite"),
        (lambda m: m.extend([Row(7, 1, 1.0)] * 2, np.zeros((2, 256, 16))), "one that is"),
        (lambda m: m.extend([Row(7, 1, 1.0)], np.zeros((2, 256, 16))), "one embedding a row"),
        (lambda m: m.search([np.full((256, 16), np.nan)]), "numbers of at most"),
        (lambda m: m.search([np.full((256, 16), 1e30)]), "numbers of at most"),
        (lambda m: m.search([np.zeros((255, 16))]), "expected shape"),
        (lambda m: m.search([np.zeros((256, 16))], k=0), "at least 1"),
        (lambda m: m.search([np.zeros((256, 16))], barred=[]), "one a probe"),
    ],
)
def test_what_cannot_be_kept_or_searched_is_refused_and_changes_nothing(
    change: type, expected: str
) -> None:
    embeddings = as_stored(np.random.default_rng(9).standard_normal((5, 256, 16)))
    matrix, naive = both(embeddings, range(5))
    with pytest.raises(ValueError, match=expected):
        change(matrix)
    assert len(matrix) == 5
    check(matrix.search([embeddings[0]], k=9)[0], naive.search(embeddings[0], 9))


def test_searches_see_all_of_a_change_or_nothing_while_rows_come_and_go() -> None:
    """An exemplar goes from one person to another again and again: it is always one of theirs."""
    rng = np.random.default_rng(10)
    crowd = as_stored(rng.standard_normal((600, 256, 16)))
    matrix, _ = both(crowd[:60], [1000 + n for n in range(60)])
    probe = np.full((256, 16), 4.0, np.float32)
    append(matrix, Row(1, 1, 1.0), probe)
    is_over = threading.Event()

    def look() -> Iterator[Neighbour | None]:
        while not is_over.is_set():
            yield nearest(matrix, probe, barred=range(1000, 1600))

    with ThreadPoolExecutor(3) as pool:
        looks = [pool.submit(lambda: list(look())) for _ in range(3)]
        try:
            for n, embedding in enumerate(crowd[60:]):  # past 64 and 512 rows sketches are remade
                key = 2000 + n
                append(matrix, Row(key, 1060 + n, 1.0), embedding)
                matrix.move(1, n % 2)
                if n % 3 == 0:
                    matrix.remove(key)
        finally:
            is_over.set()
        seen = {found for each in looks for found in each.result()}
    assert seen == {Neighbour(1, 0, 0.0), Neighbour(1, 1, 0.0)}
