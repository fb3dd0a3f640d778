"""What shapes an engine is tuned for, and how an input that lies beside them still runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.errors import RuntimeUnavailable
from gait.runtimes.session import Port, Profile

Ranges = Mapping[str, Profile]
"""Shapes of every input with free axes: one of the ranges of an engine."""

BATCH, FRAMES, LENGTHS = "batch", "frames", "lengths"
"""Names that `gait.export` gives: of two axes, and of the input that counts real frames."""

_Span = tuple[int, int, int]  # least, usual, most
_USUAL: Mapping[str, _Span] = {BATCH: (1, 8, 64), FRAMES: (8, 30, 128)}
_LONG: Mapping[str, _Span] = {BATCH: (1, 1, 8), FRAMES: (128, 256, 1024)}
_SHORT: Mapping[str, _Span] = {BATCH: (1, 8, 64), FRAMES: (1, 4, 8)}


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Inputs that an engine takes as they are.

    Attributes:
        index: Of the range they fit.
        feeds: One array for each input, perhaps padded.
        batch: How many rows of the outputs are wanted; None for all.
    """

    index: int
    feeds: Mapping[str, NDArray[Any]]
    batch: int | None


def default_ranges(inputs: Sequence[Port]) -> tuple[Ranges, ...]:
    """Return what a graph is built for when nobody says.

    Graphs of our encoder: batches of 1 to 64 with 8 to 128 frames, tuned for 8 x 30, and batches
    of 1 to 8 with 128 to 1024. Fewer than 8 frames are padded if the graph takes `lengths`; if it
    does not, they are a range of their own. In other graphs a free first axis is the batch.

    Raises:
        RuntimeUnavailable: Another axis is free.
    """
    free = {axis for port in inputs for axis in port.shape if isinstance(axis, str)}
    if FRAMES not in free:
        return (_ranges(inputs, _USUAL),)
    takes_padding = any(port.name == LENGTHS for port in inputs)
    spans = (_USUAL, _LONG) if takes_padding else (_USUAL, _LONG, _SHORT)
    return tuple(_ranges(inputs, each) for each in spans)


def check_ranges(ranges: Sequence[Ranges], inputs: Sequence[Port]) -> None:
    """Refuse ranges that a graph cannot be built for.

    Raises:
        ValueError: There are none, one is for an input that the graph has not, leaves an input
            with a free axis out, or has an impossible shape.
    """
    if not ranges:
        raise ValueError("profiles: expected at least one, got none")
    for each in ranges:
        unknown = set(each) - {port.name for port in inputs}
        if unknown:
            raise ValueError(
                f"profiles: expected inputs of the graph ({', '.join(p.name for p in inputs)}), "
                f"got {', '.join(sorted(unknown))}"
            )
        for port in inputs:
            _check_profile(port, each.get(port.name))


def fit(
    feeds: Mapping[str, NDArray[Any]], inputs: Sequence[Port], ranges: Sequence[Ranges]
) -> list[Fitted]:
    """Return the inputs in as few calls as an engine can take them.

    Rows are added to a batch that is too small, and frames to sequences that are too short when
    the graph is told their `lengths`; neither changes what comes out for the rest. A batch that is
    too large is cut.

    Args:
        feeds: As `gait.runtimes.session.check_feeds` has accepted them.
        inputs: Of the graph.
        ranges: Of the engine.

    Raises:
        ValueError: An axis is empty, or no range can hold them; the message names the ranges.
    """
    wanted = _axes(feeds, inputs)
    if 0 in wanted.values():
        raise ValueError(f"session: expected at least one of each, got {wanted}")
    whole = _fit_whole(wanted, feeds, inputs, ranges)
    if whole is not None:
        return [whole]
    size = _largest_batch(wanted, feeds, inputs, ranges)
    if size is None:
        raise ValueError(
            f"session: expected {' or '.join(_describe(inputs, each) for each in ranges)}, got "
            f"{_words(wanted)}; split what is larger, or build for other profiles"
        )
    pieces = [
        {port.name: _rows(feeds[port.name], port, slice(start, start + size)) for port in inputs}
        for start in range(0, wanted[BATCH], size)
    ]
    return [fitted for piece in pieces for fitted in fit(piece, inputs, ranges)]


def ranges_to_json(ranges: Sequence[Ranges]) -> str:
    """Return the ranges as text, the same for equal ones."""
    plain = [{name: asdict(profile) for name, profile in each.items()} for each in ranges]
    return json.dumps(plain, sort_keys=True)


def ranges_from_json(text: str) -> tuple[Ranges, ...]:
    """Return what `ranges_to_json` was given.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: It is something else.
    """
    return tuple(
        {
            str(name): Profile(*(_shape(profile[key]) for key in ("least", "usual", "most")))
            for name, profile in each.items()
        }
        for each in json.loads(text)
    )


