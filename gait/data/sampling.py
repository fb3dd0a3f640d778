"""Which sequences make a batch, and which of their frames (spec b.1, b.2).

Frames: Random Tracklet Sampling, the paper's, and ordered sampling for the baselines. Sequences:
P identities times K sequences of each, the same batch whatever the number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from gait.strict import StrictModel


class FrameSampling(Protocol):
    """Picks frames of a sequence."""

    def indices(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the frames to take, in this order, of a sequence of `num_frames`.

        Raises:
            ValueError: The sequence is empty.
        """

    def for_batch(self, rng: np.random.Generator) -> FrameSampling:
        """Return a sampling that takes the same number of frames of every sequence."""


class RandomTrackletConfig(StrictModel):
    """Random Tracklet Sampling: several short walks of one sequence, one after the other.

    Attributes:
        lengths: Frames a tracklet may have, each a divisor of `total`. Longer ones show more of a
            gait cycle in one piece, shorter ones more moments of the sequence.
        probabilities: Weight of each length; they need not sum to 1.
        step: Frames from one to the next of a tracklet. Higher covers more of the walk, at the
            price of coarser motion.
        total: Frames taken of each sequence. Higher sees more, at the price of time and memory.
    """

    kind: Literal["random_tracklet"] = "random_tracklet"
    lengths: list[int] = Field(default=[8, 16, 32], min_length=1)
    probabilities: list[float] = Field(default=[0.2, 0.3, 0.5], min_length=1)
    step: int = 1
    total: int = 32

    @model_validator(mode="after")
    def _builds(self) -> RandomTrackletConfig:
        self.build()
        return self

    def build(self) -> RandomTrackletSampling:
        """Return the sampling."""
        return RandomTrackletSampling(
            tuple(self.lengths), tuple(self.probabilities), step=self.step, total=self.total
        )


class OrderedConfig(StrictModel):
    """Ordered sampling: one walk of consecutive frames, some of them dropped.

    Attributes:
        min_frames: Fewest frames taken.
        max_frames: Most; equal to `min_frames` for a fixed number, else each batch draws one.
            Higher sees more of the walk, at the price of time and memory.
        num_dropped: Frames dropped at random from `number + num_dropped` consecutive ones. Higher
            varies the speed of the walk more, at the price of an uneven one.
    """

    kind: Literal["ordered"] = "ordered"
    min_frames: int = 30
    max_frames: int = 30
    num_dropped: int = 0

    @model_validator(mode="after")
    def _builds(self) -> OrderedConfig:
        self.build()
        return self

    def build(self) -> OrderedSampling:
        """Return the sampling."""
        return OrderedSampling(self.min_frames, self.max_frames, num_dropped=self.num_dropped)


SamplingConfig = Annotated[RandomTrackletConfig | OrderedConfig, Field(discriminator="kind")]


