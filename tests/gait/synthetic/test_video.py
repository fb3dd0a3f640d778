from __future__ import annotations

import configparser
import errno
import hashlib
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from gait.errors import DataError
from gait.synthetic.ground_truth import decode_rle, tight_box
from gait.synthetic.mp4 import Mp4
from gait.synthetic.scene import Scene, draw_scene
from gait.synthetic.scene_config import SceneConfig
from gait.synthetic.video import WriteOptions, _Tracks, backgrounds, shoot, write_scene

CONFIG = SceneConfig(seed=2, people=3, duration_s=2.4, fps=5, width=320, height=240)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw_scene(CONFIG)


@pytest.fixture(scope="module")
def written(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "out"
    write_scene(scene, out)
    return out


def rows(folder: Path) -> np.ndarray:
    return np.loadtxt(folder / "gt" / "gt.txt", delimiter=",", ndmin=2)


def test_every_camera_has_a_video_of_every_frame(written: Path) -> None:
    for name in ("a", "b"):
        with av.open(str(written / f"{name}.mp4")) as video:
            frames = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
            assert video.streams.video[0].average_rate == 5
        assert len(frames) == CONFIG.num_frames
        assert frames[0].shape == (240, 320, 3)
    assert not [each for each in written.parent.iterdir() if each.name.startswith(".")]


def test_masks_boxes_and_tracks_agree_between_the_files(written: Path) -> None:
    for name in ("a", "b"):
        coco = json.loads((written / name / "masks.json").read_text())
        annotations = coco["annotations"]
        boxes = [(each["image_id"], each["track_id"], *each["bbox"]) for each in annotations]
        assert boxes == [tuple(map(int, row[:6])) for row in rows(written / name)]
        assert len(boxes) > 5
        for each in annotations:
            mask = decode_rle(each["segmentation"]["counts"], (240, 320))
            assert each["segmentation"]["size"] == [240, 320]
            assert tight_box(mask) == tuple(each["bbox"])
            assert mask.sum() == each["area"]
            assert 0 < each["visible"] <= 1
        images = {each["id"] for each in coco["images"]}
        assert images == set(range(1, CONFIG.num_frames + 1))


def test_people_keep_their_identity_across_cameras_and_tracks(written: Path) -> None:
    described = json.loads((written / "scene.json").read_text())
    people = {each["identity"] for each in described["people"]}
    for camera in described["cameras"]:
        coco = json.loads((written / camera["name"] / "masks.json").read_text())
        pairs = {(each["track_id"], each["identity"]) for each in coco["annotations"]}
        assert len({track for track, _ in pairs}) == len(pairs)  # a track is one person
        assert {identity for _, identity in pairs} <= people


def test_no_pixel_belongs_to_two_people(written: Path) -> None:
    coco = json.loads((written / "a" / "masks.json").read_text())
    for image in coco["images"]:
        masks = [
            decode_rle(each["segmentation"]["counts"], (240, 320)).astype(int)
            for each in coco["annotations"]
            if each["image_id"] == image["id"]
        ]
        assert not masks or np.sum(masks, axis=0).max() == 1


def test_the_calibration_says_where_people_stand(scene: Scene, written: Path) -> None:
    described = json.loads((written / "scene.json").read_text())
    coco = json.loads((written / "a" / "masks.json").read_text())
    calibration = {
        key: np.array(each) for key, each in described["cameras"][0]["calibration"].items()
    }
    numbers = {each["identity"]: at for at, each in enumerate(described["people"])}
    checked = 0
    for each in coco["annotations"]:
        frame = each["image_id"] - 1
        for visit in scene.visits:
            if visit.extra != numbers[each["identity"]] or each["visible"] < 1:
                continue
            if visit.first_frame <= frame < visit.end_frame:
                x, y = visit.motion.position[frame - visit.first_frame]
                seen = calibration["K"] @ (calibration["R"] @ [x, y, 0.9] + calibration["t"])
                left, top, width, height = each["bbox"]
                assert left <= seen[0] / seen[2] <= left + width
                assert top <= seen[1] / seen[2] <= top + height
                checked += 1
    assert checked > 5


def test_seqinfo_tells_size_and_rate(written: Path) -> None:
    info = configparser.ConfigParser()
    info.read(written / "b" / "seqinfo.ini")
    section = info["Sequence"]
    assert (section["imWidth"], section["imHeight"], section["frameRate"]) == ("320", "240", "5")
    assert section["seqLength"] == str(CONFIG.num_frames)


def test_the_same_seed_gives_the_same_ground_truth(written: Path, tmp_path: Path) -> None:
    write_scene(draw_scene(CONFIG), tmp_path / "again")
    for name in ("scene.json", "a/masks.json", "a/gt/gt.txt", "b/masks.json"):
        digests = {
            hashlib.sha256((root / name).read_bytes()).digest()
            for root in (written, tmp_path / "again")
        }
        assert len(digests) == 1, name


def test_uncalibrated_cameras_say_nothing_of_their_place(scene: Scene, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "b.png"), np.full((240, 320, 3), 99, np.uint8))
    options = WriteOptions(backgrounds=(tmp_path / "b.png",), calibrated=False)
    write_scene(scene, tmp_path / "out", options)
    described = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert [each["calibration"] for each in described["cameras"]] == [None, None]
    assert described["background"] == "file"


def test_an_existing_folder_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(DataError, match="exists already; choose another folder"):
        write_scene(scene, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_a_full_disk_leaves_nothing_behind(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Mp4, image: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Mp4, "add", full)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((240, 320, 3), 99, np.uint8))
    with pytest.raises(DataError, match="No space left on device"):
        write_scene(scene, tmp_path / "out", WriteOptions(backgrounds=(tmp_path / "b.png",)))
    assert [each.name for each in tmp_path.iterdir()] == ["b.png"]


def test_as_many_backgrounds_as_cameras_or_one(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected one file or one for each of 2 cameras, got 3"):
        backgrounds(scene, [tmp_path / "a.png"] * 3)


def test_who_comes_back_is_a_new_track_and_who_is_hidden_is_not() -> None:
    tracks = _Tracks(longest_gap=3)
    tracks.present(7, 0)
    assert tracks.id_of(7) == 1
    for frame in range(1, 30):  # hidden by somebody, but within the frame
        tracks.present(7, frame)
    assert tracks.id_of(7) == 1
    tracks.present(8, 30)
    tracks.present(7, 32)
    assert (tracks.id_of(8), tracks.id_of(7)) == (2, 1)
    tracks.present(7, 36)
    assert tracks.id_of(7) == 3


def test_the_picture_shows_people_where_the_masks_are(scene: Scene) -> None:
    outlook, (background, _) = scene.outlooks[0], backgrounds(scene)
    inside, outside = [], []
    for shot in shoot(scene, outlook, background, noise=0.0):
        change = np.abs(shot.image.astype(int) - background.image).sum(axis=2)
        masks = [decode_rle(each.counts, (240, 320)) for each in shot.appearances]
        if masks:
            covered = np.any(masks, axis=0)
            inside.append(change[covered].mean())
            outside.append(np.median(change[~covered]))
    assert np.mean(inside) > 4 * np.mean(outside)
