from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest

from pipeline.sinks.drawing import Canvas
from pipeline.sinks.encoder import CODECS, Encoding, PictureEncoder, best_codec, encodes

CANVAS = Canvas(64, 48)


def encode(encoding: Encoding, times_s: list[float]) -> list[Any]:
    file = io.BytesIO()
    container = av.open(file, "w", format="matroska")
    with PictureEncoder(container, CANVAS, encoding) as encoder:
        for time_s in times_s:
            encoder.add(np.zeros((48, 64, 3), np.uint8), time_s)
    file.seek(0)
    with av.open(file, "r") as read:
        return [packet for packet in read.demux(video=0) if packet.size]


def test_a_picture_that_needs_no_other_comes_as_often_as_asked() -> None:
    times_s = [index / 10 for index in range(60)]
    keys = [p.is_keyframe for p in encode(Encoding(key_s=2.0), times_s)]
    assert [index for index, is_key in enumerate(keys) if is_key] == [0, 20, 40]


def test_a_time_that_does_not_rise_is_moved_on() -> None:
    packets = encode(Encoding(), [0.0, 0.5, 0.2, 1.0])
    times_s = [float(p.pts * p.time_base) for p in packets if p.pts is not None]
    assert times_s == sorted(times_s)
    assert len(times_s) == 4


def test_a_live_picture_leaves_the_encoder_at_once() -> None:
    file = io.BytesIO()
    with PictureEncoder(av.open(file, "w", format="h264"), CANVAS, Encoding(is_live=True)) as each:
        for index in range(3):
            written = file.tell()
            each.add(np.zeros((48, 64, 3), np.uint8), index / 10)
            assert file.tell() > written


def test_the_best_encoder_is_one_that_works_and_mpeg4_always_does() -> None:
    assert encodes("mpeg4")
    assert not encodes("no-such-encoder")
    assert best_codec() == next(codec for codec in CODECS if encodes(codec))


def test_an_encoder_that_is_not_there_is_an_error_of_writing() -> None:
    with pytest.raises((OSError, ValueError)):
        PictureEncoder(av.open(io.BytesIO(), "w", format="mp4"), CANVAS, Encoding("nonsense"))
