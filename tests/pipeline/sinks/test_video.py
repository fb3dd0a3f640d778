from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.sinks.drawing import UNKNOWN_RGB, identity_colour
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.recorder import Recorder
from pipeline.sinks.video import VideoConfig, annotate
from pipeline.values import Frame
from trackers.boxes import Tracks

Scene = Callable[..., tuple[Frame, Tracks, Any]]


def decode(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="bgr24")) for f in container.decode(video=0)]


def record(folder: ResultsFolder, scenes: Sequence[tuple[Frame, Tracks, Any]]) -> list[Frame]:
    with Recorder(folder, "hall") as recorder:
        for scene in scenes:
            recorder.write(*scene)
    return [frame for frame, _, _ in scenes]


def empty(hw: tuple[int, int], index: int, grey: int = 200) -> tuple[Frame, Tracks, Any]:
    image = np.full((*hw, 3), grey, dtype=np.uint8)
    return Frame(image, "hall", index, index / 10), Tracks(), ()


def test_every_frame_keeps_its_time_at_a_variable_frame_rate(
    folder: ResultsFolder, scene: Scene
) -> None:
    times = [0.0, 0.04, 0.1, 0.5, 0.51, 1.7, 1.74, 3.0]
    frames = record(folder, [scene(i, time_s=t) for i, t in enumerate(times)])
    video = annotate(frames, folder, "hall", {})
    assert video is not None
    assert (video.num_frames, video.start_s) == (8, 0.0)
    found = decode(video.path)
    np.testing.assert_allclose([t for t, _ in found], times, atol=1e-4)
    with av.open(str(video.path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        # the last frame stays as long as the one before it
        assert container.duration == pytest.approx((3.0 + 1.26) * av.time_base, rel=0.01)


def test_a_recording_watched_from_its_middle_begins_at_zero(
    folder: ResultsFolder, scene: Scene
) -> None:
    frames = record(folder, [scene(100 + i, time_s=10.0 + i / 10) for i in range(5)])
    video = annotate(frames, folder, "hall", {})
    assert video is not None
    assert video.start_s == 10.0
    times = [t for t, _ in decode(video.path)]
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.3, 0.4], atol=1e-4)


def test_frames_skipped_by_the_stride_are_not_shown(folder: ResultsFolder, scene: Scene) -> None:
    record(folder, [scene(i) for i in range(0, 12, 3)])
    progress: list[int] = []
    every = [scene(i)[0] for i in range(14)]
    video = annotate(every, folder, "hall", {}, on_progress=progress.append)
    assert video is not None
    np.testing.assert_allclose([t for t, _ in decode(video.path)], [0, 0.3, 0.6, 0.9], atol=1e-4)
    assert progress == [1, 2, 3, 4]


