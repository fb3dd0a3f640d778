from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import LinkError
from pipeline.transport.spool import Marks, Spool

_NOW_S = 1_000.0  # the first number is one above 1,000 times this


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "link.spool"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with Spool(path, max_bytes=1000, clock=lambda: _NOW_S) as spool:
        yield spool


def waiting(spool: Spool) -> list[list[bytes]]:
    return [frames for _, frames in spool.after(0, 1000)]


def test_what_is_put_comes_out_in_order_until_it_is_removed(spool: Spool) -> None:
    spool.put([[b"a", b""], [b"b"]])
    spool.put([[b"c", b"d" * 50]])
    (first, _), (second, _), (third, _) = spool.after(0, 10)
    assert waiting(spool) == [[b"a", b""], [b"b"], [b"c", b"d" * 50]]
    assert first < second < third
    assert [seq for seq, _ in spool.after(first, 1)] == [second]
    assert spool.remove(second) == 2
    assert waiting(spool) == [[b"c", b"d" * 50]]
    assert (len(spool), spool.remove(third), len(spool), spool.num_bytes) == (1, 1, 0, 0)


def test_what_waits_is_there_after_a_restart_and_numbers_go_on(path: Path) -> None:
    with Spool(path, clock=lambda: _NOW_S) as spool:
        spool.put([[b"a"], [b"b"]], next_track_id=8)
        last = spool.after(0, 9)[-1][0]
        spool.remove(last)
        spool.put([[b"c"]], next_track_id=5)
        name = spool.id
    with Spool(path, clock=lambda: 0.0) as spool:
        assert (spool.id, len(spool), waiting(spool)) == (name, 1, [[b"c"]])
        assert spool.first_track_id == 8
        spool.put([[b"d"]])
        assert [seq for seq, _ in spool.after(0, 9)] == [last + 1, last + 2]


def test_numbers_are_not_given_again_after_a_backup_was_restored(path: Path) -> None:
    with Spool(path, clock=lambda: _NOW_S) as spool:
        spool.put([[b"a"]])
        spool.remove(spool.after(0, 1)[0][0])
    backup = path.read_bytes()
    with Spool(path, clock=lambda: _NOW_S) as spool:
        spool.put([[b"sent and acknowledged"]])
        [(sent, _)] = spool.after(0, 9)
    path.write_bytes(backup)
    with Spool(path, clock=lambda: _NOW_S + 1) as spool:
        spool.put([[b"new"]])
        assert spool.after(0, 9)[0][0] > sent


def test_when_it_is_full_the_oldest_go_first_and_are_counted(spool: Spool, path: Path) -> None:
    each = 92  # and 8 bytes of lengths
    dropped = [spool.put([[bytes([number]) * each]]) for number in range(13)]
    assert dropped == [0] * 10 + [1] * 3
    assert [frames[0][0] for frames in waiting(spool)] == list(range(3, 13))
    assert (spool.num_bytes, spool.num_dropped, len(spool)) == (1000, 3, 10)
    spool.close()
    with Spool(path) as again:
        assert (again.num_dropped, again.num_bytes, len(again)) == (3, 1000, 10)


def test_more_at_once_than_it_holds_leaves_the_newest(spool: Spool) -> None:
    spool.put([[b"old"]])
    assert spool.put([[bytes([number]) * 292] for number in range(5)]) == 3  # "old" is one
    assert [frames[0][0] for frames in waiting(spool)] == [2, 3, 4]
    assert spool.put([[bytes(2000)]]) == 4  # itself too: it is larger than all there is
    assert spool.num_bytes <= 1000


def test_the_file_does_not_grow_once_it_is_full(path: Path) -> None:
    with Spool(path, max_bytes=200_000) as spool:
        sizes = []
        for _ in range(6):
            for _ in range(20):
                spool.put([[os.urandom(10_000)] for _ in range(10)])
            sizes.append(sum(file.stat().st_size for file in path.parent.iterdir()))
    assert sizes[-1] <= sizes[-3] < 6_000_000  # of which SQLite's journal has up to 4 MB


