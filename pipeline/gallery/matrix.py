"""All exemplars in memory, searched exactly in the paper's metric."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.gallery.access import SharedAccess
from pipeline.gallery.coarse import CoarseConfig, CoarseIndex, import_faiss
from pipeline.gallery.exemplar import EMBEDDING_SHAPE
from pipeline.gallery.neighbours import Best, Neighbour, Row, lowest_first, part_distances
from pipeline.gallery.sketch import Sketcher, lower_bounds, no_sketches, vectors_of
from pipeline.values import Embedding

Floats = NDArray[np.floating[Any]]

BLOCK_ROWS = 2048

_CHANNELS, _PARTS = EMBEDDING_SHAPE
_FIRST_FIT, _NEXT_FIT = 64, 8
_SAMPLE = 2048
_AT_ONCE = 512
_PROBES_AT_ONCE = 16
_LARGEST = float(np.finfo(np.float16).max)


class _Block:
    """Memory for some rows; what is not used yet is beyond all distances."""

    def __init__(self, count: int) -> None:
        self.embeddings = np.zeros((count, _PARTS, _CHANNELS), np.float16)
        self.sketches = no_sketches(count)


class ExemplarMatrix:
    """The embeddings of all exemplars, one a row, with whose they are.

        matrix.extend([Row(key=1, owner=7, quality=0.9)], embedding[np.newaxis])
        [neighbours] = matrix.search([probe], k=5)              # the five nearest exemplars
        [[best, second]] = matrix.search_owners([probe], k=2)   # the two nearest people

    Answers are exact: the nearest by the mean over 16 parts of Euclidean distances, computed in
    float64 from embeddings as they are stored (float16). Of equal distances the lower key is first.
    Most rows are ruled out by their sketches (`pipeline.gallery.sketch`); how many depends on the
    embeddings, so time does and answers do not.

    Rows live in blocks that never move. A row that is removed is overwritten with zeros, and the
    next exemplar takes its place. Sketches are made anew at 64 rows and whenever there are 8 times
    as many as the last time, while searches go on with the old ones.

    Any number of threads may search while another changes rows: a search sees all of a change (512
    rows, where there are more) or nothing. Changes wait for each other and for the searches that
    have begun. `rows_of` and `embeddings_of` are for the one who changes rows.

    Args:
        coarse: How to search only a part of very many; None searches all, and is exact.
        block_rows: Rows for which memory is taken at a time.

    Raises:
        ConfigError: The coarse search is wanted and faiss is not installed.
    """

    def __init__(self, *, coarse: CoarseConfig | None = None, block_rows: int = BLOCK_ROWS) -> None:
        if coarse is not None:
            import_faiss()  # rather now than when there are enough rows
        self._block_rows = block_rows
        self._blocks: list[_Block] = []
        self._rows: list[Row | None] = []
        self._free: list[int] = []
        self._row_of: dict[int, int] = {}
        self._rows_of: dict[int, list[int]] = {}
        self._sketcher = Sketcher.plain()
        self._longest = np.zeros(_PARTS)
        self._fit_at = _FIRST_FIT
        self._config = coarse
        self._coarse: CoarseIndex | None = None
        self._changes = Lock()
        self._access = SharedAccess()

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, key: int) -> bool:
        return key in self._row_of

    @property
    def nbytes(self) -> int:
        """Memory taken for embeddings and sketches, in whole blocks."""
        return sum(block.embeddings.nbytes + block.sketches.nbytes for block in self._blocks)

    def rows_of(self, owner: int) -> list[Row]:
        """Return the rows of one identity, by key: the oldest first."""
        return sorted(map(self._row, self._rows_of.get(owner, ())), key=lambda row: row.key)

    def embeddings_of(self, owner: int) -> NDArray[np.float32]:
        """Return the embeddings of `rows_of`, shape (N, 256, 16)."""
        indices = [self._row_of[row.key] for row in self.rows_of(owner)]
        return self._gather(indices).transpose(0, 2, 1).astype(np.float32)

    def extend(self, rows: Sequence[Row], embeddings: Floats) -> None:
        """Add rows; many at once take a fraction of the time that one by one would.

        Args:
            rows: Of keys that are not there yet.
            embeddings: Shape (N, 256, 16).

        Raises:
            ValueError: The shape is another, a number is not finite in float16, or a key is there
                already. Nothing was changed.
        """
        stored_NPC = _as_stored(embeddings)
        if len(rows) != len(stored_NPC):
            raise ValueError(f"expected one embedding a row, got {len(stored_NPC)} of {len(rows)}")
        keys = {row.key for row in rows}
        with self._changes:
            if len(keys) < len(rows) or not self._row_of.keys().isdisjoint(keys):
                raise ValueError("rows: expected keys that are not in the matrix, got one that is")
            for start in range(0, len(rows), _AT_ONCE):
                some = slice(start, start + _AT_ONCE)
                self._write(self._take_places(len(rows[some])), rows[some], stored_NPC[some])
            if len(self) >= self._fit_at:
                self._fit()

    def move(self, key: int, owner: int) -> None:
        """Make an exemplar another identity's.

        Raises:
            KeyError: There is no such exemplar.
        """
        with self._changes, self._access.changing():
            index = self._row_of[key]
            self._note(index, replace(self._row(index), owner=owner))

    def remove(self, key: int) -> None:
        """Drop an exemplar and overwrite its embedding with zeros.

        Raises:
            KeyError: There is no such exemplar.
        """
        with self._changes, self._access.changing():
            index = self._row_of[key]
            self._note(index, None)
            block, place = self._place(index)
            block.embeddings[place] = 0
            block.sketches[:, :, place] = no_sketches(1)[:, :, 0]
            if self._coarse is not None:
                self._coarse.remove([index])
            self._free.append(index)

    def search(
        self,
        probes: Sequence[Embedding],
        *,
        k: int = 1,
        barred: Sequence[Collection[int]] | None = None,
    ) -> list[list[Neighbour]]:
        """Return the exemplars nearest to each probe, nearest first.

        Args:
            probes: Shape (256, 16) each.
            k: How many; fewer are returned where there are no more.
            barred: For each probe, identities that may not be an answer.

        Raises:
            ValueError: A probe has another shape or numbers that float16 cannot hold, `k` is
                below 1, or `barred` is not one a probe.
        """
        return self._search(probes, k, barred, per_owner=False)

    def search_owners(
        self,
        probes: Sequence[Embedding],
        *,
        k: int = 2,
        barred: Sequence[Collection[int]] | None = None,
    ) -> list[list[Neighbour]]:
        """Return, of each of the `k` identities nearest to each probe, the nearest exemplar.

        Arguments and errors as `search`.
        """
        return self._search(probes, k, barred, per_owner=True)

    def parts(self, probe: Embedding, key: int) -> NDArray[np.float64]:
        """Return how far each part of an exemplar is; their mean is its distance.

        Raises:
            KeyError: There is no such exemplar.
        """
        with self._access.reading():
            [parts] = part_distances(probe.T, self._gather([self._row_of[key]]))
            return np.asarray(parts)

    def _search(
        self,
        probes: Sequence[Embedding],
        k: int,
        barred: Sequence[Collection[int]] | None,
        *,
        per_owner: bool,
    ) -> list[list[Neighbour]]:
        if k < 1:
            raise ValueError(f"k: expected at least 1, got {k}")
        probes_MPC = _checked(probes)
        barred = [()] * len(probes_MPC) if barred is None else barred
        if len(barred) != len(probes_MPC):
            raise ValueError(f"barred: expected one a probe, {len(probes_MPC)}, got {len(barred)}")
        bests = [Best(k, per_owner) for _ in probes_MPC]
        with self._access.reading():
            self._search_candidates(probes_MPC, barred, bests)
            short = [n for n, best in enumerate(bests) if len(best) < k]
            for n, bounds in zip(short, self._bounds(probes_MPC[short]), strict=True):
                self._refine(probes_MPC[n], bounds, barred[n], bests[n])
        return [best.neighbours() for best in bests]

    def _search_candidates(
        self,
        probes_MPC: NDArray[np.float64],
        barred: Sequence[Collection[int]],
        bests: Sequence[Best],
    ) -> None:
        """Measure what the coarse index proposes, if there is one."""
        if self._coarse is None or len(self) < self._coarse.config.above:
            return
        vectors = vectors_of(self._sketcher.sketch(probes_MPC)[0])
        for n, rows in enumerate(self._coarse.candidates(vectors)):
            allowed = [row for row in rows if self._row(row).owner not in barred[n]]
            self._measure(probes_MPC[n], allowed, bests[n])

    def _bounds(self, probes_MPC: NDArray[np.float64]) -> Iterator[NDArray[np.float32]]:
        """Yield for each probe what no row is nearer than; beyond FARTHEST where none is."""
        size = self._block_rows
        for start in range(0, len(probes_MPC), _PROBES_AT_ONCE):
            some = probes_MPC[start : start + _PROBES_AT_ONCE]
            asked = self._sketcher.ask(some, self._longest)
            bounds = np.empty((len(some), size * len(self._blocks)), np.float32)
            for number, block in enumerate(self._blocks):
                lower_bounds(asked, block.sketches, bounds[:, number * size : (number + 1) * size])
            yield from bounds

    def _refine(
        self,
        probe_PC: NDArray[np.float64],
        bounds: NDArray[np.float32],
        barred: Collection[int],
        best: Best,
    ) -> None:
        """Measure rows from the lowest bound on, until no other can be among the best."""
        for owner in barred:
            bounds[np.array(self._rows_of.get(owner, []), dtype=np.intp)] = np.inf
        for rows in lowest_first(bounds, best):
            self._measure(probe_PC, rows.tolist(), best)

    def _measure(self, probe_PC: NDArray[np.float64], rows: Sequence[int], best: Best) -> None:
        distances = part_distances(probe_PC, self._gather(rows)).mean(axis=1)
        for index, distance in zip(rows, distances.tolist(), strict=True):
            best.offer(self._row(index), distance)

    def _gather(self, rows: Sequence[int]) -> NDArray[np.float16]:
        """Return shape (N, 16, 256)."""
        out = np.empty((len(rows), _PARTS, _CHANNELS), np.float16)
        for number, index in enumerate(rows):
            block, place = self._place(index)
            out[number] = block.embeddings[place]
        return out

    def _row(self, index: int) -> Row:
        row = self._rows[index]
        assert row is not None
        return row

    def _place(self, index: int) -> tuple[_Block, int]:
        return self._blocks[index // self._block_rows], index % self._block_rows

    def _take_places(self, count: int) -> list[int]:
        """Return rows that are free, of new blocks when there are no others."""
        while len(self._free) < count:
            start = len(self._rows)
            self._free[:0] = reversed(range(start, start + self._block_rows))
            block = _Block(self._block_rows)
            with self._access.changing():
                self._rows += [None] * self._block_rows
                self._blocks.append(block)
        return [self._free.pop() for _ in range(count)]

    def _write(
        self, places: Sequence[int], rows: Sequence[Row], stored_NPC: NDArray[np.float16]
    ) -> None:
        sketches_PWN, longest_P = self._sketcher.sketch(stored_NPC)
        with self._access.changing():
            if self._coarse is not None:
                self._coarse.add(places, vectors_of(sketches_PWN))
            self._longest = np.maximum(self._longest, longest_P)
            for number, (index, row) in enumerate(zip(places, rows, strict=True)):
                self._note(index, row)
                block, place = self._place(index)
                block.embeddings[place] = stored_NPC[number]
                block.sketches[:, :, place] = sketches_PWN[:, :, number]

    def _note(self, index: int, row: Row | None) -> None:
        """Remember what a row holds now, and forget what it held."""
        if (old := self._rows[index]) is not None:
            del self._row_of[old.key]
            owned = self._rows_of[old.owner]
            owned.remove(index)
            if not owned:
                del self._rows_of[old.owner]
        self._rows[index] = row
        if row is not None:
            self._row_of[row.key] = index
            self._rows_of.setdefault(row.owner, []).append(index)

    def _fit(self) -> None:
        """Learn from what is there how to sketch it, and do that. Nobody else changes anything."""
        used = list(self._row_of.values())
        sample = [
            used[n] for n in np.linspace(0, len(used) - 1, min(_SAMPLE, len(used)), dtype=int)
        ]
        sketcher = Sketcher.fit(self._gather(sample))
        longest = np.zeros(_PARTS)
        made = []
        for number in range(len(self._blocks)):
            sketches, longest_here = self._sketched(number, sketcher)
            longest = np.maximum(longest, longest_here)
            made.append(sketches)
        coarse = self._grouped(made)
        with self._access.changing():
            self._sketcher, self._longest, self._coarse = sketcher, longest, coarse
            for block, sketches in zip(self._blocks, made, strict=True):
                block.sketches = sketches
        self._fit_at = _NEXT_FIT * len(self)
        if self._config is not None and len(self) < self._config.above:
            self._fit_at = min(self._fit_at, self._config.above)

    def _grouped(self, sketches: Sequence[NDArray[np.float32]]) -> CoarseIndex | None:
        """Return a coarse index of all rows, if there are enough for one."""
        if self._config is None or len(self) < self._config.above:
            return None
        every = len(self) // CoarseIndex.sample_size(len(self))
        used = [self._used(number) for number in range(len(sketches))]
        sample = [
            vectors_of(made[:, :, u[::every]]) for made, u in zip(sketches, used, strict=True)
        ]
        coarse = CoarseIndex(np.concatenate(sample), self._config)
        for number, (made, places) in enumerate(zip(sketches, used, strict=True)):
            rows = [number * self._block_rows + place for place in places]
            coarse.add(rows, vectors_of(made[:, :, places]))
        return coarse

    def _used(self, number: int) -> list[int]:
        """Return the places of a block that hold an exemplar."""
        start = number * self._block_rows
        rows = self._rows[start : start + self._block_rows]
        return [place for place, row in enumerate(rows) if row is not None]

    def _sketched(
        self, number: int, sketcher: Sketcher
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return new sketches of a block and the lengths of its longest parts."""
        sketches = no_sketches(self._block_rows)
        longest = np.zeros(_PARTS)
        used = self._used(number)
        for first in range(0, len(used), _AT_ONCE):
            places = used[first : first + _AT_ONCE]
            made, longest_here = sketcher.sketch(self._blocks[number].embeddings[places])
            sketches[:, :, places] = made
            longest = np.maximum(longest, longest_here)
        return sketches, longest


