"""What the live benchmark does with what it was told, and the table."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.servers import numbered
from tests.servers.numbered import SentLog

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    name = "bench_live"
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def seen(**more: Any) -> dict[str, Any]:
    """Return what a contender says of two cameras, a picture of each in time."""
    return {
        "began_s": 100.0,
        "ended_s": 101.0,
        "tracked": [("a", 0, 100.25), ("b", 0, 100.4), ("b", 1, 101.5)],
        "done": [],
        "sighting_s": [],
        "stages_ms": {},
        "people": 2.0,
        "cores": 0.5,
        "rss_mb": 300.0,
        "description": "a network",
    } | more


@pytest.fixture
def log(tmp_path: Path) -> SentLog:
    path = tmp_path / "sent.log"
    path.write_text("a 0 80.1\na 0 100.1\nb 0 100.2\nb 1 101.2\n")
    return SentLog(path)


@pytest.mark.parametrize("number", [0, 1, 199, 2730, 4095])
def test_a_picture_keeps_its_number_through_compression(number: int) -> None:
    from fractions import Fraction

    import av

    image = np.random.default_rng(0).integers(0, 256, (96, 256, 3), dtype=np.uint8)
    numbered.stamp(image, number)
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = 256, 96, "yuv420p"
    codec.time_base, codec.options = Fraction(1, 10), {"crf": "35", "tune": "zerolatency"}
    picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
    packets = [*codec.encode(picture), *codec.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    assert numbered.read(np.asarray(frames[0].to_ndarray(format="bgr24"), np.uint8)) == number


def test_a_picture_is_as_old_as_its_last_sending(log: SentLog) -> None:
    assert log.age_s("a", 0, 100.3) == pytest.approx(0.2)
    assert log.age_s("a", 0, 81.0) == pytest.approx(0.9)
    assert log.num_sent(100.0, 101.0) == 2


def test_a_picture_that_was_not_sent_yet_is_an_error(log: SentLog) -> None:
    with pytest.raises(ValueError, match="picture 1 had not been sent"):
        log.age_s("b", 1, 101.0)
    with pytest.raises(ValueError, match="c: picture 7"):
        log.age_s("c", 7, 101.0)


def test_only_what_came_within_the_span_counts(bench: ModuleType, log: SentLog) -> None:
    result = bench.result_of(bench.OURS, 2, seen(), log)
    assert (result.sent, result.tracked, result.share) == (2, 2, 1.0)
    assert result.track_s[0] == pytest.approx((0.15 + 0.2) / 2)
    assert result.done_s == ()


@pytest.mark.parametrize(
    ("p95_s", "done_s", "tracked", "holds"),
    [
        (0.2, 0.2, 95, (True, True)),
        (0.2, 0.21, 95, (True, False)),
        (0.21, 0.3, 100, (False, False)),
        (0.1, 0.1, 94, (False, False)),
    ],
)
def test_cameras_are_held_when_nearly_all_comes_in_time(
    bench: ModuleType, p95_s: float, done_s: float, tracked: int, holds: tuple[bool, bool]
) -> None:
    result = bench.Result(
        "x", 1, sent=100, tracked=tracked, track_s=(0, p95_s, 9), done_s=(0, done_s, 9)
    )
    assert (result.holds_tracks, result.holds_all) == holds


def test_most_cameras_are_those_before_the_first_failure(bench: ModuleType) -> None:
    good = {"sent": 10, "tracked": 10, "track_s": (0.1, 0.1, 0.1)}
    results = [
        bench.Result("x", n, **(good if n != 3 else {"problem": "no"})) for n in (1, 2, 3, 4)
    ]
    assert bench.most(results, "x", "holds_all") == 2
    assert bench.most(results, "y", "holds_all") == 0


def test_who_has_failed_does_not_go_on_and_the_others_do(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held = {bench.OURS.name: 2, bench.THEIRS.name: 1}

    def measured(entry: Any, cameras: int, *_: object) -> Any:
        p95_s = 0.1 if cameras <= held[entry.name] else 0.9
        return bench.Result(entry.name, cameras, sent=9, tracked=9, track_s=(0, p95_s, 1))

    monkeypatch.setattr(bench, "measure", measured)
    options = argparse.Namespace(cameras=(1, 2, 4, 8))
    results = list(bench.compete([bench.OURS, bench.THEIRS], options, tmp_path))
    assert [(r.cameras, r.name == bench.OURS.name) for r in results] == [
        *((1, True), (1, False), (2, True), (2, False)),
        (4, True),
    ]


def test_the_page_says_who_held_how_many_and_why_figures_are_missing(bench: ModuleType) -> None:
    good = {"sent": 10, "tracked": 10, "track_s": (0.1, 0.15, 0.2), "people": 3.0}
    results = [
        bench.Result(
            "trackletgait",
            1,
            done_s=(0.1, 0.16, 0.2),
            stages_ms={"segment": 21.0, "detect": 12.5},
            **good,
        ),
        bench.Result("ultralytics", 1, problem="No module named 'lap'"),
    ]
    options = argparse.Namespace(seconds=20.0, warm_up=5.0, command="make bench-live")
    text = bench.page(results, options, ["it was busy"])
    assert "**trackletgait** holds 1 cameras" in text
    assert "| 1 | trackletgait | 10 | 10 (100 %) | 100 / 150 / 200 | 100 / 160 / 200 |" in text
    assert "No module named 'lap' |" in text
    assert "**it was busy.**" in text
    assert "| cameras | who | detect | segment |" in text
    assert "| 1 | trackletgait | 12.5 | 21.0 |" in text
    for table in text.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