def test_a_second_process_is_refused(spool: Spool, path: Path) -> None:
    spool.put([[b"mine"]])
    code = "import sys, pathlib, pipeline.transport.spool as s; s.Spool(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1
    assert "LinkError" in done.stderr
    assert "another process has it open" in done.stderr
    with pytest.raises(LinkError, match="another process has it open"):
        Spool(path)
    assert waiting(spool) == [[b"mine"]]


def test_a_file_that_is_no_spool_is_left_alone(path: Path) -> None:
    path.write_bytes(b"something else, and long enough to be no header " * 50)
    before = path.read_bytes()
    with pytest.raises(LinkError, match="not an SQLite file"):
        Spool(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LinkError, match="cannot be made"):
        Spool(tmp_path / "file" / "deeper" / "link.spool")


def test_a_closed_spool_says_so(spool: Spool) -> None:
    spool.close()
    spool.close()
    with pytest.raises(LinkError, match="this one was closed"):
        spool.put([[b"late"]])


# Puts numbers, says so once each is on disk, and removes every third one with those before it.
_CHILD = """
import sys
from pathlib import Path
from pipeline.transport.spool import Spool
with Spool(Path(sys.argv[1])) as spool:
    for number in range(int(sys.argv[2]), 10**9):
        spool.put([[str(number).encode(), bytes(3000)]])
        print("put", number, flush=True)
        if number % 3 == 2:
            seq, frames = spool.after(0, 2)[-1]
            print("removing", int(frames[0]), flush=True)
            spool.remove(seq)
"""


def test_nothing_put_is_lost_when_the_process_is_killed_at_any_moment(path: Path) -> None:
    moment = random.Random(7)
    start = last_put = removing = 0
    for _ in range(20):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), str(start)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        first = child.stdout.readline()  # it is at work
        time.sleep(moment.uniform(0.0, 0.03))
        child.send_signal(signal.SIGKILL)
        said = first + child.stdout.read()
        child.stdout.close()
        child.wait()
        for word, number in (line.split() for line in said.split(b"\n")[:-1]):
            last_put = int(number) if word == b"put" else last_put
            removing = max(removing, int(number)) if word == b"removing" else removing
        with Spool(path) as spool:
            held = [int(frames[0]) for frames in waiting(spool)]
        assert held == list(range(held[0], held[0] + len(held)))  # no gap, nothing twice
        assert held[0] <= removing + 1
        assert held[-1] in (last_put, last_put + 1)  # the last may be on disk before it is said
        start = held[-1] + 1
    assert start > 20


def test_marks_survive_and_are_apart_for_each_sender_and_spool(tmp_path: Path) -> None:
    with Marks(tmp_path / "marks") as marks:
        marks.write([("north", "a", 5), ("south", "a", 6)])
        marks.write([("north", "a", 7)])
    with Marks(tmp_path / "marks") as marks:
        assert [marks.read("north", "a"), marks.read("south", "a")] == [7, 6]
        assert marks.read("north", "b") == 0


def test_marks_of_spools_long_silent_are_forgotten(tmp_path: Path) -> None:
    day_s = 86400.0
    with Marks(tmp_path / "marks", clock=lambda: 0.0) as marks:
        marks.write([("north", "old", 5)])
    with Marks(tmp_path / "marks", clock=lambda: 300 * day_s) as marks:
        marks.write([("north", "new", 5)])
    with Marks(tmp_path / "marks", clock=lambda: 401 * day_s) as marks:
        assert [marks.read("north", "old"), marks.read("north", "new")] == [0, 5]


def test_a_full_disk_is_said_and_nothing_is_half_written(path: Path) -> None:
    with Spool(path) as spool:
        spool.put([[b"first"]])
        sql = spool._database._sql
        assert sql is not None
        sql.execute("PRAGMA max_page_count = 1")  # no more than there are: a disk without room
        with pytest.raises(LinkError, match="the disk is full: free some room"):
            spool.put([[b"small"], [bytes(100_000)]])
        assert (waiting(spool), len(spool), spool.num_bytes) == ([[b"first"]], 1, 13)