def _as_stored(embeddings: Floats) -> NDArray[np.float16]:
    """Return (N, 16, 256) of (N, 256, 16)."""
    if embeddings.shape[1:] != EMBEDDING_SHAPE:
        raise ValueError(
            f"embeddings: expected shape (N, {_CHANNELS}, {_PARTS}), got {embeddings.shape}"
        )
    with np.errstate(over="ignore"):
        stored_NPC = np.ascontiguousarray(embeddings.transpose(0, 2, 1), dtype=np.float16)
    if not np.isfinite(stored_NPC).all():
        raise ValueError("embeddings: expected finite numbers that float16 can hold")
    return stored_NPC


def _checked(probes: Sequence[Embedding]) -> NDArray[np.float64]:
    """Return (M, 16, 256)."""
    for number, probe in enumerate(probes):
        # The bounds' squares would overflow far beyond what can be stored.
        if probe.shape != EMBEDDING_SHAPE or not (np.abs(probe) <= _LARGEST).all():
            raise ValueError(
                f"probes[{number}]: expected shape {EMBEDDING_SHAPE} and numbers of at most "
                f"{_LARGEST:.0f}, got shape {probe.shape} or numbers that are not"
            )
    if not len(probes):
        return np.empty((0, _PARTS, _CHANNELS))
    return np.stack(probes).transpose(0, 2, 1).astype(np.float64)
