"""Compare rules for which tracklets of a person to keep, and print the table of docs/gallery.md.

    python scripts/exemplar_rules.py data/synthgait-wild

Everybody of the test set gives ten walks, in halves, to a gallery; two other walks are searched for
among all people, by the nearest exemplar. Drawn ten times. The shipped encoder saw none of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gait.data.pack import PackedDataset
from gait.distance import euclidean
from gait.encoder import Encoder
from pipeline.gallery.exemplar import within_budget
from pipeline.weights import DEFAULT_ENCODER, encoder_file

Embeddings = NDArray[np.float32]
Rule = Callable[[Embeddings, int, np.random.Generator], list[int]]

DRAWS, PROBES, SECTOR_DEG = 10, 2, 45


def one_by_one(given: Embeddings, budget: int, _: np.random.Generator) -> list[int]:
    """Return what is left when each comes alone, as with people who have a pseudonym."""
    kept: list[int] = []
    for new in range(len(given)):
        kept.append(new)
        kept = [kept[n] for n in within_budget(given[kept], [1.0] * len(kept), budget)]
    return kept


RULES: dict[str, Rule] = {
    "the rule": lambda given, n, _: within_budget(given, [1.0] * len(given), n),
    "the rule, as they come": one_by_one,
    "the newest": lambda given, n, _: list(range(max(0, len(given) - n), len(given))),
    "any": lambda given, n, rng: rng.permutation(len(given))[:n].tolist(),
}


def walks(folder: Path) -> tuple[list[Embeddings], Embeddings, list[str], NDArray[np.int64]]:
    """Return halves and wholes of all walks, whose they are, and from which azimuth."""
    subjects = json.loads((folder / "partition.json").read_text())["TEST_SET"]
    data = PackedDataset(next(folder.glob("*.gaitpack"))).select(subjects)
    sequences = [np.array(data[n]) for n in range(len(data))]
    halves = [half for each in sequences for half in np.array_split(each, 2)]
    with Encoder.from_weights(
        encoder_file(DEFAULT_ENCODER), device="cpu", threads=1, runtime="auto", precision="auto"
    ) as encoder:
        parts, wholes = np.stack(encoder.embed(halves)), np.stack(encoder.embed(sequences))
    pairs = list(parts.reshape(-1, 2, *parts.shape[1:]))
    azimuths = np.array([int(key.view[1:4]) for key in data.keys])
    return pairs, wholes, [key.subject for key in data.keys], azimuths


def draws(owners: list[str]) -> Iterator[tuple[list[NDArray[np.int64]], NDArray[np.int64], int]]:
    """Yield, in turns, everybody's walks in the gallery, those searched for, and a seed."""
    names = np.array(owners)
    theirs = [np.flatnonzero(names == name) for name in dict.fromkeys(owners)]
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        mixed = [rng.permutation(each) for each in theirs]
        yield (
            [each[PROBES:] for each in mixed],
            np.concatenate([each[:PROBES] for each in mixed]),
            seed,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder of `trackletgait synth silhouettes`")
    parser.add_argument("--budgets", type=int, nargs="+", default=[4, 8, 16])
    options = parser.parse_args()
    halves, wholes, owners, azimuths = walks(options.data)
    print(f"| kept of 20 | {' | '.join(f'{n}: Rank-1, sectors' for n in options.budgets)} |")
    print("|---" * (len(options.budgets) + 1) + "|")
    for name, rule in RULES.items():
        cells = [
            measured(rule, budget, halves, wholes, owners, azimuths) for budget in options.budgets
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def measured(
    rule: Rule,
    budget: int,
    halves: list[Embeddings],
    wholes: Embeddings,
    owners: list[str],
    azimuths: NDArray[np.int64],
) -> str:
    """Return Rank-1 and how many of eight directions the kept ones show, means over the draws."""
    rank1, sectors = [], []
    for galleries, probes, seed in draws(owners):
        rng = np.random.default_rng(seed)
        kept, whose = [], []
        for person in galleries:
            given = np.concatenate([halves[walk] for walk in person])
            chosen = rule(given, budget, rng)
            kept.append(given[chosen])
            whose += [owners[person[0]]] * len(chosen)
            seen_from = azimuths[person[np.array(chosen) // 2]]
            sectors.append(len(set((seen_from // SECTOR_DEG).tolist())))
        nearest = euclidean(wholes[probes], np.concatenate(kept), dtype=np.float32).argmin(axis=1)
        rank1.append(np.mean([whose[n] == owners[p] for n, p in zip(nearest, probes, strict=True)]))
    return f"{100 * np.mean(rank1):.1f} ± {100 * np.std(rank1):.1f} %, {np.mean(sectors):.1f}"


if __name__ == "__main__":
    main()
