from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.images import ImageFolderSource
from pipeline.sources.inputs import expand, open_source, sample_path, stream_names
from pipeline.sources.source import ReadConfig
from pipeline.sources.video import VideoSource


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "cam2.mp4",
        "cam10.mp4",
        "cam[1].avi",
        "notes.txt",
        "walk/1.png",
        "walk/2.png",
        "both/a.MKV",
        "both/still.jpg",
        "deep/inner/x.mp4",
        "empty/.keep",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    return tmp_path


def found(tree: Path, *inputs: str) -> list[str]:
    paths, problems = expand([f"{tree}/{text}" for text in inputs])
    assert problems == []
    return [str(path.relative_to(tree)) for path in paths]


def complaint(tree: Path, text: str) -> str:
    paths, problems = expand([f"{tree}/{text}"])
    assert paths == []
    assert len(problems) == 1
    return str(problems[0]).replace(str(tree), "")


def test_a_file_is_itself_whatever_it_is_called(tree: Path) -> None:
    assert found(tree, "cam2.mp4", "notes.txt") == ["cam2.mp4", "notes.txt"]


def test_a_folder_of_videos_gives_each_in_natural_order(tree: Path) -> None:
    assert found(tree, "") == ["cam2.mp4", "cam10.mp4", "cam[1].avi"]
    assert found(tree, "both") == ["both/a.MKV"]


def test_a_folder_of_images_is_one_stream(tree: Path) -> None:
    assert found(tree, "walk") == ["walk"]


def test_a_glob_stands_for_what_it_matches(tree: Path) -> None:
    assert found(tree, "cam*.mp4") == ["cam2.mp4", "cam10.mp4"]
    assert found(tree, "cam?.mp4") == ["cam2.mp4"]
    assert found(tree, "[bw]*") == ["both/a.MKV", "walk"]


def test_a_name_with_brackets_that_exists_is_no_glob(tree: Path) -> None:
    assert found(tree, "cam[1].avi") == ["cam[1].avi"]


def test_the_same_file_twice_is_one_stream(tree: Path) -> None:
    (tree / "link.mp4").symlink_to(tree / "cam2.mp4")
    assert found(tree, "cam2.mp4", "both/../cam2.mp4", "link.mp4", "cam2*") == ["cam2.mp4"]


def test_a_typing_error_is_met_with_a_suggestion(tree: Path) -> None:
    assert complaint(tree, "cam3.mp4") == (
        "/cam3.mp4: no such file or folder (did you mean /cam2.mp4 or /cam10.mp4?)"
    )
    assert "did you mean /walk?" in complaint(tree, "wlak")
    assert "the folder /gone does not exist" in complaint(tree, "gone/cam2.mp4")


def test_what_stands_for_nothing_says_what_to_do(tree: Path) -> None:
    assert "nothing matches" in complaint(tree, "*.mov")
    assert "no videos or images in this folder" in complaint(tree, "empty")
    assert "for the folders in it, give '/deep/*'" in complaint(tree, "deep")
    assert "give its folder instead: /walk" in complaint(tree, "walk/1.png")
    assert "give their folder instead: /walk" in complaint(tree, "walk/*.png")


def test_one_bad_input_does_not_stop_the_others(tree: Path) -> None:
    paths, problems = expand([tree / "gone.mp4", tree / "cam2.mp4", f"{tree}/*.mov"])
    assert paths == [tree / "cam2.mp4"]
    assert len(problems) == 2


def test_a_url_is_refused_without_repeating_its_password() -> None:
    paths, problems = expand(["rtsp://admin:secret@cam.local/stream?token=abc"])
    assert paths == []
    assert "rtsp://cam.local/stream: expected a file" in str(problems[0])
    assert "secret" not in str(problems[0])
    assert "abc" not in str(problems[0])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/v/cam.mp4"], ["cam"]),
        (["/v/cam.mp4", "/v/door.mp4"], ["cam", "door"]),
        (["/a/cam.mp4", "/b/cam.mp4", "/b/door.mp4"], ["a-cam", "b-cam", "door"]),
        (["/v/cam.mp4", "/v/cam.avi"], ["cam-mp4", "cam-avi"]),
        (["/x/1/cam.mp4", "/y/1/cam.mp4"], ["x-1-cam", "y-1-cam"]),
        (["/v/Cam.mp4", "/v/cam.mp4"], ["Cam", "cam-2"]),
        (["/v/Hof Süd (2).mp4"], ["Hof_Süd_2"]),
        (["/v/../../etc.mp4", "/v/...mp4"], ["etc", "stream"]),
        (["/a/cam.mp4", "/b/cam.mp4", "/c/a-cam.mp4"], ["a-cam", "b-cam", "a-cam-2"]),
    ],
)
def test_stream_names_are_short_and_tell_streams_apart(paths: list[str], names: list[str]) -> None:
    assert stream_names([Path(path) for path in paths]) == names


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), max_size=8))
def test_stream_names_are_always_unique_and_safe_file_names(texts: list[str]) -> None:
    names = stream_names([Path("/v") / text.lstrip("/") for text in texts])
    assert len({name.casefold() for name in names}) == len(texts)
    for name in names:
        assert name
        assert name[0] not in ".-"
        assert not set(name) & set('/\\:*?"<>| \n\t')
        assert len(name.encode()) <= 250


def test_the_right_source_is_opened(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    import cv2
    import numpy as np

    (tmp_path / "walk").mkdir()
    assert cv2.imwrite(str(tmp_path / "walk/1.png"), np.zeros((8, 8, 3), np.uint8))
    with open_source(make_video(), "a", ReadConfig()) as opened:
        assert isinstance(opened, VideoSource)
    with open_source(tmp_path / "walk", "b", ReadConfig()) as opened:
        assert isinstance(opened, ImageFolderSource)
        assert opened.name == "b"


def test_the_sample_clip_ships_with_the_package() -> None:
    assert sample_path().is_file()
