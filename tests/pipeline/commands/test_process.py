"""The main job through the command line, on the real clip with the bundled models."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest

from pipeline import cli
from pipeline.commands import process
from pipeline.sources.inputs import sample_path
from pipeline.values import Sighting

PROGRAM = (sys.executable, "-m", "pipeline.cli")


def test_the_demo_says_how_many_walkers_were_right(run, tmp_path, make_video, monkeypatch):
    clips = [make_video(f"{name}.mp4", size=(160, 120)) for name in ("street", "one", "two")]
    boxes = [[frame, 1, "p1", 10, 10, 50, 100, 1.0] for frame in range(30)]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"one": boxes, "two": boxes}))
    monkeypatch.setattr("pipeline.sources.inputs.sample_path", lambda: clips[0])
    monkeypatch.setattr("pipeline.sources.inputs.walker_samples", lambda: (clips[1:], truth))
    code, printed = run("demo", "--out", tmp_path / "out")
    assert code == 0
    assert "0 of 1 people on one and two got one identity" in printed
    walkers = tmp_path / "out" / "walkers"
    checked = json.loads((walkers / "checked.json").read_text())
    assert checked["people"] == [
        {"person": "p1", "identities": {"one": None, "two": None}, "is_right": False}
    ]
    assert "Checked against the truth" in (walkers / "report.html").read_text()
    # what is elsewhere has its own gallery, and the pair that began together one clock
    for folder, streams, shared in (
        ("street", ["street"], False),
        ("walkers", ["one", "two"], True),
    ):
        record = json.loads((tmp_path / "out" / folder / "run.json").read_text())
        assert [stream["name"] for stream in record["streams"]] == streams
        assert record["config"]["gallery"]["whereabouts"]["shared_clock"] is shared


def test_recordings_that_began_together_share_a_clock(run, tmp_path, make_video):
    clips = [make_video(f"{name}.mp4", size=(160, 120)) for name in ("one", "two")]
    args = ("--out", tmp_path / "out", "--set", "output.video=false")
    for given, shared in ((("--together",), True), ((), False)):
        assert run("process", *clips, *given, *args)[0] == 0
        record = json.loads((tmp_path / "out" / "run.json").read_text())
        assert record["config"]["gallery"]["whereabouts"]["shared_clock"] is shared


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; return its exit code and what it printed."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["trackletgait", *map(str, args)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), " ".join((printed.out + printed.err).split())

    return run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of the first 45 frames of the clip."""
    out = tmp_path_factory.mktemp("main") / "results"
    done = subprocess.run(
        [*PROGRAM, "process", sample_path(), "--out", out, "--max-frames", "45"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout + done.stderr


def lines(path):
    return path.read_text().splitlines()


def test_the_main_job_leaves_every_promised_file(results):
    out, _ = results
    stream = out / "streams" / "vtest-20s"
    for path in ("run.json", "sightings.jsonl", "report.html"):
        assert (out / path).stat().st_size > 0, path
    for path in ("tracks.mot.txt", "masks.jsonl", "annotated.mp4"):
        assert (stream / path).stat().st_size > 0, path
    sheets = list((stream / "tracklets").glob("*.png"))
    assert sheets
    assert len(sheets) == len(list((stream / "tracklets").glob("*.npz")))


def test_people_of_the_clip_are_followed_cut_out_and_sighted(results):
    out, _ = results
    stream = out / "streams" / "vtest-20s"
    boxes = np.loadtxt(stream / "tracks.mot.txt", delimiter=",")
    per_frame = np.bincount(boxes[:, 0].astype(int), minlength=46)[10:46]
    assert np.median(per_frame) >= 3  # of four to six in view, some behind a sign
    masked = [
        bool(track["outline"])
        for line in lines(stream / "masks.jsonl")
        for track in json.loads(line)["tracks"]
    ]
    assert np.mean(masked) > 0.8
    sightings = [json.loads(line) for line in lines(out / "sightings.jsonl")]
    recognised = [s for s in sightings if s["identity"]]
    assert len(recognised) >= 3
    for sighting in recognised:
        assert 0 <= sighting["start_s"] < sighting["end_s"] <= 4.4
        assert sighting["num_silhouettes"] >= 15


def test_silhouettes_stand_upright_and_fill_the_picture(results):
    out, _ = results
    for path in (out / "streams" / "vtest-20s" / "tracklets").glob("*.npz"):
        silhouettes = np.load(path)["silhouettes"]
        assert silhouettes.shape[1:] == (64, 44)
        white = silhouettes > 127
        # head to foot in every frame, and the body covers a person's share of the picture
        assert white[:, [1, 62]].any(axis=2).mean() > 0.95
        assert 0.1 < white.mean() < 0.6


def test_the_annotated_video_shows_every_frame_at_its_time(results):
    out, _ = results
    with av.open(str(out / "streams" / "vtest-20s" / "annotated.mp4")) as video:
        times = [frame.time for frame in video.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(45) / 10, atol=0.002)


def test_the_run_says_how_it_was_made_and_with_which_encoder(results):
    out, printed = results
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["encoder_is_trained"] == (run["config"]["encoder"]["weights"] != "random")
    assert run["config"]["read"]["max_frames"] == 45
    assert {m["role"] for m in run["models"]} == {"detector", "segmenter", "encoder"}
    assert all(m["sha256"] for m in run["models"])
    stages = {s["name"]: s for s in run["stages"]}
    assert stages["detect"]["items"] == 45
    assert stages["segment"]["items_per_s"] > 0
    assert f"Encoder: {run['encoder']}" in printed.replace("\n", "")
    assert str(out / "report.html") in printed.replace("\n", "")


def test_an_untrained_encoder_is_announced_loudly(run, tmp_path):
    args = ("--max-frames", "2", "--set", "encoder.weights=null", "--set", "output.video=false")
    code, printed = run("process", sample_path(), *args, "--out", tmp_path / "out")
    assert code == 0
    assert "no trained encoder" in printed
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["encoder_is_trained"] is False
    assert "UNTRAINED" in record["encoder"]


def test_the_same_file_gives_the_same_sightings_again(results, run, tmp_path):
    out, _ = results
    code, _ = run("process", sample_path(), "--max-frames", "45", "--out", tmp_path / "again")
    assert code == 0
    assert lines(tmp_path / "again" / "sightings.jsonl") == lines(out / "sightings.jsonl")


def test_one_after_another_gives_the_same_sightings_as_overlapped(results, run, tmp_path):
    out, _ = results
    args = ("--max-frames", "45", "--set", "runtime.ahead=0", "--set", "output.video=false")
    code, _ = run("process", sample_path(), *args, "--out", tmp_path / "serial")
    assert code == 0
    assert lines(tmp_path / "serial" / "sightings.jsonl") == lines(out / "sightings.jsonl")


def test_start_and_end_choose_the_part_that_is_read(run, tmp_path):
    args = ("--start", "2", "--end", "3", "--stride", "2", "--set", "output.video=false")
    code, _ = run("process", sample_path(), *args, "--out", tmp_path / "out")
    assert code == 0
    masks = lines(tmp_path / "out" / "streams" / "vtest-20s" / "masks.jsonl")
    assert [json.loads(line)["frame"] for line in masks] == [20, 22, 24, 26, 28]


def test_one_bad_file_among_several_is_reported_and_does_not_stop_the_others(
    run, make_video, tmp_path
):
    good = make_video("good.mp4", num_frames=10)
    text = tmp_path / "text.mp4"
    text.write_text("this is not a video")
    out = tmp_path / "out"
    code, printed = run("process", text, good, tmp_path / "missing.mp4", "--out", out)
    assert code == 1
    assert "text.mp4" in printed
    assert "missing.mp4: no such file or folder" in printed
    streams = {s["name"]: s for s in json.loads((out / "run.json").read_text())["streams"]}
    assert streams["good"]["frames"] == 10
    assert streams["good"]["problem"] is None
    assert streams["text"]["problem"]


def test_a_truncated_video_gives_what_decodes_and_exits_with_1(run, make_noisy_video, tmp_path):
    video = make_noisy_video("cut.mp4", 60, muxer={"movflags": "faststart"})
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 6 // 10])
    code, printed = run("process", video, "--out", tmp_path / "out")
    assert code == 1
    (stream,) = json.loads((tmp_path / "out" / "run.json").read_text())["streams"]
    assert 10 < stream["frames"] < 60
    assert stream["problem"]
    assert "cut.mp4" in printed


def test_nobody_in_the_picture_is_an_ordinary_result(run, make_video, tmp_path):
    out = tmp_path / "out"
    code, printed = run("process", make_video(num_frames=20), "--out", out)
    assert code == 0
    assert "0 identities" in printed
    assert lines(out / "sightings.jsonl") == []
    assert (out / "report.html").exists()


def test_who_is_like_nobody_known_is_not_called_too_brief(capsys):
    brief = Sighting(None, "door", 1, 0.0, 1.0, None, False, 0.0, 0, (), ())
    stranger = replace(brief, track_id=2, num_silhouettes=40, quality=0.9)
    anna = replace(stranger, track_id=3, identity="Anna")
    process._print_end(SimpleNamespace(folder=None), [brief, stranger, anna])
    said = " ".join(capsys.readouterr().out.split())
    assert "1 identity in 1 sighting; 1 track was of nobody known, 1 track was too brief" in said
    process._print_end(SimpleNamespace(folder=None), [anna])
    assert capsys.readouterr().out.strip() == "1 identity in 1 sighting."


@pytest.mark.parametrize("size", [(16, 16), (322, 246), (7680, 4320)])
def test_pictures_of_any_size_go_through(run, make_video, tmp_path, size):
    video = make_video(num_frames=2, size=size, codec="mjpeg", pixels="yuvj420p", name="any.avi")
    code, _ = run("process", video, "--out", tmp_path / "out")
    assert code == 0
    (stream,) = json.loads((tmp_path / "out" / "run.json").read_text())["streams"]
    assert (stream["width"], stream["height"], stream["frames"]) == (*size, 2)


def test_a_folder_of_images_is_one_stream(run, tmp_path):
    import cv2

    folder = tmp_path / "walk"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.zeros((48, 64, 3), np.uint8))
    code, _ = run("process", folder, "--out", tmp_path / "out")
    assert code == 0
    (stream,) = json.loads((tmp_path / "out" / "run.json").read_text())["streams"]
    assert (stream["name"], stream["frames"]) == ("walk", 3)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--set", "detector.confidnce=0.3"], 2, "unknown key (did you mean confidence?)"),
        (["--set", "segmenter=samm"], 2, "expected one of"),
        (["--config", "nowhere.yaml"], 2, "cannot read the configuration"),
        (["--stride", "0"], 2, "stride"),
        (["--start", "3", "--end", "2"], 2, "start_s < end_s"),
        (["--set", "tracker.lost_s=-1"], 2, "tracker.lost_s"),
        (["--set", "encoder.device=cuda:99"], 2, "device"),
        (["--set", "detector.model=nowhere.pt"], 1, "nowhere.pt"),
        (["--set", "encoder.weights=nowhere.pt"], 1, "nowhere.pt"),
        (["--out", "/proc/results"], 1, "cannot write results to /proc/results"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(run, tmp_path, monkeypatch, args, code, says):
    monkeypatch.chdir(tmp_path)
    exit_code, printed = run("process", sample_path(), *args)
    assert exit_code == code
    assert says in printed
    assert "Traceback" not in printed


def test_a_misspelt_file_is_refused_with_the_likely_one(run, tmp_path):
    (tmp_path / "entrance.mp4").touch()
    code, printed = run("process", tmp_path / "entrence.mp4", "--out", tmp_path / "out")
    assert code == 1
    assert "did you mean" in printed
    assert not (tmp_path / "out").exists()


def test_an_unknown_command_and_a_missing_argument_exit_with_2(run):
    assert run("proces")[0] == 2
    assert run("process")[0] == 2


def test_version_and_help_answer_at_once(run):
    from pipeline.version import __version__

    assert run("--version") == (0, f"trackletgait {__version__}")
    code, printed = run("process", "--help")
    assert code == 0
    assert "--max-frames" in printed


def interrupted(out, *signals):
    """Process the clip in a process of its own and send it signals once it is well under way."""
    worker = subprocess.Popen(
        [*PROGRAM, "process", sample_path(), "--out", out],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )
    record = out / "streams" / "vtest-20s" / "masks.jsonl"
    deadline = time.monotonic() + 150  # seconds where nobody else wants the processor
    while not (record.exists() and len(lines(record)) > 20):
        assert worker.poll() is None, worker.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sent = time.monotonic()
    for each in signals:
        worker.send_signal(each)
        time.sleep(0.3)
    _, errors = worker.communicate(timeout=120)
    return worker.returncode, time.monotonic() - sent, errors


def test_ctrl_c_ends_cleanly_with_what_was_found_on_disk(tmp_path):
    out = tmp_path / "out"
    code, seconds, errors = interrupted(out, signal.SIGINT)
    assert code == 130
    assert seconds < 100
    assert "Traceback" not in errors
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "interrupted"
    frames = run["streams"][0]["frames"]
    assert 20 < frames < 200
    with av.open(str(out / "streams" / "vtest-20s" / "annotated.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == frames
    for line in lines(out / "sightings.jsonl"):
        json.loads(line)
    assert "interrupted" in (out / "report.html").read_text().lower()


def test_a_killed_run_leaves_whole_lines(tmp_path):
    out = tmp_path / "out"
    code, _, _ = interrupted(out, signal.SIGKILL)
    assert code == -signal.SIGKILL
    for line in lines(out / "streams" / "vtest-20s" / "masks.jsonl"):
        json.loads(line)
    assert json.loads((out / "run.json").read_text())["status"] == "running"


def test_a_full_disk_ends_the_run_with_words_and_keeps_what_was_written(tmp_path):
    out = tmp_path / "out"
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from pipeline import cli; sys.argv = ['trackletgait', *sys.argv[1:]]; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "process", sample_path(), "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Already safe" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    record = out / "streams" / "vtest-20s" / "masks.jsonl"
    assert all(json.loads(line) for line in lines(record))


def test_results_of_a_former_run_are_replaced_and_foreign_files_stay(run, make_video, tmp_path):
    out = tmp_path / "out"
    video = make_video(num_frames=3)
    assert run("process", video, "--out", out)[0] == 0
    (out / "notes.txt").write_text("mine")
    shutil.copy(video, tmp_path / "other.mp4")
    assert run("process", tmp_path / "other.mp4", "--out", out)[0] == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert [p.name for p in (out / "streams").iterdir()] == ["other"]


def test_a_change_of_size_in_the_middle_is_a_new_epoch_and_no_crash(run, make_video, tmp_path):
    parts = [make_video(f"{w}.ts", num_frames=12, size=(w, 2 * w // 3)) for w in (96, 192)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    run("process", joined, "--out", tmp_path / "out")
    stream = tmp_path / "out" / "streams" / "joined"
    record = [json.loads(line) for line in lines(stream / "masks.jsonl")]
    assert {tuple(r["size"]): r["epoch"] for r in record} == {(96, 64): 0, (192, 128): 1}
    with av.open(str(stream / "annotated.mp4")) as video:
        sizes = {(f.width, f.height) for f in video.decode(video=0)}
    assert sizes == {(96, 64)}  # the first size; later frames are fitted into it


def test_a_model_without_people_is_refused_with_the_classes_it_has(run, tmp_path):
    code, printed = run(
        "process", sample_path(), "--out", tmp_path / "out", "--set", 'detector.classes=["dragon"]'
    )
    assert code == 1
    assert "dragon" in printed
    assert "person" in printed  # among the classes there are


def test_a_mistake_in_the_next_run_does_not_cost_the_results_of_the_last(run, make_video, tmp_path):
    out = tmp_path / "out"
    video = make_video(num_frames=3)
    assert run("process", video, "--out", out)[0] == 0
    assert run("process", video, "--out", out, "--set", "encoder.weights=nowhere.pt")[0] == 1
    assert (out / "report.html").exists()
