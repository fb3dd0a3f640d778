"""Which sequences share a call."""

from __future__ import annotations

import pytest

from gait.runtimes.batching import batches, padded_batch, padded_frames

LENGTHS = [30, 2, 31, 2, 700, 29, 32, 2, 1]


def test_padding_wastes_three_frames_or_an_eighth_at_most() -> None:
    for length in range(1, 721):
        assert 0 <= padded_frames(length) - length <= max(3, length / 8)


def test_there_are_few_lengths_to_pad_to() -> None:
    assert len({padded_frames(length) for length in range(1, 721)}) == 44


def test_a_padded_batch_is_at_most_half_as_large_again() -> None:
    assert [padded_batch(count) for count in range(1, 10)] == [1, 2, 3, 4, 6, 6, 8, 8, 12]
    assert all(count <= padded_batch(count) <= 1.5 * count for count in range(1, 200))


@pytest.mark.parametrize("takes_padding", [False, True])
def test_every_sequence_is_in_one_batch_that_is_long_enough(takes_padding: bool) -> None:
    planned = batches(LENGTHS, takes_padding=takes_padding, most_frames=64)
    assert sorted(index for batch in planned for index in batch.indices) == list(range(9))
    for batch in planned:
        assert all(LENGTHS[index] <= batch.num_frames for index in batch.indices)
        assert len(batch.indices) == 1 or len(batch.indices) * batch.num_frames <= 64


def test_nothing_is_padded_where_padding_is_not_taken() -> None:
    for batch in batches(LENGTHS, takes_padding=False, most_frames=1000):
        assert {LENGTHS[index] for index in batch.indices} == {batch.num_frames}


def test_near_lengths_share_a_call_where_padding_is_taken() -> None:
    planned = batches(LENGTHS, takes_padding=True, most_frames=1000)
    assert [(batch.indices, batch.num_frames) for batch in planned] == [
        ((0, 2, 5, 6), 32),
        ((1, 3, 7, 8), 4),
        ((4,), 700),
    ]