@dataclass(frozen=True)
class RandomTrackletSampling:
    """Random Tracklet Sampling (spec b.1); the arguments are explained at `RandomTrackletConfig`.

    Draws a length, then `total / length` starts, all uniform and independent: tracklets may
    overlap or coincide, and follow each other as drawn. A sequence shorter than a tracklet's span
    S is repeated ceil(S / frames) + 1 times, once more than needed, as in the release.
    """

    lengths: tuple[int, ...]
    probabilities: tuple[float, ...]
    step: int
    total: int

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled.

        Raises:
            ValueError: Saying which argument.
        """
        if self.step < 1 or self.total < 1:
            raise ValueError(f"step and total: expected 1 or more, got {self.step}, {self.total}")
        if not self.lengths or any(each < 1 or self.total % each for each in self.lengths):
            raise ValueError(
                f"lengths: expected divisors of total ({self.total}), got {list(self.lengths)}; "
                "other lengths give sequences of different sizes, which cannot be one batch"
            )
        if len(self.probabilities) != len(self.lengths) or not _are_weights(self.probabilities):
            raise ValueError(
                f"probabilities: expected {len(self.lengths)} weights of 0 or more, one a length "
                f"and not all 0, got {list(self.probabilities)}"
            )

    def indices(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `total` frames of a sequence of `num_frames`.

        Raises:
            ValueError: The sequence is empty.
        """
        weights = np.asarray(self.probabilities)
        length = int(rng.choice(self.lengths, p=weights / weights.sum()))
        starts = rng.integers(self.num_starts(num_frames, length), size=self.total // length)
        return self.frames(num_frames, length, starts)

    def num_starts(self, num_frames: int, length: int) -> int:
        """Return from how many frames a tracklet may start, wrapping included.

        Raises:
            ValueError: The sequence is empty.
        """
        _check_length(num_frames)
        span = (length - 1) * self.step + 1
        if num_frames < span:
            num_frames *= -(-span // num_frames) + 1
        return num_frames - span + 1

    def frames(self, num_frames: int, length: int, starts: ArrayLike) -> NDArray[np.int64]:
        """Return the frames of tracklets of `length` at `starts`, one tracklet after another."""
        firsts = np.asarray(starts, dtype=np.int64)[:, None]
        # a repeated sequence runs ..., last, first, second, ...
        return (firsts + self.step * np.arange(length)).reshape(-1) % num_frames

    def for_batch(self, rng: np.random.Generator) -> RandomTrackletSampling:
        """Return itself: the number of frames never varies."""
        return self


@dataclass(frozen=True)
class OrderedSampling:
    """Consecutive frames from a random start, some dropped; arguments as at `OrderedConfig`.

    A sequence shorter than needed is repeated until it is long enough.
    """

    min_frames: int
    max_frames: int
    num_dropped: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled.

        Raises:
            ValueError: Saying which argument.
        """
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(
                "min_frames, max_frames: expected 1 <= min_frames <= max_frames, "
                f"got {self.min_frames}, {self.max_frames}"
            )
        if self.num_dropped < 0:
            raise ValueError(f"num_dropped: expected 0 or more, got {self.num_dropped}")

    def indices(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return between `min_frames` and `max_frames` frames of a sequence of `num_frames`.

        Raises:
            ValueError: The sequence is empty.
        """
        _check_length(num_frames)
        number = self._draw_number(rng)
        span = number + self.num_dropped
        available = num_frames * -(-span // num_frames)
        start = rng.integers(available - span + 1)
        kept = np.sort(rng.choice(span, size=number, replace=False))
        return (start + kept) % num_frames

    def for_batch(self, rng: np.random.Generator) -> OrderedSampling:
        """Return a sampling whose number of frames is drawn, so that sequences make a batch."""
        number = self._draw_number(rng)
        return OrderedSampling(number, number, self.num_dropped)

    def _draw_number(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.min_frames, self.max_frames + 1))


class IdentitySampler:
    """An endless stream of batches: P identities, K sequences of each (spec b.2).

    Batch number i depends on the seed and on i alone. So every process finds the whole batch by
    itself and takes each `world_size`-th place of it, any number of processes share the same
    batches, and training resumes at any iteration without replaying the ones before.

    Identities are drawn without replacement, with only if there are fewer than P; so are each
    one's sequences. Pass it to a DataLoader as `batch_sampler`.
    """

    def __init__(
        self,
        labels: Sequence[Any] | NDArray[Any],
        *,
        num_ids: int,
        per_id: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_iteration: int = 0,
    ) -> None:
        """Make the sampler of one process.

        Args:
            labels: Identity of each sequence of the training set.
            num_ids: P, identities a batch. Higher meets more people a step, at the price of memory.
            per_id: K, sequences of each. Higher gives more positive pairs, at the price of memory.
            seed: What the batches depend on, equal in all processes.
            rank: Which process this is, from 0.
            world_size: How many processes share a batch; must divide P x K.
            start_iteration: Number of the first batch, to go on where training stopped.

        Raises:
            ValueError: The arguments do not fit together, or there are no labels.
        """
        if min(num_ids, per_id, world_size) < 1 or not 0 <= rank < world_size:
            raise ValueError(
                "expected num_ids, per_id and world_size of 1 or more and a rank below world_size, "
                f"got {num_ids}, {per_id}, {world_size} and {rank}"
            )
        if num_ids * per_id % world_size:
            raise ValueError(
                f"expected a batch that {world_size} processes can share evenly, got {num_ids} x "
                f"{per_id}; change num_ids or per_id to make the product a multiple"
            )
        if not len(labels):
            raise ValueError("labels: expected the identity of each training sequence, got none")
        self.num_ids, self.per_id = num_ids, per_id
        self.start_iteration = start_iteration
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._members = _members(np.asarray(labels))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's part of each batch, without end, from `start_iteration`."""
        iteration = self.start_iteration
        while True:
            yield self.batch(iteration)[self._rank :: self._world_size].tolist()
            iteration += 1

    def batch(self, iteration: int) -> NDArray[np.int64]:
        """Return the sequences of all processes' batch of that number, shape (P * K,), shuffled."""
        rng = np.random.default_rng([self._seed, iteration])
        ids = _draw(rng, len(self._members), self.num_ids)
        chosen = [
            self._members[each][_draw(rng, len(self._members[each]), self.per_id)] for each in ids
        ]
        return rng.permutation(np.concatenate(chosen))


def _members(labels: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return the positions of each label, labels in sorted order."""
    _, counts = np.unique(labels, return_counts=True)
    by_label = np.argsort(labels, kind="stable").astype(np.int64)
    return np.split(by_label, np.cumsum(counts)[:-1])


def _draw(rng: np.random.Generator, available: int, wanted: int) -> NDArray[np.int64]:
    """Return `wanted` of 0 .. available - 1, none twice unless there are too few."""
    return rng.choice(available, size=wanted, replace=available < wanted)


def _check_length(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(f"expected a sequence of 1 frame or more, got {num_frames}")


def _are_weights(values: Sequence[float]) -> bool:
    return all(value >= 0 for value in values) and sum(values) > 0