def test_boxes_masks_and_labels_are_drawn_in_the_identitys_colour(
    folder: ResultsFolder, scene: Scene
) -> None:
    frames = record(folder, [scene(i) for i in range(3)])
    video = annotate(frames, folder, "hall", {1: "person-003"}, config=VideoConfig(crf=5))
    assert video is not None
    _, drawn = decode(video.path)[1]
    plain = frames[1].image
    left, top, right, bottom = (round(v) for v in scene(1)[1].xyxy[0].tolist())
    rgb = np.array(identity_colour("person-003"), dtype=float)

    def towards(colour: np.ndarray, y: int, x: int) -> bool:
        """The pixel is nearer to the colour than it was; H.264 halves the colours' resolution."""
        patch = np.s_[y - 1 : y + 2, x - 1 : x + 2]
        before = np.abs(plain[patch][..., ::-1].mean(axis=(0, 1)) - colour).sum()
        return bool(np.abs(drawn[patch][..., ::-1].mean(axis=(0, 1)) - colour).sum() < before - 20)

    assert towards(rgb, (top + bottom) // 2, left)
    assert towards(rgb, top + 35, (left + right) // 2)
    unknown_left = round(float(scene(1)[1].xyxy[1, 0]))
    assert towards(np.array(UNKNOWN_RGB, dtype=float), 80, unknown_left)
    untouched = np.s_[60:100, right + 8 : unknown_left - 8]
    assert np.abs(drawn[untouched].astype(int) - plain[untouched]).max() < 12


@pytest.mark.parametrize(
    ("hw", "expected"),
    [((145, 193), (146, 194)), ((16, 16), (16, 16)), ((1, 1), (2, 2)), ((1080, 3840), (540, 1920))],
)
def test_any_size_becomes_an_even_one_of_at_most_1920(
    folder: ResultsFolder, scene: Scene, hw: tuple[int, int], expected: tuple[int, int]
) -> None:
    frame = Frame(np.full((*hw, 3), 200, dtype=np.uint8), "hall", 0, 0.0)
    _, tracks, masks = scene(0)
    with Recorder(folder, "hall") as recorder:
        recorder.write(frame, tracks, masks)
    video = annotate([frame], folder, "hall", {1: "somebody with a very long name indeed"})
    assert video is not None
    assert decode(video.path)[0][1].shape[:2] == expected


def test_a_change_of_size_is_fitted_into_the_first_with_bars(folder: ResultsFolder) -> None:
    frames = record(folder, [empty((120, 160), 0), empty((320, 120), 1)])
    video = annotate(frames, folder, "hall", {})
    assert video is not None
    _, second = decode(video.path)[1]
    assert second.shape == (120, 160, 3)
    columns = second[:90].mean(axis=(0, 2))
    np.testing.assert_allclose(columns[60:100], 200, atol=12)  # 120 x 320 became 45 x 120
    assert columns[:50].max() < 20
    assert columns[110:].max() < 20


def test_without_any_recorded_frame_there_is_no_video(folder: ResultsFolder, scene: Scene) -> None:
    record(folder, [])
    assert annotate([scene(0)[0]], folder, "hall", {}) is None
    assert not folder.stream("hall").video.exists()


def test_a_failure_while_decoding_leaves_no_video_and_no_rest(
    folder: ResultsFolder, scene: Scene
) -> None:
    frames = record(folder, [scene(i) for i in range(5)])

    def breaking() -> Iterator[Frame]:
        yield from frames[:3]
        raise RuntimeError("torn tape")

    with pytest.raises(RuntimeError, match="torn tape"):
        annotate(breaking(), folder, "hall", {})
    files = sorted(p.name for p in folder.stream("hall").path.iterdir() if p.is_file())
    assert files == ["masks.jsonl", "tracks.mot.txt"]


FILL = """
import resource, sys
from pathlib import Path
import numpy as np
from pipeline.errors import OutputError
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.video import annotate
from pipeline.values import Frame
rng = np.random.default_rng(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
frames = (
    Frame(rng.integers(0, 255, (144, 192, 3), dtype=np.uint8), "hall", i, i / 10) for i in range(60)
)
try:
    annotate(frames, ResultsFolder(Path(sys.argv[1])), "hall", {})
except OutputError as error:
    print(error)
"""


def test_a_disk_that_fills_up_under_the_video_is_said_in_words(
    folder: ResultsFolder, scene: Scene
) -> None:
    record(folder, [scene(i) for i in range(60)])
    result = subprocess.run(
        [sys.executable, "-c", FILL, str(folder.path)], capture_output=True, text=True, check=True
    )
    assert "annotated.mp4: the file would grow beyond what is allowed" in result.stdout
    assert "60 frames of tracks" in result.stdout
    files = sorted(p.name for p in folder.stream("hall").path.iterdir() if p.is_file())
    assert files == ["masks.jsonl", "tracks.mot.txt"]


def test_colours_are_stable_and_neighbours_differ() -> None:
    assert identity_colour("person-001") == identity_colour("person-001")
    assert identity_colour(None) == UNKNOWN_RGB
    colours = np.array([identity_colour(f"person-{i:03d}") for i in range(12)], dtype=float)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 999 * np.eye(12)
    assert apart.min() > 40
