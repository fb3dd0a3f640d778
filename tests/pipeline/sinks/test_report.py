from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pipeline.errors import OutputError
from pipeline.sinks.checked import Checked, CheckedPerson, write_checked
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.report import MOST_IDENTITIES, MOST_SIGHTINGS, Span, write_report
from pipeline.sinks.run import write_run
from pipeline.sinks.sightings import SightingLog
from pipeline.sinks.tracklets import TrackletStore
from pipeline.values import Sighting

Make = Callable[..., Any]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, attribute: str) -> list[str]:
        return [a[attribute] or "" for _, a in self.tags if attribute in a]


def build(folder: ResultsFolder, run: Any, sightings: list[Sighting], *walks: Any) -> Page:
    with SightingLog(folder) as log:
        for one in sightings:
            log.write(one)
    for walk in walks:
        TrackletStore(folder).write(walk)
    write_run(folder, run)
    return Page(write_report(folder).read_text("utf-8"))


@pytest.fixture
def two_cameras(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make, tracklet: Make
) -> Page:
    return build(
        folder,
        run_record(stream_report(folder), stream_report(folder, "yard", video_start_s=None)),
        [
            sighting("person-001", start_s=2.0),
            sighting("person-001", stream="yard", track_id=4),
            sighting("person-002", track_id=9),
            sighting(None, track_id=11),
        ],
        tracklet(),
        tracklet(4, stream="yard"),
    )


def test_the_page_says_who_was_where_when(two_cameras: Page) -> None:
    assert "2 people were seen on 2 recordings" in two_cameras.text
    assert "person-001 2 sightings on 2 recordings, 6 s in view" in two_cameras.text
    assert "0:02.0 – 0:05.0" in two_cameras.text
    assert "0.83" in two_cameras.text
    assert "0.42" in two_cameras.text
    assert "11.8 s of video watched" in two_cameras.text
    assert "untrained" not in two_cameras.text


def test_bars_lead_to_the_moment_in_the_video_where_there_is_one(two_cameras: Page) -> None:
    links = two_cameras.all("href")
    assert links.count("streams/hall/annotated.mp4#t=2.0") == 2  # the bar and the table
    assert not [link for link in links if link.startswith("streams/yard/annotated")]


def test_moments_count_from_the_videos_first_picture(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make
) -> None:
    run = run_record(stream_report(folder, video_start_s=10.0, from_s=10.0, to_s=16.0))
    page = build(folder, run, [sighting("person-001", start_s=12.5)])
    assert "streams/hall/annotated.mp4#t=2.5" in page.all("href")


def test_both_walks_are_shown_as_pictures_inside_the_page(two_cameras: Page) -> None:
    pictures = [src for src in two_cameras.all("src")]
    assert len(pictures) == 4  # one gait energy image and one strip a camera
    assert all(src.startswith("data:image/png;base64,") for src in pictures)
    assert "hall gait energy image, mean of 30 silhouettes" in two_cameras.text
    assert "yard gait energy image, mean of 30 silhouettes" in two_cameras.text


def test_a_walk_that_grew_is_shown_by_its_first_and_longest_tracklet(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make, tracklet: Make
) -> None:
    walk = [tracklet(), replace(tracklet(first=33, length=2), offset=30)]
    seen = replace(sighting("person-001"), tracklets=tuple(each.uid for each in walk))
    page = build(folder, run_record(stream_report(folder)), [seen], *walk)
    assert "mean of 30 silhouettes" in page.text


