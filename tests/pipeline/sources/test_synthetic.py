from __future__ import annotations

import numpy as np

from pipeline.sources.source import ReadConfig, Source
from pipeline.sources.synthetic import SyntheticSource, Walker


def test_walkers_are_where_the_boxes_say() -> None:
    walkers = (
        Walker((10, 20, 30, 70), (4, 0)),
        Walker((100, 40, 120, 100), (-3.5, 1), (0, 0, 255)),
    )
    source: Source = SyntheticSource(walkers=walkers, num_frames=10)
    with source as opened:
        for frame in opened:
            assert isinstance(opened, SyntheticSource)
            for walker, box in zip(walkers, opened.boxes(frame.index), strict=True):
                drawn = np.argwhere((frame.image == walker.colour).all(axis=2))
                (y0, x0), (y1, x1) = drawn.min(axis=0), drawn.max(axis=0) + 1
                assert [x0, y0, x1, y1] == box.tolist()


def test_the_same_arguments_draw_the_same_frames_at_the_same_times() -> None:
    first, second = (list(SyntheticSource(num_frames=5, fps=10.0)) for _ in range(2))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert [f.time_s for f in first] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_it_obeys_the_reading_range_and_may_be_empty_of_people() -> None:
    read = ReadConfig(start_s=0.2, stride=5, max_frames=3)
    with SyntheticSource("yard", walkers=(), read=read) as source:
        assert [(f.stream, f.index) for f in source] == [("yard", 5), ("yard", 10), ("yard", 15)]
        assert source.boxes(0).shape == (0, 4)
