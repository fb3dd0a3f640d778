from __future__ import annotations

import threading
import time
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gait.tracklet import Tracklet
from pipeline.errors import LinkError
from pipeline.transport.local import Link
from pipeline.transport.superseding import SupersedingQueue

_WITHIN_S = 20.0  # a moment where nobody else wants the processor


def tracklet(
    track_id: int = 0,
    first: int = 0,
    length: int = 2,
    *,
    offset: int = 0,
    is_last: bool = False,
    **more: object,
) -> Tracklet:
    """Silhouettes that show their frame's number."""
    indices = np.arange(first, first + length)
    silhouettes = np.broadcast_to((indices % 251).astype(np.uint8)[:, None, None], (length, 64, 44))
    return Tracklet(
        stream="door",
        track_id=track_id,
        silhouettes=silhouettes.copy(),
        frame_indices=indices.astype(np.int64),
        times_s=indices / 10,
        seen_s=(0.0, (first + length) / 10),
        offset=offset,
        is_last=is_last,
        **more,  # type: ignore[arg-type]
    )


def frames(tracklets: list[Tracklet]) -> list[tuple[int, int, int]]:
    """Track, first frame and length of each."""
    return [(t.track_id, int(t.frame_indices[0]) if len(t) else -1, len(t)) for t in tracklets]


def test_what_is_put_comes_in_order_while_there_is_room() -> None:
    queue = SupersedingQueue(10, batch=4)
    queue.put([tracklet(n) for n in range(6)])
    assert queue.depth == 6
    assert [t.track_id for t in queue.get(0)] == [0, 1, 2, 3]
    assert [t.track_id for t in queue.get(0)] == [4, 5]
    assert queue.get(0) == []
    assert queue.num_bytes == 0
    assert (queue.counts.put, queue.counts.got) == (6, 6)


def test_a_window_gives_way_to_a_newer_one_of_its_track_first() -> None:
    queue = SupersedingQueue(3)
    queue.put([tracklet(1), tracklet(2), tracklet(3), tracklet(2, 30)])
    assert frames(queue.get(0)) == [(1, 0, 2), (3, 0, 2), (2, 30, 2)]
    assert queue.counts.superseded == 1


def test_without_a_newer_one_the_oldest_goes_that_is_not_its_tracks_last() -> None:
    queue = SupersedingQueue(3)
    queue.put([tracklet(1, is_last=True), tracklet(2), tracklet(3), tracklet(4)])
    assert frames(queue.get(0)) == [(1, 0, 2), (3, 0, 2), (4, 0, 2)]
    assert queue.counts.dropped == 1


def test_a_windows_reasons_and_companions_are_told_by_the_one_that_supersedes_it() -> None:
    queue = SupersedingQueue(1)
    queue.put([tracklet(1, reasons=(("edge", 2), ("small", 1)), companions=(7, 9))])
    queue.put([tracklet(1, 30, reasons=(("edge", 3),), companions=(8, 9))])
    [one] = queue.get(0)
    assert one.reasons == (("edge", 5), ("small", 1))
    assert one.companions == (7, 8, 9)
    assert one.seen_s == (0.0, 3.2)


def test_pieces_of_one_walk_become_one_piece_and_nothing_is_lost() -> None:
    queue = SupersedingQueue(2)
    pieces = [tracklet(1, 0, 3), tracklet(1, 3, 4, offset=3), tracklet(1, 9, 2, offset=7)]
    queue.put([tracklet(5), *pieces])
    other, walk = queue.get(0)
    assert other.track_id == 5
    assert walk.offset == 0
    assert walk.frame_indices.tolist() == [0, 1, 2, 3, 4, 5, 6, 9, 10]
    np.testing.assert_array_equal(walk.silhouettes[:, 0, 0], walk.frame_indices)
    np.testing.assert_allclose(walk.times_s, walk.frame_indices / 10)
    assert queue.counts.merged == 2
    assert queue.counts.dropped == queue.counts.superseded == 0


def test_a_merged_piece_begins_where_the_first_did_and_ends_where_the_last_did() -> None:
    near, middle, far = (0.0, 0.0, 9.0, 9.0), (1.0, 0.0, 9.0, 9.0), (2.0, 0.0, 9.0, 9.0)
    queue = SupersedingQueue(1)
    end = tracklet(1, 0, 0, quality=0.0, is_last=True)
    later = tracklet(1, 3, 1, offset=3, boxes=(middle, far))
    queue.put([tracklet(1, 0, 3, boxes=(near, middle)), later, end])
    assert queue.get(0)[0].boxes == (near, far)


