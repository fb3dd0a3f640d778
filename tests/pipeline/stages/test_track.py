import numpy as np

from pipeline.stages.track import StreamTrackers
from pipeline.values import Frame
from trackers.boxes import Detections, Mask
from trackers.bytetrack import ByteTrack

HW = (240, 320)


def frame(index, *, stream="cam", epoch=0, fps=10.0):
    return Frame(np.zeros((*HW, 3), np.uint8), stream, index, index / fps, epoch)


def person_at(x, masks=None):
    box = np.array([[x, 50, x + 40, 150]], np.float32)
    return Detections(box, np.array([0.9], np.float32), masks)


def follow(trackers, indices, **where):
    tracks = []
    for index in indices:
        tracks += trackers.update([frame(index, **where)], [person_at(100 + index)])
    return tracks


def ids(tracks):
    return {i for t in tracks for i in t.track_ids.tolist()}


def test_each_stream_has_a_tracker_of_its_own():
    trackers = StreamTrackers(ByteTrack)
    both = [
        trackers.update(
            [frame(i, stream="a"), frame(i, stream="b")], [person_at(100), person_at(200)]
        )
        for i in range(10)
    ]
    a, b = zip(*both, strict=True)
    assert len(ids(a)) == len(ids(b)) == 1
    np.testing.assert_allclose(b[-1].xyxy[0, 0], 200, atol=1)


def test_a_new_epoch_ends_everybody_and_never_reuses_an_id():
    trackers = StreamTrackers(ByteTrack)
    before = ids(follow(trackers, range(10)))
    after = follow(trackers, range(10, 20), epoch=1)
    assert before
    assert before <= set(after[0].ended)
    assert ids(after)
    assert not before & ids(after)


def test_a_stream_that_is_over_forgets_its_tracker():
    trackers = StreamTrackers(ByteTrack)
    seen = ids(follow(trackers, range(10)))
    assert seen <= set(trackers.finish("cam"))
    assert trackers.finish("cam") == ()


def test_a_stream_of_the_same_name_as_one_that_is_over_counts_on():
    trackers = StreamTrackers(ByteTrack)
    before = ids(follow(trackers, range(10)))
    trackers.finish("cam")
    after = follow(trackers, range(10))
    assert before
    assert ids(after)
    assert not before & ids(after)
    assert [t.ended for t in after] == [()] * 10


def test_the_detector_s_masks_follow_their_boxes_into_the_tracks():
    trackers = StreamTrackers(ByteTrack)
    left, right = (Mask(np.ones((4, n), np.bool_), 0, 0) for n in (3, 5))
    boxes = np.array([[20, 50, 60, 150], [200, 50, 240, 150]], np.float32)
    for index in range(5):
        order = [0, 1] if index % 2 else [1, 0]
        masks = tuple((left, right)[i] for i in order)
        found = Detections(boxes[order], np.full(2, 0.9, np.float32), masks)
        (tracks,) = trackers.update([frame(index)], [found])
    assert tracks.masks is not None
    by_x = dict(zip(tracks.xyxy[:, 0].round(-1).tolist(), tracks.masks, strict=True))
    assert by_x == {20.0: left, 200.0: right}