def test_where_the_truth_is_known_the_page_says_who_is_right(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make
) -> None:
    people = [
        ("ann", {"hall": "person-001", "yard": "person-001"}, True),
        ("bob", {"hall": "person-002", "yard": "person-003"}, False),
        ("cat", {"hall": "person-004", "yard": None}, False),
        ("dan", {"hall": "person-004"}, False),
        ("eve", {"yard": "person-005"}, True),
    ]
    write_checked(
        folder,
        Checked(
            streams=("hall", "yard"),
            id_f1=0.625,
            people=tuple(
                CheckedPerson(person=who, identities=names, is_right=right)
                for who, names, right in people
            ),
        ),
    )
    page = build(
        folder,
        run_record(stream_report(folder), stream_report(folder, "yard")),
        [sighting(f"person-00{n}", track_id=n) for n in range(1, 7)],
    )
    assert "1 of 3 got one identity of their own" in page.text
    assert "IDF1 is 0.62" in page.text
    assert "ann person-001 person-001 right" in page.text
    assert "bob person-002 person-003 not found again" in page.text
    assert "cat person-004 not recognised mixed up with dan" in page.text
    assert "eve not in view person-005 alone here" in page.text
    assert page.text.count("in truth ann") == 1
    assert "in truth bob, in part" in page.text
    assert "in truth cat and dan" in page.text
    for link in (each for each in page.all("href") if each.startswith("#")):
        assert link[1:] in page.all("id")


def test_where_nobody_knows_the_truth_the_page_does_not_speak_of_it(two_cameras: Page) -> None:
    assert "truth" not in two_cameras.text


def test_who_was_seen_too_briefly_is_counted_with_reasons(two_cameras: Page) -> None:
    assert "1 track gave too few good silhouettes" in two_cameras.text
    assert "hidden by somebody else: 4 frames" in two_cameras.text
    assert "too few pixels high: 1 frame" in two_cameras.text


def test_nothing_is_loaded_from_anywhere(two_cameras: Page) -> None:
    assert not {"script", "link", "iframe", "object", "base"} & {t for t, _ in two_cameras.tags}
    for url in two_cameras.all("href") + two_cameras.all("src"):
        assert re.match(r"data:image/png;base64,|streams/", url)
    policy = next(a["content"] for _, a in two_cameras.tags if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_hostile_names_are_text_and_their_links_work(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make, tracklet: Make
) -> None:
    run = run_record(
        stream_report(folder, HOSTILE, problem=HOSTILE),
        command=(HOSTILE,),
        config={HOSTILE: HOSTILE},
        encoder=HOSTILE,
        problem=HOSTILE,
        status="failed",
    )
    page = build(folder, run, [sighting(HOSTILE, stream=HOSTILE)], tracklet(stream=HOSTILE))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.all("onerror") == []
    assert page.text.count("<script>alert(1)</script>") >= 8
    target = next(link for link in page.all("href") if link.endswith("tracklets/"))
    assert (folder.path / unquote(target)).is_dir()


def test_an_untrained_encoder_is_announced_loudly(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make
) -> None:
    page = build(folder, run_record(stream_report(folder), trained=False), [sighting("person-001")])
    assert "These identities mean nothing yet." in page.text
    assert "1 person was seen on 1 recording, says an untrained encoder" in page.text


def test_a_run_without_people_reads_well(
    folder: ResultsFolder, run_record: Make, stream_report: Make
) -> None:
    page = build(folder, run_record(stream_report(folder, tracks=0, people=0)), [])
    assert "Nobody was recognised on 1 recording" in page.text
    assert "No people were found at all." in page.text
    assert "Seen too briefly" not in page.text


def test_a_run_that_read_nothing_still_gives_a_page(
    folder: ResultsFolder, run_record: Make, stream_report: Make
) -> None:
    nothing = {"frames": 0, "width": 0, "height": 0, "fps": None, "duration_s": None, "to_s": 0.0}
    stream = stream_report(folder, problem="no picture in it", **nothing, video_start_s=None)
    page = build(folder, run_record(stream, status="failed", problem="no readable video"), [])
    assert "hall: no picture in it" in page.text.replace(" :", ":")
    assert "The run failed. no readable video" in page.text


@pytest.mark.parametrize(
    ("status", "words"), [("running", "did not end"), ("interrupted", "was interrupted")]
)
def test_a_run_that_did_not_finish_says_so(
    folder: ResultsFolder, run_record: Make, status: str, words: str
) -> None:
    assert words in build(folder, run_record(status=status, finished=None), []).text


def test_strangers_to_the_gallery_are_told_from_those_seen_too_briefly(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make
) -> None:
    stranger = Sighting(
        None, "hall", 3, 0.0, 4.0, 1.9, False, 0.9, 60, ("hall/3/0", "hall/3/30"), ()
    )
    page = build(folder, run_record(stream_report(folder)), [stranger, sighting(None)])
    assert "1 track resembles nobody in the gallery" in page.text
    assert "1 track gave too few good silhouettes" in page.text


def test_the_page_is_bounded_and_says_what_it_left_out(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make, tracklet: Make
) -> None:
    crowd = [sighting(f"person-{i:04d}") for i in range(MOST_IDENTITIES + 40)]
    regular = [sighting("person-0000", start_s=float(i)) for i in range(1000)]
    page = build(folder, run_record(stream_report(folder)), crowd + regular, tracklet())
    assert "and 40 more people" in page.text
    assert f"and {1001 - MOST_SIGHTINGS} more in sightings.jsonl" in page.text
    assert folder.report.stat().st_size < 2_000_000


def test_missing_tracklets_leave_the_pictures_out(
    folder: ResultsFolder, run_record: Make, stream_report: Make, sighting: Make
) -> None:
    page = build(folder, run_record(stream_report(folder)), [sighting("person-001")])
    assert page.all("src") == []
    assert "person-001" in page.text


def test_a_folder_without_a_run_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"expected a results folder with a run\.json"):
        write_report(ResultsFolder(tmp_path))


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        (Span(0.0, 19.9), ["0:00", "0:05", "0:10", "0:15"]),
        (Span(3.0, 4.0), ["0:03", "0:03.5", "0:04"]),
        (Span(0.0, 7200.0), ["0:00", "20:00", "40:00", "1:00:00", "1:20:00", "1:40:00", "2:00:00"]),
    ],
)
def test_the_time_axis_has_round_labels(span: Span, labels: list[str]) -> None:
    assert [label for _, label in span.ticks()] == labels