def test_a_merged_pieces_quality_is_the_mean_over_silhouettes() -> None:
    queue = SupersedingQueue(1)
    queue.put([tracklet(1, 0, 3, quality=0.4), tracklet(1, 3, 1, offset=3, quality=0.8)])
    assert queue.get(0)[0].quality == pytest.approx(0.5)


def test_an_empty_end_joins_the_window_before_it() -> None:
    queue = SupersedingQueue(1)
    queue.put([tracklet(1, 5, 2), tracklet(1, 0, 0, quality=0.0, is_last=True)])
    [one] = queue.get(0)
    assert (len(one), one.is_last, one.uid) == (2, True, "door/1/5")


def test_a_walk_is_cut_where_bytes_run_out() -> None:
    pieces = [tracklet(1, 10 * n, 10, offset=10 * n) for n in range(4)]
    queue = SupersedingQueue(100, max_bytes=70_000)
    queue.put(pieces)
    assert [t.offset for t in queue.get(0)] == [20, 30]
    assert queue.counts.dropped == 2


def test_a_piece_never_supersedes_the_piece_it_continues() -> None:
    queue = SupersedingQueue(100, max_bytes=70_000)
    queue.put([tracklet(1, 0, 10), tracklet(1, 10, 10, offset=10), tracklet(2, is_last=True)])
    assert [t.offset for t in queue.get(0)] == [0, 10, 0]


def test_ends_come_whatever_the_capacity_and_lose_their_silhouettes_last() -> None:
    queue = SupersedingQueue(2, max_bytes=50_000)
    queue.put([tracklet(n, length=10, is_last=True) for n in range(10)])
    queue.put([tracklet(99)])
    ends = queue.get(0)
    assert [t.track_id for t in ends] == list(range(10))
    assert all(t.is_last for t in ends)
    assert [len(t) for t in ends] == [0] * 9 + [10]
    assert queue.counts.emptied == 9
    assert queue.counts.dropped == 1


def test_even_ends_are_bounded_when_nobody_takes_them(caplog: pytest.LogCaptureFixture) -> None:
    queue = SupersedingQueue(2, max_bytes=50_000)
    queue.put([tracklet(n, is_last=True) for n in range(100)])
    assert queue.num_bytes <= 50_000
    counts = queue.counts
    assert counts.lost_ends == counts.dropped == 100 - queue.depth
    assert "nobody takes tracklets" in caplog.text


def test_a_tracklet_larger_than_the_memory_does_not_stay() -> None:
    queue = SupersedingQueue(2, max_bytes=10_000)
    queue.put([tracklet(1, length=100)])
    assert queue.depth == queue.num_bytes == 0
    queue.put([tracklet(1, length=100, is_last=True)])
    assert frames(queue.get(0)) == [(1, -1, 0)]


def test_a_track_of_the_same_name_after_the_end_is_another() -> None:
    queue = SupersedingQueue(2)
    queue.put([tracklet(1, is_last=True), tracklet(1, 30), tracklet(1, 60, is_last=True)])
    assert frames(queue.get(0)) == [(1, 0, 2), (1, 60, 2)]


def test_the_age_is_that_of_the_oldest() -> None:
    now = [10.0]
    queue = SupersedingQueue(10, batch=1, clock=lambda: now[0])
    assert queue.age_s == 0.0
    queue.put([tracklet(1)])
    now[0] = 12.0
    queue.put([tracklet(2)])
    assert queue.age_s == 2.0
    queue.get(0)
    assert queue.age_s == 0.0


def test_a_get_waits_no_longer_than_it_may() -> None:
    start = time.monotonic()
    assert SupersedingQueue(1).get(timeout_s=0.05) == []
    assert 0.05 <= time.monotonic() - start < _WITHIN_S


def test_closing_wakes_who_waits_and_keeps_what_was_put() -> None:
    queue = SupersedingQueue(4)
    received: list[list[Tracklet]] = []
    receiver = threading.Thread(target=lambda: received.append(queue.get()))
    receiver.start()
    time.sleep(0.02)
    queue.close()
    queue.close()
    receiver.join(_WITHIN_S)
    assert received == [[]]
    assert queue.is_over

    full = SupersedingQueue(4)
    full.put([tracklet(1)])
    full.close()
    assert not full.is_over
    with pytest.raises(LinkError, match="closed"):
        full.put([tracklet(2)])
    assert len(full.get()) == 1
    assert full.is_over


def test_a_failure_on_either_side_reaches_the_other() -> None:
    queue = SupersedingQueue(4)
    queue.put([tracklet(1)])
    queue.fail(RuntimeError("encoder broke"))
    queue.fail(RuntimeError("and this followed from it"))
    with pytest.raises(RuntimeError, match="encoder broke"):
        queue.put([tracklet(2)])
    assert len(queue.get()) == 1
    assert not queue.is_over  # so that whoever asks gets to hear of the error
    with pytest.raises(RuntimeError, match="encoder broke"):
        queue.get()


