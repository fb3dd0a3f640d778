from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import OutputError
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.run import StreamReport, read_run, write_run


def test_a_run_is_read_back(
    folder: ResultsFolder, run_record: Callable[..., Any], stream_report: Callable[..., Any]
) -> None:
    run = run_record(stream_report(folder, problem="the file ends early"), trained=False)
    write_run(folder, run)
    assert read_run(folder) == run
    assert run.seconds == 60.0
    data = json.loads(folder.run.read_text())
    assert data["schema_version"] == 1
    assert data["started"] == "2026-03-01T12:00:00Z"


def test_a_name_of_undecodable_bytes_is_written_as_escapes(
    folder: ResultsFolder, run_record: Callable[..., Any]
) -> None:
    stream = StreamReport(name="cam\udcff", path="/v/cam\udcff.mp4", folder="streams/x")
    write_run(folder, run_record(stream))
    assert read_run(folder).streams[0].name == "cam\\udcff"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a results folder with a run.json"),
        (b"{", "expected a run.json of schema version 1"),
        (b'{"schema_version": 2}', "schema_version"),
    ],
)
def test_a_run_that_cannot_be_read_is_refused_in_words(
    folder: ResultsFolder, content: bytes | None, message: str
) -> None:
    if content is not None:
        folder.run.write_bytes(content)
    with pytest.raises(OutputError, match=message):
        read_run(folder)