def test_a_day_long_axis_stays_readable() -> None:
    assert 4 <= len(Span(0.0, 86_400.0).ticks()) <= 8


def browse(url: str, scratch: Path) -> tuple[Page, str, set[str]]:
    """Return what Chromium made of a page, its log, and the addresses the page asked for."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium is not None, "this test needs Chromium: apt-get install chromium"
    scratch.mkdir()
    result = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            "--host-resolver-rules=MAP * ~NOTFOUND",  # the browser's own errands stay here too
            *("--enable-logging=stderr", f"--user-data-dir={scratch / 'profile'}"),
            *(f"--log-net-log={scratch / 'net.json'}", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    events = json.loads((scratch / "net.json").read_text())["events"]
    requests = [e["params"] for e in events if "initiator" in e.get("params", {})]
    # the browser's own errands have no origin
    asked = {r["url"] for r in requests if r["initiator"] != "not an origin"}
    return Page(result.stdout), result.stderr, asked


@pytest.mark.browser
def test_a_browser_shows_the_identities_and_asks_nobody_for_anything(
    folder: ResultsFolder, two_cameras: Page, tmp_path: Path
) -> None:
    seen, log, asked = browse(folder.report.as_uri(), tmp_path / "report")
    assert {"person-001", "person-002"} <= set(seen.words)
    assert "CONSOLE" not in log
    assert asked == set()

    curious = tmp_path / "curious.html"  # the same eyes do see a page that asks and complains
    curious.write_text("<img src='http://example.invalid/x.png'><script>nonsense()</script>")
    _, log, asked = browse(curious.as_uri(), tmp_path / "control")
    assert "CONSOLE" in log
    assert asked == {"http://example.invalid/x.png"}
