"""Boxes over time: multi-object trackers on numpy and scipy that never see an image.

    from trackers.boxes import Detections
    from trackers.bytetrack import ByteTrack

    tracker = ByteTrack(lost_s=3.0)
    for boxes, confidence in frames:  # (N, 4) pixels and (N,) in 0..1, both float32
        tracks = tracker.update(Detections(boxes, confidence), interval_s=1 / 25)
        print(tracks.track_ids, tracks.xyxy, tracks.ended)
    tracker.finish()

`sort`, `bytetrack`, `ocsort` and `botsort` hold an algorithm each, `deepsort` an adapter, and
`boxes` what goes in and comes out; `table`, `kalman`, `association`, `camera` and `saved` are what
they share.
"""
