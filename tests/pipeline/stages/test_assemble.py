import numpy as np
import pytest
from pydantic import ValidationError

from gait.encoder import MAX_FRAMES
from gait.silhouette import SilhouetteLimits, cut, normalise
from pipeline.stages.assemble import (
    Assembler,
    AssemblerConfig,
    Assemblers,
    LimitsConfig,
    nearer_overlap,
)
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

FRAME_HW = (240, 320)


def person(height=96, width=40):
    """A standing figure: head, trunk, two legs."""
    rows, columns = np.mgrid[:height, :width]
    trunk = (rows < height * 0.55) & (abs(columns - width / 2) < width * 0.3)
    legs = (rows >= height * 0.55) & (abs(abs(columns - width / 2) - width * 0.2) < width * 0.12)
    return trunk | legs


def frame(index, fps=10.0, stream="cam"):
    return Frame(np.zeros((*FRAME_HW, 3), np.uint8), stream, index, index / fps)


def tracks_of(*boxes, ids=None, ended=()):
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(xyxy)
    ids = np.arange(n) if ids is None else np.array(ids)
    ones = np.ones(n, np.float32)
    return Tracks(ids.astype(np.int64), xyxy, ones, np.arange(n, dtype=np.int64), ended)


BOX = (100.0, 60.0, 140.0, 156.0)


def walk(assembler, indices, *, pixels=None, ended_after=False):
    """Show one person in the frames of `indices`; return the tracklets that come out."""
    mask = Mask(person() if pixels is None else pixels, 100, 60)
    tracklets = []
    for index in indices:
        tracklets += assembler.collect(frame(index), tracks_of(BOX), [mask])
    if ended_after:
        tracklets += assembler.collect(frame(max(indices) + 1), tracks_of(ended=(0,)), [])
    return tracklets


def config(**changes):
    return AssemblerConfig(**{"window": 30, "stride": 30, "min_length": 15, **changes})


def test_a_window_is_emitted_when_it_is_full_and_holds_consecutive_frames():
    tracklets = walk(Assembler("cam", config()), range(30))
    assert [t.frame_indices.tolist() for t in tracklets] == [list(range(30))]
    assert tracklets[0].silhouettes.shape == (30, 64, 44)
    assert not tracklets[0].is_last


def test_a_tracklet_tells_where_its_first_and_its_last_silhouette_were():
    assembler, mask = Assembler("cam", config()), Mask(person(), 100, 60)
    tracklets = []
    for index in range(35):
        box = (100.0 + index, 60.0, 140.0 + index, 156.0)
        tracklets += assembler.collect(frame(index), tracks_of(box), [mask])
    tracklets += assembler.collect(frame(35), tracks_of(ended=(0,)), [])
    assert tracklets[0].boxes == ((100.0, 60.0, 140.0, 156.0), (129.0, 60.0, 169.0, 156.0))
    assert tracklets[-1].boxes is None, "no silhouettes, no places"


def test_windows_overlap_by_what_the_stride_leaves():
    tracklets = walk(Assembler("cam", config(stride=10)), range(50))
    assert [(t.frame_indices[0], t.frame_indices[-1]) for t in tracklets] == [
        (0, 29),
        (10, 39),
        (20, 49),
    ]


def test_the_end_of_a_track_emits_what_is_left_once_and_says_that_it_is_the_last():
    tracklets = walk(Assembler("cam", config()), range(50), ended_after=True)
    assert [len(t) for t in tracklets] == [30, 20]
    assert [t.is_last for t in tracklets] == [False, True]
    assert tracklets[1].frame_indices.tolist() == list(range(30, 50))


def test_a_leftover_that_is_too_short_is_not_emitted_but_the_end_is_told():
    tracklets = walk(Assembler("cam", config()), range(40), ended_after=True)
    assert [(len(t), t.is_last) for t in tracklets] == [(30, False), (0, True)]
    assert tracklets[1].seen_s == (0.0, 3.9)


def test_no_silhouette_is_emitted_twice_when_stride_is_window():
    tracklets = walk(Assembler("cam", config()), range(137), ended_after=True)
    indices = np.concatenate([t.frame_indices for t in tracklets])
    assert len(set(indices.tolist())) == len(indices)


