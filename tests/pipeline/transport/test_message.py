from __future__ import annotations

import json
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gait.silhouette import Reason
from gait.tracklet import Tracklet
from pipeline.transport.message import MessageError, VersionError, decode, encode

_LIMIT = 500_000
_FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
_FIELDS = (
    "stream", "track_id", "seen_s", "quality", "reasons", "companions", "is_last", "offset",
    "origin_unix_s", "boxes",
)  # fmt: skip


def tracklet(length: int = 5, **changes: Any) -> Tracklet:
    rng = np.random.default_rng(length)
    silhouettes = np.zeros((length, 64, 44), np.uint8)
    silhouettes[:, 8:60, 10:30] = 255
    silhouettes[:, 8:60, 30] = rng.integers(0, 256, (length, 52))  # an edge in grey
    values: dict[str, Any] = {
        "stream": "door",
        "track_id": 3,
        "silhouettes": silhouettes,
        "frame_indices": np.arange(length) * 2 + 7,
        "times_s": 1.7e9 + np.arange(length) / 12.5,
        "seen_s": (1.7e9 - 0.1, 1.7e9 + length / 12.5),
        "quality": 0.7 if length else 0.0,
        "reasons": ((str(Reason.NO_MASK), 2),),
        "companions": (1, 4),
        "is_last": True,
        "offset": 30,
        "origin_unix_s": 1.5e9,
        "boxes": ((10.5, -3.0, 60.0, 120.0), (14.5, -3.0, 64.0, 121.0)) if length else None,
    }
    return Tracklet(**values | changes)


def changed_header(message: list[bytes], path: str, value: object) -> list[bytes]:
    header = json.loads(message[0])
    *outer, last = path.split(".")
    inner = header
    for key in outer:
        inner = inner[key]
    inner[last] = value
    return [json.dumps(header).encode(), *message[1:]]


def assert_same(ours: Tracklet, theirs: Tracklet) -> None:
    for name in _FIELDS:
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("silhouettes", "frame_indices", "times_s"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(0, 12),
    seed=st.integers(0, 2**32 - 1),
    stream=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=50),
    quality=st.floats(0, 1),
)
def test_a_tracklet_comes_out_as_it_went_in(
    length: int, seed: int, stream: str, quality: float
) -> None:
    rng = np.random.default_rng(seed)
    ours = tracklet(
        length,
        stream=stream,
        quality=quality,
        silhouettes=rng.integers(0, 256, (length, 64, 44), np.uint8),
        times_s=np.cumsum(rng.random(length) + 1e-6) - 5,
        seen_s=(-5.0, 99.0),
    )
    assert_same(ours, decode(encode(ours)))


def test_the_walk_that_comes_out_may_be_written_to() -> None:
    theirs = decode(encode(tracklet()))
    assert theirs.silhouettes.flags.writeable
    assert theirs.times_s.flags.writeable


def test_a_buffer_need_not_be_packed() -> None:
    ours = tracklet()
    message = changed_header(encode(ours), "buffers.silhouettes.packing", "raw")
    message[1] = ours.silhouettes.tobytes()
    assert_same(ours, decode(message))


def test_a_walk_that_is_too_long_is_not_even_packed() -> None:
    with pytest.raises(MessageError, match="at most 10000 bytes"):
        encode(tracklet(), limit_bytes=10_000)


def test_another_version_is_told_apart_from_garbage() -> None:
    message = changed_header(encode(tracklet()), "version", 4)
    with pytest.raises(VersionError, match=r"expected version 3 .* got 4: run the same version"):
        decode(message)