def _shape(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _ranges(inputs: Sequence[Port], spans: Mapping[str, _Span]) -> Ranges:
    found = {}
    for port in inputs:
        if any(isinstance(axis, str) for axis in port.shape):
            axes = [_span(port, i, spans) for i in range(len(port.shape))]
            least, usual, most = zip(*axes, strict=True)
            found[port.name] = Profile(least, usual, most)
    return found


def _span(port: Port, index: int, spans: Mapping[str, _Span]) -> _Span:
    axis = port.shape[index]
    if isinstance(axis, int):
        return axis, axis, axis
    span = spans.get(BATCH if index == 0 else axis)
    if span is None:
        raise RuntimeUnavailable(
            f"tensorrt: {port.name}: axis {index} ({axis}) is free and its usual length is not "
            "known; export the graph with a fixed length there, or say for which to build"
        )
    return span


def _check_profile(port: Port, profile: Profile | None) -> None:
    if profile is None:
        if any(isinstance(axis, str) for axis in port.shape):
            raise ValueError(f"profiles: {port.name}: has free axes {port.shape}, and no profile")
        return
    shapes = profile.least, profile.usual, profile.most
    is_possible = all(len(shape) == len(port.shape) for shape in shapes) and all(
        1 <= low <= usual <= high and (isinstance(axis, str) or low == axis == high)
        for axis, low, usual, high in zip(port.shape, *shapes, strict=True)
    )
    if not is_possible:
        raise ValueError(
            f"profiles: {port.name}: expected shapes {port.shape} with 1 <= least <= usual <= "
            f"most, got {profile.least}, {profile.usual}, {profile.most}"
        )


def _fit_whole(
    wanted: Mapping[str, int],
    feeds: Mapping[str, NDArray[Any]],
    inputs: Sequence[Port],
    ranges: Sequence[Ranges],
) -> Fitted | None:
    candidates = []
    for index, each in enumerate(ranges):
        padded = _padded_axes(wanted, _limits(inputs, each), can_pad_frames=LENGTHS in feeds)
        if padded is not None:
            added = sum(padded[axis] - wanted[axis] for axis in wanted)
            candidates.append((added, index, padded))
    if not candidates:
        return None
    _, index, padded = min(candidates, key=lambda candidate: candidate[:2])
    arrays = {port.name: _pad(feeds[port.name], port, padded) for port in inputs}
    is_grown = padded.get(BATCH) != wanted.get(BATCH)
    return Fitted(index, arrays, wanted[BATCH] if is_grown else None)


def _largest_batch(
    wanted: Mapping[str, int],
    feeds: Mapping[str, NDArray[Any]],
    inputs: Sequence[Port],
    ranges: Sequence[Ranges],
) -> int | None:
    """Return the largest batch that a range holds all else of; None when none does."""
    sizes = []
    for each in ranges:
        limits = _limits(inputs, each)
        if wanted.get(BATCH, 0) > limits.get(BATCH, (0, 0))[1] > 0:
            fewer = {**wanted, BATCH: limits[BATCH][1]}
            if _padded_axes(fewer, limits, can_pad_frames=LENGTHS in feeds) is not None:
                sizes.append(fewer[BATCH])
    return max(sizes, default=None)


def _rows(array: NDArray[Any], port: Port, rows: slice) -> NDArray[Any]:
    return array[tuple(rows if axis == BATCH else slice(None) for axis in port.shape)]


def _axes(feeds: Mapping[str, NDArray[Any]], inputs: Sequence[Port]) -> dict[str, int]:
    """Return the length of each free axis."""
    return {
        axis: length
        for port in inputs
        for axis, length in zip(port.shape, feeds[port.name].shape, strict=True)
        if isinstance(axis, str)
    }


def _limits(inputs: Sequence[Port], ranges: Ranges) -> dict[str, tuple[int, int]]:
    """Return the least and the most of each free axis: what all inputs that have it allow."""
    limits: dict[str, tuple[int, int]] = {}
    for port in inputs:
        if port.name not in ranges:
            continue
        profile = ranges[port.name]
        for axis, low, high in zip(port.shape, profile.least, profile.most, strict=True):
            if isinstance(axis, str):
                least, most = limits.get(axis, (low, high))
                limits[axis] = max(least, low), min(most, high)
    return limits


def _padded_axes(
    wanted: Mapping[str, int], limits: Mapping[str, tuple[int, int]], *, can_pad_frames: bool
) -> dict[str, int] | None:
    """Return the lengths to pad to, or None when that does not help."""
    growing = {BATCH, FRAMES} if can_pad_frames else {BATCH}
    padded = {}
    for axis, length in wanted.items():
        least, most = limits[axis]
        if length > most or (length < least and axis not in growing):
            return None
        padded[axis] = max(length, least)
    return padded


def _pad(array: NDArray[Any], port: Port, padded: Mapping[str, int]) -> NDArray[Any]:
    for index, axis in enumerate(port.shape):
        missing = padded[axis] - array.shape[index] if isinstance(axis, str) else 0
        if missing:
            widths = [(0, missing if i == index else 0) for i in range(array.ndim)]
            # More rows of what is there, so that nothing odd runs; frames behind an end are empty.
            array = np.pad(array, widths, mode="edge" if axis == BATCH else "constant")
    return array


def _describe(inputs: Sequence[Port], ranges: Ranges) -> str:
    limits = _limits(inputs, ranges)
    spans = {axis: f"{least} to {most}" for axis, (least, most) in limits.items()}
    return f"({_words(spans)})"


def _words(axes: Mapping[str, object]) -> str:
    return ", ".join(f"{axis} {length}" for axis, length in axes.items())
