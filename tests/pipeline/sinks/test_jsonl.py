"""Lines of events are whole, whatever happens to the process, the disk or the day."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.sinks.jsonl import JsonlSink
from pipeline.sinks.live import Event


def event(number: int = 0) -> Event:
    return Event("overload", 1.0e9 + number, {"number": number, "words": "größe\n\udcff"})


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["content"]["number"] for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "events.jsonl"


def full_files(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each != path)


def test_each_event_is_a_line_and_a_new_sink_goes_on(path: Path) -> None:
    for number in range(2):
        with JsonlSink(path) as sink:
            sink.write([event(number), event(number + 10)])
    assert numbers(path) == [0, 10, 1, 11]
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["schema"], first["kind"], first["at_unix_s"]) == (1, "overload", 1.0e9)
    assert len(first["uid"]) == 32


def test_a_torn_last_line_is_removed_at_the_next_start(path: Path) -> None:
    with JsonlSink(path) as sink:
        sink.write([event(0), event(1)])
    with path.open("ab") as file:
        file.write(event(2).as_bytes()[:-5])
    with JsonlSink(path) as sink:
        sink.write([event(3)])
    assert numbers(path) == [0, 1, 3]


def test_a_file_that_is_only_a_torn_line_becomes_empty(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"schema": 1, "ui')
    with JsonlSink(path) as sink:
        sink.write([event(0)])
    assert numbers(path) == [0]


@pytest.mark.parametrize("content", [b"dear diary\n", b"{" + b"x" * (1 << 21)])
def test_a_file_of_something_else_is_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(OutputError, match="expected JSON lines"):
        JsonlSink(path)
    assert path.read_bytes() == content


def test_kill_9_while_writing_leaves_whole_lines_and_loses_none_that_were_written(
    path: Path,
) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pipeline.sinks.jsonl import JsonlSink
        from pipeline.sinks.live import Event
        sink, number = JsonlSink(Path(sys.argv[1]), rotate_bytes=200_000, keep=1000), 0
        while True:
            sink.write([Event("overload", 1.0, {"number": number + i}) for i in range(7)])
            number += 7
            print(number, flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split("\n")
    process.wait()
    process.stdout.close()
    said += [int(number) for number in rest[:-1]]
    JsonlSink(path).close()
    files = [*sorted(set(path.parent.iterdir()) - {path}), path]
    found = [number for each in files for number in numbers(each)]
    assert len(files) > 1
    assert found == list(range(len(found)))
    assert len(found) >= said[-1]


def test_a_full_file_is_renamed_and_only_so_many_are_kept(path: Path) -> None:
    size = len(event(0).as_bytes()) + 1
    with JsonlSink(path, rotate_bytes=2 * size, keep=2) as sink:
        for number in range(9):
            sink.write([event(number)])
    assert full_files(path) == ["events.000003.jsonl", "events.000004.jsonl"]
    assert numbers(path.with_name("events.000004.jsonl")) == [6, 7]
    assert numbers(path) == [8]


def test_files_of_others_are_not_removed(path: Path) -> None:
    path.parent.mkdir()
    for name in ("events.jsonl.bak", "events.2020.jsonl", "other.000001.jsonl"):
        path.with_name(name).write_text("mine")
    with JsonlSink(path, rotate_bytes=1, keep=1) as sink:
        for number in range(4):
            sink.write([event(number)])
    assert full_files(path) == [
        "events.000003.jsonl",
        "events.2020.jsonl",
        "events.jsonl.bak",
        "other.000001.jsonl",
    ]


def test_a_new_day_begins_a_new_file_also_after_a_restart(path: Path) -> None:
    day_s = 86400.0
    now_s = 20_000 * day_s + 86_399
    with JsonlSink(path, is_daily=True, clock=lambda: now_s) as sink:
        sink.write([event(0)])
        sink.write([event(1)])
        now_s += 2
        sink.write([event(2)])
    os.utime(path, (now_s, now_s))
    with JsonlSink(path, is_daily=True, clock=lambda: now_s) as sink:
        sink.write([event(3)])
        now_s += day_s
        sink.write([event(4)])
    assert numbers(path.with_name("events.000001.jsonl")) == [0, 1]
    assert numbers(path.with_name("events.000002.jsonl")) == [2, 3]
    assert numbers(path) == [4]


def test_two_sinks_do_not_share_a_file(path: Path) -> None:
    with JsonlSink(path), pytest.raises(OutputError, match="another process"):
        JsonlSink(path)


def test_a_full_disk_leaves_whole_lines_and_the_same_events_may_come_again(path: Path) -> None:
    # A limit on the file's size stands for the disk's.
    program = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from pipeline.errors import OutputError
        from pipeline.sinks.jsonl import JsonlSink
        from pipeline.sinks.live import Event
        events = [Event("overload", 1.0, {"number": i}) for i in range(10)]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = Path(sys.argv[1])
        sink = JsonlSink(path)
        sink.write(events)
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, resource.RLIM_INFINITY))
        try:
            sink.write(events)
        except OutputError as error:
            assert "File too large" in str(error), error
        else:
            raise SystemExit("wrote beyond the limit")
        assert path.stat().st_size == size
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sink.write(events)
        assert path.stat().st_size == 2 * size
        """
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be opened"):
        JsonlSink(tmp_path / "file" / "events.jsonl")


def test_synced_events_are_written_too(path: Path) -> None:
    with JsonlSink(path, is_synced=True) as sink:
        sink.write([event(0)])
    assert numbers(path) == [0]
