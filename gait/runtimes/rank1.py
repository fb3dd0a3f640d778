"""Rank-1 on synthetic people nobody trains on: whether a coarse precision still tells who is who.

The set is of SynthGait-Wild's test people: it follows from a seed, so it need not be shipped. Every
walk is cut in two, as a track is that was lost for a moment, and each half is looked for among all
others. Even a small network finds nine of ten, so there is something to lose.
"""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gait.distance import Floats, euclidean
from gait.evaluation.ranking import Rows, first_match_ranks
from gait.runtimes import cache
from gait.silhouette import cut

logger = logging.getLogger(__name__)

PEOPLE = 200
WALKS = 2
FRAMES = 24
_SEED = 0
_PROGRESS_EVERY = 50


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationSet:
    """Halves of walks of people who train nobody.

    Attributes:
        walks: Each (T, 64, 44), uint8, with T of 1 or more.
        people: Whose each is, shape (N,).
    """

    walks: tuple[NDArray[np.uint8], ...]
    people: NDArray[np.int64]


def evaluation_set(
    num_people: int = PEOPLE, *, on_step: Callable[[], None] = lambda: None
) -> EvaluationSet:
    """Return the halves of walks; from the cache unless it is the first time: that takes a minute.

    Args:
        num_people: How many. More make smaller losses visible (one probe of 800 is 0.125 points),
            at the price of time.
        on_step: Called for every person that is filmed; what it raises ends the work.

    Raises:
        RuntimeUnavailable: The cache folder cannot be used.
        DataError: The installation is damaged.
    """
    from gait.synthetic.write import FORMAT

    key = {
        "cut": "halves",
        "format": str(FORMAT),
        "seed": str(_SEED),
        "people": str(num_people),
        "walks": str(WALKS),
        "frames": str(FRAMES),
        "numpy": np.__version__,
    }
    path = cache.entry("evaluation-set", key, ".npz")
    kept = cache.load(path)
    if kept is not None:
        try:
            return _unpacked(kept)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            logger.warning("%s: damaged; made anew", path)
    made = _filmed(num_people, on_step)
    cache.store(path, _packed(made))
    return made


def rank1(
    embed: Callable[[Sequence[NDArray[np.uint8]]], Sequence[Floats]],
    walks: EvaluationSet,
    progress: str = "",
) -> float:
    """Return the share of walks whose nearest other walk is of the same person.

    Args:
        embed: Turns walks into embeddings.
        walks: Each is the probe once, all others are its gallery then.
        progress: What is being measured, for the log; nothing is logged if empty.
    """
    embeddings: list[Floats] = []
    for start in range(0, len(walks.walks), _PROGRESS_EVERY):
        if progress:
            logger.info("%s: walk %d of %d", progress, start, len(walks.walks))
        embeddings += embed(walks.walks[start : start + _PROGRESS_EVERY])
    stacked = np.stack(embeddings)
    distances = euclidean(stacked, stacked)
    np.fill_diagonal(distances, distances.max() + 1)  # the probe itself comes last
    same = (walks.people[:, None] == walks.people) & ~np.eye(len(stacked), dtype=np.bool_)
    ranks = first_match_ranks(Rows(distances, same, np.zeros_like(same)))
    return float((ranks == 1).mean())


def _filmed(num_people: int, on_step: Callable[[], None]) -> EvaluationSet:
    from gait.synthetic.filming import film
    from gait.synthetic.noise import SegmentationNoise
    from gait.synthetic.recipes import WildRecipe

    recipe = WildRecipe(
        seed=_SEED, people=1, test_people=num_people, sequences=WALKS, frames=FRAMES
    )
    noise = SegmentationNoise.learnt()
    walks: list[NDArray[np.uint8]] = []
    for index, subject in enumerate(recipe.plan().subjects[1:]):
        if index % _PROGRESS_EVERY == 0:
            logger.info("evaluation set: person %d of %d", index, num_people)
        on_step()
        some = replace(subject, walks=subject.walks[:WALKS])
        for each in film(recipe.seed, some, noise):
            walks += _halves(cut(each))
    return EvaluationSet(tuple(walks), np.repeat(np.arange(num_people), 2 * WALKS))


def _halves(walk: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    middle = len(walk) // 2
    return [walk[: max(1, middle)], walk[middle:]]


def _packed(walks: EvaluationSet) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        silhouettes=np.concatenate(walks.walks),
        lengths=[len(each) for each in walks.walks],
        people=walks.people,
    )
    return buffer.getvalue()


def _unpacked(content: bytes) -> EvaluationSet:
    with np.load(io.BytesIO(content), allow_pickle=False) as npz:
        silhouettes, lengths, people = npz["silhouettes"], npz["lengths"], npz["people"]
    if silhouettes.dtype != np.uint8 or lengths.sum() != len(silhouettes) != len(people):
        raise ValueError("not an evaluation set")
    return EvaluationSet(tuple(np.split(silhouettes, np.cumsum(lengths)[:-1])), people)