def test_a_gap_longer_than_allowed_breaks_the_walk_and_a_shorter_one_does_not():
    short_gap = [*range(10), *range(14, 34)]  # 0.5 s at 10 fps
    assert [len(t) for t in walk(Assembler("cam", config()), short_gap)] == [30]
    long_gap = [*range(20), *range(26, 56)]  # 0.7 s
    tracklets = walk(Assembler("cam", config()), long_gap)
    assert [t.frame_indices[[0, -1]].tolist() for t in tracklets] == [[0, 19], [26, 55]]
    assert not any(t.is_last for t in tracklets)


def test_the_end_of_the_file_ends_every_track():
    assemblers = Assemblers(config())
    mask = Mask(person(), 100, 60)
    for index in range(20):
        both = tracks_of(BOX, (200, 60, 240, 156), ids=(3, 8))
        assert not assemblers.collect([frame(index)], [both], [(mask, Mask(person(), 200, 60))])
    last = assemblers.finish("cam")
    assert [(t.track_id, len(t), t.is_last) for t in last] == [(3, 20, True), (8, 20, True)]
    assert assemblers.finish("cam") == []


def test_frames_that_cannot_be_used_are_counted_with_their_reasons():
    assembler = Assembler("cam", config(min_length=1))
    for index in range(4):
        list(assembler.collect(frame(index), tracks_of(BOX), [None]))
    at_edge = Mask(person(), -8, 60)
    list(assembler.collect(frame(4), tracks_of((0, 60, 40, 156)), [at_edge]))
    (last,) = assembler.finish()
    assert last.reasons == (("no_mask", 4), ("touches_edge", 1))
    assert len(last) == 0
    assert last.quality == 0


def test_a_person_behind_another_is_occluded_and_the_one_in_front_is_not():
    assembler = Assembler("cam", config(min_length=1))
    behind, front = BOX, (105, 70, 145, 166)
    masks = [Mask(person(), 100, 60), Mask(person(), 105, 70)]
    list(assembler.collect(frame(0), tracks_of(behind, front), masks))
    first, second = assembler.finish()
    assert first.reasons == (("occluded", 1),)
    assert len(second) == 1


def test_overlap_is_the_share_hidden_by_the_nearest_cover():
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15], [50, 50, 60, 60]], np.float32)
    np.testing.assert_allclose(nearer_overlap(boxes), [0.5, 0.0, 0.0])
    assert nearer_overlap(np.empty((0, 4), np.float32)).shape == (0,)


def test_the_live_silhouette_is_the_one_a_data_set_holds_for_the_same_mask():
    pixels = person(97, 41)
    tracklets = walk(Assembler("cam", config(window=1, stride=1, min_length=1)), [0], pixels=pixels)
    as_png = np.zeros(FRAME_HW, np.uint8)  # how a data set stores the mask: the whole frame
    as_png[60 : 60 + 97, 100 : 100 + 41][pixels] = 255
    np.testing.assert_array_equal(tracklets[0].silhouettes, cut(normalise(as_png)[None]))


def test_a_tracklet_names_who_was_seen_in_one_frame_with_its_track():
    assembler = Assembler("cam", config())
    box, other = BOX, (200, 60, 240, 156)
    mask, other_mask = Mask(person(), 100, 60), Mask(person(), 200, 60)
    shown = []
    for index in range(60):
        if index < 5:  # 7 is there at first, without a mask
            tracks, masks = tracks_of(box, other, ids=(3, 7)), [mask, None]
        elif index < 50:
            tracks, masks = tracks_of(box, ids=(3,)), [mask]
        else:
            tracks, masks = tracks_of(box, other, ids=(3, 9)), [mask, other_mask]
        shown += assembler.collect(frame(index), tracks, masks)
    assert [(t.track_id, t.companions) for t in shown] == [(3, (7,)), (3, (9,))]
    assert {t.track_id: t.companions for t in assembler.finish()} == {3: (), 7: (3,), 9: (3,)}