def test_it_is_a_link() -> None:
    link: Link = SupersedingQueue(4)
    link.send([tracklet(1)])
    link.close()
    assert len(link.receive()) == 1
    assert link.receive() == []


def test_a_sender_never_waits_for_a_receiver_that_sleeps() -> None:
    queue = SupersedingQueue(64)
    longest_s = 0.0
    for n in range(500):
        start = time.perf_counter()
        queue.put([tracklet(n % 20, n)])
        longest_s = max(longest_s, time.perf_counter() - start)
    assert queue.depth == 64
    assert longest_s < _WITHIN_S


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"batch": 0}, {"max_bytes": 0}])
def test_a_queue_without_room_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        SupersedingQueue(**wrong)


class Tracks:
    """Makes what assemblers make: windows, or walks that grow and break, each with one end."""

    def __init__(self, *, is_streaming: bool) -> None:
        self._is_streaming = is_streaming
        self._next_frame: dict[int, int] = defaultdict(int)
        self._sent: dict[int, int] = defaultdict(int)
        self._generation: dict[int, int] = defaultdict(int)

    def make(self, slot: int, length: int, what: str) -> Tracklet:
        track_id = 10 * self._generation[slot] + slot
        if what == "break":
            self._sent[track_id] = 0
        offset = self._sent[track_id] if self._is_streaming else 0
        first = self._next_frame[slot]
        made = tracklet(track_id, first, length, offset=offset, is_last=what == "end")
        self._next_frame[slot] += length + 1
        self._sent[track_id] += length
        self._generation[slot] += what == "end"
        return made


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 12),
        st.sampled_from(["more", "more", "more", "break", "end", "get"]),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=150)
@given(
    steps=STEPS,
    capacity=st.integers(1, 6),
    max_bytes=st.sampled_from([60_000, 150_000, 10_000_000]),
    is_streaming=st.booleans(),
)
def test_whatever_comes_ends_arrive_in_order_within_bounds_and_counts_add_up(
    steps: list[tuple[int, int, str]], capacity: int, max_bytes: int, is_streaming: bool
) -> None:
    queue = SupersedingQueue(capacity, batch=3, max_bytes=max_bytes)
    tracks = Tracks(is_streaming=is_streaming)
    put: list[Tracklet] = []
    got: list[Tracklet] = []
    for slot, length, what in steps:
        if what == "get":
            got += queue.get(0)
        else:
            put.append(tracks.make(slot, length, what))
            queue.put(put[-1:])
        counts = queue.counts
        assert queue.num_bytes <= max_bytes
        num_ends = sum(t.is_last for t in put) - sum(t.is_last for t in got)
        assert queue.depth <= max(capacity, num_ends)
        assert counts.put == len(put)
        gone = counts.superseded + counts.dropped + counts.merged
        assert counts.put == counts.got + gone + queue.depth
    queue.close()
    while not queue.is_over:
        got += queue.get()
    assert queue.num_bytes == 0
    _check_lossless_of_ends(put, got, lost_ends=queue.counts.lost_ends)
    _check_order_and_pixels(put, got)
    if queue.counts.merged == len(put) - len(got) and queue.counts.emptied == 0:
        assert _silhouettes(got) == _silhouettes(put)  # merging alone loses nothing


def _check_lossless_of_ends(put: list[Tracklet], got: list[Tracklet], lost_ends: int) -> None:
    ends = {t.track_id for t in put if t.is_last}
    arrived = [t.track_id for t in got if t.is_last]
    assert len(arrived) == len(set(arrived))
    assert set(arrived) <= ends
    assert len(ends) - len(arrived) == lost_ends


def _check_order_and_pixels(put: list[Tracklet], got: list[Tracklet]) -> None:
    known = {(t.track_id, int(i)) for t in put for i in t.frame_indices}
    last: dict[int, int] = defaultdict(lambda: -1)
    ended: set[int] = set()
    for t in got:
        assert t.track_id not in ended
        ended |= {t.track_id} if t.is_last else set()
        for index in t.frame_indices.tolist():
            assert index > last[t.track_id]
            assert (t.track_id, index) in known
            last[t.track_id] = index
        np.testing.assert_array_equal(t.silhouettes[:, 0, 0], t.frame_indices % 251)


def _silhouettes(tracklets: list[Tracklet]) -> set[tuple[int, int]]:
    return {(t.track_id, int(i)) for t in tracklets for i in t.frame_indices}
