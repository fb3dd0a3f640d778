from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from gait.data.sampling import (
    IdentitySampler,
    OrderedConfig,
    OrderedSampling,
    RandomTrackletConfig,
    RandomTrackletSampling,
    SamplingConfig,
)

LABELS = [f"{i:03d}" for i in range(12) for _ in range(3 + i % 4)]


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _first(sampler: IdentitySampler, number: int) -> list[list[int]]:
    return list(itertools.islice(sampler, number))


def _naive_tracklets(num_frames: int, length: int, step: int, starts: list[int]) -> list[int]:
    """The words of the specification, on a list that is really repeated."""
    frames, span = list(range(num_frames)), (length - 1) * step + 1
    if num_frames < span:
        frames = frames * (-(-span // num_frames) + 1)
    return [frames[start + step * k] for start in starts for k in range(length)]


@pytest.mark.golden
def test_tracklets_agree_with_the_release(golden_dir: Path) -> None:
    rows: list[dict[str, Any]] = json.loads((golden_dir / "rts.json").read_text())
    for row in rows:
        sampling = RandomTrackletConfig(step=row["step"]).build()
        choices = [sampling.num_starts(row["T"], row["length"]) for _ in row["starts"]]
        assert choices == row["num_start_choices"]
        frames = sampling.frames(row["T"], row["length"], row["starts"])
        assert frames.tolist() == row["indices"]


@pytest.mark.golden
def test_golden_draws_replay_with_the_releases_generator(golden_dir: Path) -> None:
    rows: list[dict[str, Any]] = json.loads((golden_dir / "rts.json").read_text())
    for row in rows:
        sampling, draws = RandomTrackletConfig(step=row["step"]).build(), random.Random(row["seed"])
        (length,) = draws.choices(sampling.lengths, sampling.probabilities)
        choices = range(sampling.num_starts(row["T"], length))
        starts = [draws.choice(choices) for _ in range(sampling.total // length)]
        assert (length, starts) == (row["length"], row["starts"])


@given(
    num_frames=st.integers(1, 70),
    length=st.sampled_from([1, 2, 3, 4, 6, 12]),
    step=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_tracklets_equal_slices_of_a_repeated_list(
    num_frames: int, length: int, step: int, seed: int
) -> None:
    sampling = RandomTrackletSampling((length,), (1.0,), step=step, total=12)
    highest = sampling.num_starts(num_frames, length) - 1
    starts = [highest, 0, *_rng(seed).integers(highest + 1, size=12 // length).tolist()]
    expected = _naive_tracklets(num_frames, length, step, starts)
    assert sampling.frames(num_frames, length, starts).tolist() == expected
    with pytest.raises(IndexError):  # one more start would run off the end
        _naive_tracklets(num_frames, length, step, [highest + 1])


def test_lengths_are_drawn_with_their_probabilities_and_starts_uniformly() -> None:
    sampling = RandomTrackletSampling((2, 4), (1, 3), step=1, total=4)
    rng = _rng()
    draws = [sampling.indices(6, rng) for _ in range(8000)]
    whole = [draw for draw in draws if np.all(np.diff(draw) == 1)]
    # a pair of pairs looks like one tracklet for 3 of 25 pairs of starts
    assert len(whole) / len(draws) == pytest.approx(3 / 4 + 1 / 4 * 3 / 25, abs=0.02)
    starts = Counter(int(draw[0]) for draw in draws if not np.all(np.diff(draw) == 1))
    assert set(starts) == {0, 1, 2, 3, 4}


def test_the_same_generator_gives_the_same_frames() -> None:
    sampling = RandomTrackletConfig().build()
    first, again, other = (sampling.indices(90, _rng(seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert sampling.for_batch(_rng()) is sampling
    assert first.shape == (32,)
    assert first.dtype == np.int64


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"lengths": [8, 12, 32]}, "expected divisors of total"),
        ({"lengths": [8]}, "expected 1 weights"),
        ({"probabilities": [0, 0, 0]}, "not all 0"),
        ({"probabilities": [0.5, 0.6, -0.1]}, "weights of 0 or more"),
        ({"step": 0}, "step and total"),
    ],
)
def test_tracklet_settings_that_cannot_work_are_refused(
    wrong: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        RandomTrackletConfig.model_validate(wrong)


@pytest.mark.parametrize(
    "wrong", [{"min_frames": 0}, {"min_frames": 31}, {"num_dropped": -1}, {"frames": 30}]
)
def test_ordered_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OrderedConfig.model_validate(wrong)


@pytest.mark.parametrize("sampling", [RandomTrackletConfig().build(), OrderedSampling(30, 30)])
def test_an_empty_sequence_is_refused(
    sampling: RandomTrackletSampling | OrderedSampling,
) -> None:
    with pytest.raises(ValueError, match="expected a sequence of 1 frame or more, got 0"):
        sampling.indices(0, _rng())


def test_a_configuration_is_chosen_by_its_kind() -> None:
    adapter: TypeAdapter[SamplingConfig] = TypeAdapter(SamplingConfig)
    assert adapter.validate_python({"kind": "random_tracklet", "step": 2}).build() == (
        RandomTrackletSampling((8, 16, 32), (0.2, 0.3, 0.5), step=2, total=32)
    )
    ordered = adapter.validate_python({"kind": "ordered", "min_frames": 10})
    assert ordered.build() == OrderedSampling(10, 30)


@given(
    num_frames=st.integers(1, 80),
    number=st.integers(1, 40),
    num_dropped=st.integers(0, 10),
    seed=st.integers(0, 2**32),
)
def test_fixed_ordered_sampling_walks_forward_and_wraps_only_when_it_must(
    num_frames: int, number: int, num_dropped: int, seed: int
) -> None:
    frames = OrderedSampling(number, number, num_dropped).indices(num_frames, _rng(seed))
    assert len(frames) == number
    steps = np.diff(frames) % num_frames if num_frames > num_dropped + 1 else np.diff(frames)
    assert steps.sum() <= number - 1 + num_dropped
    if num_frames >= number + num_dropped:
        assert np.all(np.diff(frames) > 0)


def test_without_dropping_frames_ordered_sampling_is_a_slice_from_every_start() -> None:
    rng = _rng()
    draws = [OrderedSampling(5, 5).indices(7, rng).tolist() for _ in range(100)]
    assert {tuple(draw) for draw in draws} == {tuple(range(i, i + 5)) for i in range(3)}


def test_unfixed_sampling_takes_every_number_of_frames_and_one_number_a_batch() -> None:
    sampling, rng = OrderedSampling(3, 6), _rng()
    assert {len(sampling.indices(20, rng)) for _ in range(100)} == {3, 4, 5, 6}
    batches = [
        {len(batch.indices(num_frames, rng)) for num_frames in (4, 9, 20)}
        for batch in (sampling.for_batch(rng) for _ in range(100))
    ]
    assert all(len(numbers) == 1 for numbers in batches)
    assert set().union(*batches) == {3, 4, 5, 6}


def _ids(batch: NDArray[np.int64]) -> Counter[str]:
    return Counter(LABELS[i] for i in batch)


def test_a_batch_holds_p_identities_with_k_different_sequences_each() -> None:
    sampler = IdentitySampler(LABELS, num_ids=5, per_id=3, seed=0)
    for iteration in range(20):
        batch = sampler.batch(iteration)
        assert len(set(batch.tolist())) == 15
        assert set(_ids(batch).values()) == {3}


def test_only_an_identity_with_too_few_sequences_is_drawn_with_replacement() -> None:
    sampler = IdentitySampler(LABELS, num_ids=12, per_id=5, seed=0)
    batch = sampler.batch(0)
    assert set(_ids(batch).values()) == {5}
    different = Counter(LABELS[i] for i in set(batch.tolist()))
    assert all(different[name] == 5 for name in _ids(batch) if LABELS.count(name) >= 5)


def test_identities_repeat_when_there_are_fewer_than_p() -> None:
    batch = IdentitySampler(["a", "b", "b"], num_ids=4, per_id=2, seed=0).batch(0)
    assert len(batch) == 8
    assert set(batch.tolist()) <= {0, 1, 2}


def test_every_identity_and_sequence_is_drawn_equally_often() -> None:
    labels = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    sampler = IdentitySampler(labels, num_ids=2, per_id=2, seed=3)
    counts = np.bincount(np.concatenate([sampler.batch(i) for i in range(4000)]), minlength=16)
    np.testing.assert_allclose(counts, 1000, rtol=0.12)


def test_the_order_in_a_batch_is_shuffled() -> None:
    batch = IdentitySampler(LABELS, num_ids=6, per_id=3, seed=0).batch(0)
    names = [LABELS[i] for i in batch]
    assert len(list(itertools.groupby(names))) > 6


def test_processes_deal_out_the_same_batches_whatever_their_number() -> None:
    arguments = {"num_ids": 4, "per_id": 2, "seed": 7}
    whole = _first(IdentitySampler(LABELS, **arguments), 5)
    for world_size in (2, 4):
        ranks = [
            _first(IdentitySampler(LABELS, **arguments, rank=rank, world_size=world_size), 5)
            for rank in range(world_size)
        ]
        for iteration, batch in enumerate(whole):
            dealt = [batch[rank::world_size] for rank in range(world_size)]
            assert [rank[iteration] for rank in ranks] == dealt


def test_a_resumed_sampler_continues_where_the_first_stopped() -> None:
    batches = _first(IdentitySampler(LABELS, num_ids=4, per_id=2, seed=7), 6)
    resumed = IdentitySampler(LABELS, num_ids=4, per_id=2, seed=7, start_iteration=4)
    assert _first(resumed, 2) == batches[4:]
    assert _first(resumed, 2) == batches[4:]  # iterating does not move the start
    assert len({tuple(batch) for batch in batches}) == 6


def test_another_seed_gives_other_batches() -> None:
    first, other = (IdentitySampler(LABELS, num_ids=4, per_id=2, seed=s).batch(0) for s in (0, 1))
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"world_size": 3}, "3 processes can share evenly, got 4 x 2"),
        ({"rank": 1}, "a rank below world_size"),
        ({"num_ids": 0}, "of 1 or more"),
        ({"labels": []}, "got none"),
    ],
)
def test_a_batch_that_cannot_be_made_is_refused(wrong: dict[str, Any], expected: str) -> None:
    arguments: dict[str, Any] = {"labels": LABELS, "num_ids": 4, "per_id": 2, "seed": 0}
    with pytest.raises(ValueError, match=expected):
        IdentitySampler(**arguments | wrong)
