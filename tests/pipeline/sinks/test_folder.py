from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.sinks.folder import LineFile, ResultsFolder, folder_name


def test_a_second_run_removes_the_first_ones_files_and_no_others(tmp_path: Path) -> None:
    first = ResultsFolder.create(tmp_path, room_bytes=0)
    stream = first.make_stream("cam")
    ours = [first.run, first.sightings, first.report, stream.tracks, stream.masks, stream.video]
    ours += [stream.tracklet(1, 2), stream.tracklet(1, 2).with_suffix(".png")]
    ours += [stream.video.with_name("annotated.mp4.part")]
    foreign = [tmp_path / "notes.txt", stream.path / "mine.csv", stream.tracklets / "mine.npz"]
    emptied = first.make_stream("other")
    for path in ours + foreign:
        path.write_text("x")
    ResultsFolder.create(tmp_path, room_bytes=0)
    assert [path for path in ours if path.exists()] == []
    assert [path for path in foreign if not path.exists()] == []
    assert not emptied.path.exists()


@pytest.mark.parametrize("name", ["report.html", "run.json", "sightings.jsonl"])
def test_a_file_of_our_name_that_is_not_ours_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=rf"{name} is there already and was not made by"):
        ResultsFolder.create(tmp_path, room_bytes=0)
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_where_the_folder_should_be_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"there is a file of that name.*--out"):
        ResultsFolder.create(tmp_path / "file")
    with pytest.raises(OutputError, match="a part of the path is a file"):
        ResultsFolder.create(tmp_path / "file" / "below")


def test_a_place_that_cannot_be_written_is_refused_in_words() -> None:
    with pytest.raises(OutputError, match=r"cannot write results to /proc/results: .*--out"):
        ResultsFolder.create(Path("/proc/results"))


def test_a_disk_without_room_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"expected 1000000000000 MB of room, found \d+ MB"):
        ResultsFolder.create(tmp_path, room_bytes=10**18)


def test_a_full_device_is_said_in_words(folder: ResultsFolder) -> None:
    with (
        pytest.raises(OutputError, match=r"no room left on the disk\. Already safe in"),
        folder.writing(Path("/dev/full")),
        open("/dev/full", "wb", buffering=0) as device,
    ):
        device.write(b"x")


FILL = """
import resource, sys
from pathlib import Path
from pipeline.errors import OutputError
from pipeline.sinks.folder import LineFile, ResultsFolder
folder = ResultsFolder(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
log = LineFile(folder, folder.sightings)
try:
    while True:
        log.write("0123456789" * 3 + "\\n")
except OutputError as error:
    print(error)
try:
    folder.write(folder.report, b"x" * 2000)
except OutputError as error:
    print(error)
"""


def test_a_disk_that_fills_up_leaves_whole_lines_and_whole_files(folder: ResultsFolder) -> None:
    folder.report.write_text("as before")
    result = subprocess.run(
        [sys.executable, "-c", FILL, str(folder.path)], capture_output=True, text=True, check=True
    )
    lines = folder.sightings.read_text().splitlines(keepends=True)
    assert set(lines) == {"0123456789" * 3 + "\n"}
    assert len(lines) == 1000 // 31
    assert "32 sightings" in result.stdout
    assert result.stdout.count("grow beyond what is allowed") == 2
    assert folder.report.read_text() == "as before"
    assert not folder.report.with_name("report.html.part").exists()


def test_a_killed_process_leaves_every_line_it_wrote(folder: ResultsFolder) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from pipeline.sinks.folder import LineFile, ResultsFolder\n"
        "folder = ResultsFolder(Path(sys.argv[1])); log = LineFile(folder, folder.sightings)\n"
        "log.write('one\\n'); log.write('two\\n'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder.path)], check=False)
    assert done.returncode == -9
    assert folder.sightings.read_text() == "one\ntwo\n"


def test_names_become_folders_that_stay_inside_and_never_collide() -> None:
    names = ["cam1", "flur_süd", "../../etc", "..", ".", "", "a/b", "a_b", "a b", "x" * 300]
    names += ["x" * 301, "<script>", "nul\0", "\udcff"]
    folders = [folder_name(name) for name in names]
    assert folders[:2] == ["cam1", "flur_süd"]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert "/" not in folder
        assert not folder.startswith(".")
        assert len(os.fsencode(folder)) <= 255


def test_lines_grow_in_the_order_written(folder: ResultsFolder) -> None:
    with LineFile(folder, folder.sightings) as log:
        for i in range(3):
            log.write(f"{i}\n")
    assert folder.sightings.read_text() == "0\n1\n2\n"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000  # the limit stayed in its process