def test_state_does_not_grow_with_the_length_of_a_track():
    assembler = Assembler("cam", config())
    walk(assembler, range(500))
    (track,) = assembler._tracks.values()
    assert len(track.walk) == 30
    assert len(track.areas) <= 9


def test_the_configured_limits_are_those_of_the_silhouette_module():
    assert LimitsConfig().build() == SilhouetteLimits()


def test_a_leftover_longer_than_a_window_is_refused():
    with pytest.raises(ValidationError, match="min_length must not exceed window: got 40 and 30"):
        AssemblerConfig(window=30, min_length=40)


def streaming(**changes):
    return Assembler("cam", config(**changes), is_streaming=True)


def spans(tracklets):
    """Offset, first and last frame of each."""
    return [(t.offset, *t.frame_indices[[0, -1]].tolist()) for t in tracklets if len(t)]


def test_a_streaming_assembler_sends_each_silhouette_once_and_says_how_many_came_before():
    tracklets = walk(streaming(stride=8), range(50), ended_after=True)
    assert spans(tracklets) == [(0, 0, 29), (30, 30, 37), (38, 38, 45), (46, 46, 49)]
    assert [t.is_last for t in tracklets] == [False, False, False, True]
    assert len({t.uid for t in tracklets}) == 4


def test_windows_say_that_nothing_came_before():
    tracklets = walk(Assembler("cam", config(stride=8)), range(50), ended_after=True)
    assert {t.offset for t in tracklets} == {0}


def test_streaming_or_not_the_first_tracklet_and_the_moments_of_all_are_the_same():
    def moments(assembler):
        return [i for i in range(120) if walk(assembler, [i])]

    for sizes in ({"stride": 8}, {"stride": 30}, {"stride": 47}, {"window": 64, "stride": 1}):
        windows = moments(Assembler("cam", config(**sizes)))
        assert moments(streaming(**sizes)) == windows


def test_a_gap_begins_a_new_walk_also_right_after_a_tracklet():
    for before in (38, 41):  # the second leaves three silhouettes over, which are sent
        indices = [*range(before), *range(before + 6, before + 36)]
        tracklets = walk(streaming(stride=8), indices)
        begins = [t for t in tracklets if t.offset == 0]
        assert [t.frame_indices[0] for t in begins] == [0, before + 6]
        sent = np.concatenate([t.frame_indices for t in tracklets])
        assert sent.tolist() == indices


def test_a_walk_too_short_for_a_tracklet_yields_nothing_when_streaming_either():
    tracklets = walk(streaming(), range(10), ended_after=True)
    assert [(len(t), t.is_last) for t in tracklets] == [(0, True)]
    tracklets = walk(streaming(), range(20), ended_after=True)
    assert [(len(t), t.is_last) for t in tracklets] == [(20, True)]


def test_a_walk_begins_anew_after_what_the_encoder_takes_of_one():
    assembler = streaming(window=100, stride=100)
    tracklets = walk(assembler, range(MAX_FRAMES + 130), ended_after=True)
    assert [(t.offset, len(t)) for t in tracklets] == [
        *((offset, 100) for offset in range(0, 700, 100)), (700, 20), (0, 100), (100, 30),
    ]  # fmt: skip
    sent = np.concatenate([t.frame_indices for t in tracklets])
    assert sent.tolist() == list(range(MAX_FRAMES + 130))


def test_streaming_is_chosen_when_it_costs_the_encoder_less_unless_told():
    def streams(tail=15.1, **changes):
        return config(**changes).streams(tail)

    assert not config().streams(0.0)  # the default: no silhouette is embedded twice
    assert streams(window=64, stride=8)
    assert not streams(window=23, stride=8)
    assert streams(window=24, stride=8)
    assert streams(window=23, stride=8, tail=4.2)
    assert streams(mode="streaming")
    assert not streams(mode="windows", window=64, stride=8)


def test_the_state_of_a_streaming_assembler_does_not_grow_with_a_track():
    assembler = streaming(stride=8)
    walk(assembler, range(500))
    (track,) = assembler._tracks.values()
    assert len(track.walk) < 8
