from __future__ import annotations

from pathlib import Path

import numpy as np

from gait.distance import euclidean
from pipeline.evaluation.crowd import Crowd, Floats, real_embeddings


def population(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return 400 walks of 40 people, and the variance of people and of their walks."""
    scales = 3.0 * 0.9 ** np.arange(4096)
    people = 5.0 + rng.standard_normal((40, 4096)) * scales
    walks = people.repeat(10, axis=0) + 0.5 * rng.standard_normal((400, 4096)) * scales
    return walks.reshape(400, 256, 16).astype(np.float32), scales


def test_drawn_people_and_walks_vary_as_the_real_ones_do() -> None:
    rng = np.random.default_rng(0)
    walks, scales = population(rng)
    crowd = Crowd.of(walks, np.arange(400) // 10)
    people = crowd.draw_people(2000, rng)
    drawn = crowd.draw_walks(people, rng).reshape(2000, -1)
    # Of 40 people, variances are known to within a quarter.
    np.testing.assert_allclose(people[:, :8].std(axis=0), scales[:8], rtol=0.5)
    apart = (drawn - people)[:, :8].std(axis=0)
    np.testing.assert_allclose(apart, 0.5 * scales[:8], rtol=0.2)


def test_two_walks_of_a_drawn_person_are_nearer_than_those_of_two() -> None:
    rng = np.random.default_rng(1)
    walks, _ = population(rng)
    crowd = Crowd.of(walks, np.arange(400) // 10)
    people = crowd.draw_people(50, rng)
    distances = euclidean(crowd.draw_walks(people, rng), crowd.draw_walks(people, rng))
    assert np.mean(distances.argmin(axis=1) == np.arange(50)) > 0.9


def test_real_embeddings_are_made_once(tmp_path: Path) -> None:
    embeddings, owners = real_embeddings(1, tmp_path)
    assert embeddings.shape == (12, 256, 16)
    assert owners.tolist() == [0] * 12
    [file] = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again, _ = real_embeddings(1, tmp_path)
    np.testing.assert_array_equal(again, embeddings)
    assert file.stat().st_mtime_ns == written