@pytest.mark.parametrize(
    ("version", "unknown"), [(1, ("origin_unix_s", "boxes")), (2, ("boxes",))], ids=["1", "2"]
)
def test_what_an_older_message_could_not_tell_is_not_known(
    version: int, unknown: tuple[str, ...]
) -> None:
    header, *buffers = changed_header(encode(tracklet()), "version", version)
    old = json.loads(header)
    for name in unknown:
        del old["tracklet"][name]
    expected = tracklet(**dict.fromkeys(unknown))
    assert_same(decode([json.dumps(old).encode(), *buffers]), expected)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("schema", "trackletgait.link", "expected schema"),
        ("tracklet.track_id", -1, "track_id"),
        ("tracklet.track_id", "3", "track_id"),
        ("tracklet.track_id", 2**64, "track_id"),
        ("tracklet.stream", "", "stream"),
        ("tracklet.origin_unix_s", 1e300, "origin_unix_s"),
        ("tracklet.boxes", [[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 1e300]], "boxes"),
        ("tracklet.boxes", [[0.0, 0.0, 9.0, 9.0], [5.0, 0.0, 4.0, 9.0]], "left <= right"),
        ("tracklet.seen_s", [0.0, 1e12], "seen_s"),
        ("tracklet.stream", "do\nor", "stream"),
        ("tracklet.quality", 1.5, "quality"),
        ("tracklet.quality", float("nan"), "quality"),
        ("tracklet.seen_s", [2.0, 1.0], "first <= last"),
        ("tracklet.seen_s", [0.0, float("inf")], "seen_s"),
        ("tracklet.offset", -1, "offset"),
        ("tracklet.is_last", 1, "is_last"),
        ("tracklet.surprise", 1, "surprise"),
        ("buffers.silhouettes.dtype", "float32", "dtype"),
        ("buffers.silhouettes.shape", [5, 64, 45], "shape"),
        ("buffers.silhouettes.shape", [6, 64, 44], "one length"),
        ("buffers.silhouettes.packing", "pickle", "packing"),
        ("buffers.times_s.shape", [4], "one length"),
    ],
)
def test_a_header_that_is_wrong_is_refused(path: str, value: object, complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        decode(changed_header(encode(tracklet()), path, value))


@pytest.mark.parametrize(
    ("buffer", "values", "complaint"),
    [
        (2, np.array([1, 2, 2, 3, 4]), "frame_indices: expected strictly increasing"),
        (2, np.array([2**63 - 1, -(2**63), 0, 1, 2]), "frame_indices: expected strictly"),
        (3, np.array([0, 1, np.nan, 3, 4]), "times_s"),
        (3, np.array([0, 1, 2, 3, np.inf]), "times_s: expected finite"),
        (3, np.array([0, 1, 2, 3.0]), "times_s: expected 40 bytes, got 32"),
        (1, np.zeros(10), "zlib"),
    ],
)
def test_a_buffer_that_is_wrong_is_refused(
    buffer: int, values: np.ndarray[Any, Any], complaint: str
) -> None:
    message = encode(tracklet())
    message[buffer] = values.tobytes()
    with pytest.raises(MessageError, match=complaint):
        decode(message)


@pytest.mark.parametrize("extra", [-1, 1, 50_000_000])
def test_silhouettes_that_unpack_to_another_size_are_refused(extra: int) -> None:
    message = encode(tracklet())
    message[1] = zlib.compress(bytes(5 * 64 * 44 + extra))
    with pytest.raises(MessageError, match="exactly 14080 bytes"):
        decode(message)


def test_a_zip_bomb_costs_no_more_than_the_limit() -> None:
    message = encode(tracklet())
    message[1] = zlib.compress(bytes(100_000_000))
    huge = changed_header(message, "buffers.silhouettes.shape", [10**12, 64, 44])
    tracemalloc.start()
    try:
        for bomb in (message, huge):
            with pytest.raises(MessageError):
                decode(bomb, limit_bytes=_LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 2 * _LIMIT
    finally:
        tracemalloc.stop()


def test_what_a_stranger_wrote_is_not_repeated_at_length() -> None:
    message = changed_header(encode(tracklet()), "tracklet." + "x" * 5000, "y" * 5000)
    with pytest.raises(MessageError) as refused:
        decode(message)
    assert len(str(refused.value)) < 500


def attempt(message: list[bytes]) -> None:
    """Decode hostile bytes: a tracklet or `MessageError`, in bounded memory."""
    tracemalloc.start()
    try:
        with suppress(MessageError):
            decode(message, limit_bytes=_LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * _LIMIT


@_FUZZ
@given(frame=st.integers(0, 3), position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_crashes(frame: int, position: float, bit: int) -> None:
    message = encode(tracklet(20))
    damaged = bytearray(message[frame])
    damaged[int(position * len(damaged))] ^= 1 << bit
    message[frame] = bytes(damaged)
    attempt(message)


@_FUZZ
@given(frame=st.integers(0, 3), kept=st.floats(0, 1, exclude_max=True), frames=st.integers(0, 4))
def test_a_cut_message_is_always_refused(frame: int, kept: float, frames: int) -> None:
    message = encode(tracklet(20))
    message[frame] = message[frame][: int(kept * len(message[frame]))]
    for cut in (message, encode(tracklet(20))[:frames] if frames < 4 else message):
        with pytest.raises(MessageError):
            decode(cut, limit_bytes=_LIMIT)


@_FUZZ
@given(frames=st.lists(st.binary(max_size=300), max_size=6))
def test_random_bytes_are_always_refused(frames: list[bytes]) -> None:
    with pytest.raises(MessageError):
        decode(frames, limit_bytes=_LIMIT)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@_FUZZ
@given(
    path=st.sampled_from(
        [f"tracklet.{name}" for name in _FIELDS]
        + ["schema", "version", "tracklet", "buffers", "buffers.times_s", "buffers.times_s.shape"]
    ),
    value=_JSON,
)
def test_any_json_in_any_field_never_crashes(path: str, value: object) -> None:
    attempt(changed_header(encode(tracklet(20)), path, value))


def test_json_that_is_nested_deeply_or_long_is_refused() -> None:
    body = encode(tracklet())[1:]
    for header in (b"[" * 100_000, b'{"schema":' * 20_000, b"1" * 200_000, b" " * 10_000_000):
        with pytest.raises(MessageError):
            decode([header, *body])
