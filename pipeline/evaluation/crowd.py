"""Embeddings of as many people as a benchmark wants, that vary as real ones do.

Random numbers are the wrong test of a search: they are all equally far apart, in all directions.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.encoder import Encoder
from gait.synthetic.filming import film
from gait.synthetic.noise import SegmentationNoise
from gait.synthetic.recipes import WildRecipe
from pipeline.weights import DEFAULT_ENCODER, encoder_file

Floats = NDArray[np.float32]

_SEED = 2027  # the shipped encoder learnt from people of other seeds


@dataclass(frozen=True)
class Crowd:
    """Embeddings of people, and as many more like them as are wanted.

    A new person is the mean of all plus a mix of four real people's differences from it; a new
    walk of theirs is that plus a mix of two real walks' differences from their own people. Mixes
    are of length 1, so what is drawn varies as much as what is real, and in the same directions.

    Attributes:
        mean: Shape (4096,), of all people.
        people: Shape (N, 4096), differences of people from it.
        walks: Shape (M, 4096), differences of walks from their people.
    """

    mean: Floats
    people: Floats
    walks: Floats

    @classmethod
    def of(cls, embeddings: Floats, owners: NDArray[np.int64]) -> Crowd:
        """Learn from (N, 256, 16) of so many people."""
        flat = embeddings.reshape(len(embeddings), -1)
        names, whose = np.unique(owners, return_inverse=True)
        people = np.stack([flat[whose == n].mean(axis=0) for n in range(len(names))])
        each = len(flat) / len(names)
        walks = (flat - people[whose]) * np.sqrt(each / (each - 1))
        mean = people.mean(axis=0)
        return cls(mean, people - mean, walks.astype(np.float32))

    def draw_people(self, count: int, rng: np.random.Generator) -> Floats:
        """Return new people, shape (N, 4096)."""
        return self.mean + _mixed(self.people, count, 4, rng)

    def draw_walks(self, people: Floats, rng: np.random.Generator) -> Floats:
        """Return one walk of each, as it would be stored, shape (N, 256, 16)."""
        walks = people + _mixed(self.walks, len(people), 2, rng)
        return walks.astype(np.float16).astype(np.float32).reshape(-1, 256, 16)


def _mixed(pool: Floats, count: int, of: int, rng: np.random.Generator) -> Floats:
    weights = rng.standard_normal((of, count, 1)).astype(np.float32)
    weights /= np.linalg.norm(weights, axis=0)
    mixed = np.zeros((count, pool.shape[1]), np.float32)
    for weight in weights:
        mixed += weight * pool[rng.integers(len(pool), size=count)]
    return mixed


def real_embeddings(people: int, cache: Path) -> tuple[Floats, NDArray[np.int64]]:
    """Return what the shipped encoder makes of synthetic walks, twelve a person.

    Args:
        people: How many; the encoder was trained on none of them.
        cache: Folder in which they are kept for the next time.

    Returns:
        Embeddings, shape (N, 256, 16), and whose each is, shape (N,).
    """
    weights = encoder_file(DEFAULT_ENCODER)
    with Encoder.from_weights(
        weights, device="cpu", threads=1, runtime="auto", precision="auto"
    ) as encoder:
        file = cache / f"embeddings-{encoder.model_hash[:12]}-{people}.npz"
        if not file.exists():
            _make(encoder, people, file)
    with np.load(file) as kept:
        return kept["embeddings"].astype(np.float32), kept["owners"]


def _make(encoder: Encoder, people: int, file: Path) -> None:
    plan = WildRecipe(seed=_SEED, people=1, test_people=people, sequences=10).plan()
    noise = SegmentationNoise.learnt()
    embeddings, owners = [], []
    for number, subject in enumerate(plan.subjects[1:]):
        found = encoder.embed(film(_SEED, subject, noise))
        embeddings += found
        owners += [number] * len(found)
    content = io.BytesIO()
    np.savez(content, embeddings=np.stack(embeddings).astype(np.float16), owners=np.array(owners))
    write_atomically(file, content.getvalue())
