"""Which sequences share a call, and how far each is padded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

FRAMES_A_CALL: Mapping[str, int] = {"cpu": 30, "cuda": 1024}
"""Frames that are computed at once, by the kind of device. On a CPU more are slower by the frame:
what the layers hand on leaves the cache (nano, 8 x 30 at once: torch twice, onnxruntime 1.1 times
the time of eight calls)."""

_SMALLEST_STEP = 4
_STEPS_AN_OCTAVE = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences for one call.

    Attributes:
        indices: Which.
        num_frames: Length of the call; shorter sequences are padded up to it.
    """

    indices: tuple[int, ...]
    num_frames: int


def padded_frames(num_frames: int) -> int:
    """Return the length that a sequence is padded to where sequences may be padded.

    Lengths are rounded up to multiples of 4, from 65 frames on to eighths of the power of two
    below: 60, 64, 72, ... 128, 144, ... 768. So at most 3 frames or one eighth of the sequence
    are computed in vain, and up to 720 frames there are 44 lengths.
    """
    step = max(_SMALLEST_STEP, _power_below(num_frames) // _STEPS_AN_OCTAVE)
    return -(-num_frames // step) * step


def padded_batch(num_sequences: int) -> int:
    """Return the batch that a call is padded to: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, ..."""
    power = _power_below(num_sequences)
    return next(size for size in (power, power * 3 // 2, power * 2) if size >= num_sequences)


def batches(lengths: Sequence[int], *, takes_padding: bool, most_frames: int) -> list[Batch]:
    """Return all sequences, each in one batch.

    Without padding only sequences of one length share a call: the network pools over every frame
    it is given. With padding those share it whose `padded_frames` agree.

    Args:
        lengths: Frames of each sequence.
        takes_padding: Whether a padded frame is without effect and worth computing.
        most_frames: Frames of a call, padding among them; a longer sequence goes alone.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(padded_frames(length) if takes_padding else length, []).append(index)
    planned = []
    for num_frames, members in groups.items():
        for part in parts(len(members), num_frames, most_frames):
            indices = tuple(members[part])
            longest = max(lengths[index] for index in indices)
            planned.append(Batch(indices, num_frames if len(indices) > 1 else longest))
    return planned


def parts(num_sequences: int, num_frames: int, most_frames: int) -> Iterator[slice]:
    """Yield the sequences of a call in parts of at most `most_frames` frames, or one sequence."""
    size = max(1, most_frames // num_frames)
    for start in range(0, num_sequences, size):
        yield slice(start, start + size)


def _power_below(number: int) -> int:
    """Return the largest power of two that is at most `number`."""
    return 1 << (number.bit_length() - 1)
