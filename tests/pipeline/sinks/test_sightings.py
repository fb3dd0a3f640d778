from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.sightings import SightingLog, clock_text, read_sightings

Make = Callable[..., Any]


def test_sightings_are_read_back(folder: ResultsFolder, sighting: Make) -> None:
    written = [
        sighting("person-001"),
        sighting(None),
        sighting('<b>"zoë"\u2028\n', stream="a/b c"),
    ]
    with SightingLog(folder) as log:
        for one in written:
            log.write(one)
    assert read_sightings(folder.sightings) == written


def test_a_sighting_can_be_read_while_the_run_goes_on(
    folder: ResultsFolder, sighting: Make
) -> None:
    with SightingLog(folder) as log:
        log.write(sighting("person-001", start_s=62.04))
        line = json.loads(folder.sightings.read_text())
    assert (line["start"], line["end"]) == ("1:02.0", "1:05.0")


def test_a_name_of_undecodable_bytes_is_written_as_escapes(
    folder: ResultsFolder, sighting: Make
) -> None:
    with SightingLog(folder) as log:
        log.write(replace(sighting("person-001"), stream="cam\udcff"))
    assert read_sightings(folder.sightings)[0].stream == "cam\\udcff"


def test_a_damaged_line_is_left_out_with_a_warning(
    folder: ResultsFolder, sighting: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with SightingLog(folder) as log:
        log.write(sighting("person-001"))
        log.write(sighting("person-002"))
    with folder.sightings.open("a") as file:
        file.write('{"identity": "per')
    with caplog.at_level(logging.WARNING):
        found = read_sightings(folder.sightings)
    assert [s.identity for s in found] == ["person-001", "person-002"]
    assert "line 3 is damaged" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00.0"),
        (12.34, "0:12.3"),
        (59.96, "1:00.0"),
        (3723.4, "1:02:03.4"),
        (-0.01, "0:00.0"),
        (-1.5, "-0:01.5"),
    ],
)
def test_moments_read_like_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
