"""A scene with drawn walkers and known truth goes through the whole evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gait.encoder import Encoder
from gait.errors import DataError
from gait.synthetic.ground_truth import Appearance, CameraTruth, encode_rle, tight_box
from pipeline.evaluation.cross_camera import judge
from pipeline.evaluation.looks import between, looks
from pipeline.evaluation.perceive import STAGES, mask_iou, perceive
from pipeline.evaluation.perceived import Perceived
from pipeline.evaluation.scene import Scene
from trackers.boxes import Mask

HW = (160, 320)
ALL_TOLD = STAGES[-1]
FRAMES = 40
# Who wears what, where they start on either camera, and how broad and how quick they are.
PEOPLE = {
    "p001": ((40, 40, 220), 12, 0.9),
    "p002": ((220, 60, 40), 20, 0.5),
    "p003": ((40, 190, 60), 16, 1.4),
}


def walker(breadth: int, phase: float) -> NDArray[np.bool_]:
    """Shape (100, 60)."""
    image = np.zeros((100, 60), np.uint8)
    cv2.circle(image, (30, 9), 8, 255, -1)
    cv2.ellipse(image, (30, 38), (breadth // 2 + 3, 24), 0, 0, 360, 255, -1)
    for side in (-1, 1):
        cv2.line(image, (30, 52), (int(30 + side * np.sin(phase) * 20), 98), 255, 8)
    return image > 0


def draw(camera: str, index: int) -> tuple[NDArray[np.uint8], list[tuple[str, NDArray[np.bool_]]]]:
    """The picture, and each person's mask; on camera b they walk the other way."""
    image = np.full((*HW, 3), 110, np.uint8)
    masks = []
    for place, (who, (colour, breadth, pace)) in enumerate(PEOPLE.items()):
        left = 10 + 90 * place + index
        if camera == "b":
            left = HW[1] - 70 - left
        patch = walker(breadth, pace * index / 2 + place)
        mask = np.zeros(HW, bool)
        mask[40:140, left : left + 60] = patch
        image[mask] = colour
        masks.append((who, mask))
    return image, masks


@pytest.fixture
def scene(tmp_path: Path, make_video: Callable[..., Path]) -> Scene:
    """Written as `trackletgait synth video` does, but for what the evaluation does not read."""
    for camera in "ab":
        make_video(
            f"{camera}.mp4",
            num_frames=FRAMES,
            size=HW[::-1],
            draw=lambda index, size, camera=camera: draw(camera, index)[0],
        )
        truth = CameraTruth(camera, HW[1], HW[0], 25.0)
        for index in range(FRAMES):
            for number, (who, mask) in enumerate(draw(camera, index)[1], start=1):
                left, top, width, height = box = tight_box(mask) or (0, 0, 0, 0)
                counts = encode_rle(mask[top : top + height, left : left + width], left, top, HW)
                visible = 0.1 if who == "p003" and index < 5 else 1.0
                area = int(mask.sum())
                truth.appearances.append(
                    Appearance(index, number, who, box, box, area, visible, counts)
                )
        truth.write(tmp_path / camera, FRAMES)
    (tmp_path / "scene.json").write_text(json.dumps({"cameras": [{"name": "a"}, {"name": "b"}]}))
    return Scene.load(tmp_path)


def test_a_scene_knows_who_is_where_and_who_need_not_be_found(scene: Scene) -> None:
    assert scene.people == set(PEOPLE)
    counted, hidden = scene.cameras["a"].counted()
    assert (len(counted), len(hidden)) == (3 * FRAMES - 5, 5)
    assert set(hidden.who.tolist()) == {"p003"}
    assert scene.cameras["a"].num_walks == 3


def test_told_everything_perception_loses_nothing(scene: Scene, tmp_path: Path) -> None:
    perceived = perceive(scene, ALL_TOLD, tmp_path / "cache")
    seen = looks(scene, perceived, tmp_path / "looks.npz")
    encoder = Encoder.random("small", 0)
    judged = judge(scene, ALL_TOLD, perceived, encoder, threshold=0.0, looks=seen)
    followed = judged.followed
    assert (followed.recall, followed.precision, followed.purity) == (1.0, 1.0, 1.0)
    assert (followed.tracks_per_walk, followed.false_tracks, followed.usable) == (1.0, 0, 6)
    assert followed.mask_iou == 1.0
    assert judged.best == 1.0
    # the three on one camera are three of six names that three people can have
    assert judged.alone == pytest.approx(0.5, abs=0.02)
    assert judged.id_f1 == judged.alone, "at threshold 0 nobody is recognised again"
    assert judged.by_camera == {"a": 1.0, "b": 1.0}
    assert judged.hindsight >= judged.alone
    assert judged.retrieval["colours of the clothes"].rank1 == 1.0
    assert judged.retrieval["chance"].rank1 == pytest.approx(1 / 3)
    assert judged.retrieval["encoder"].num_probes == 6


def test_what_was_perceived_is_read_back_whole(scene: Scene, tmp_path: Path) -> None:
    told: list[str] = []
    first = perceive(scene, ALL_TOLD, tmp_path / "cache", told.append)
    assert told
    told.clear()
    again = perceive(scene, ALL_TOLD, tmp_path / "cache", told.append)
    assert not told
    for one, other in zip(first.tracklets, again.tracklets, strict=True):
        assert one.uid == other.uid
        assert one.boxes == other.boxes
        assert (one.boxes is None) == (len(one) == 0)
        assert (one.companions, one.reasons, one.is_last, one.seen_s, one.quality) == (
            other.companions, other.reasons, other.is_last, other.seen_s, other.quality,
        )  # fmt: skip
        np.testing.assert_array_equal(one.silhouettes, other.silhouettes)
        np.testing.assert_array_equal(one.times_s, other.times_s)
    for name, boxes in first.tracks.items():
        np.testing.assert_array_equal(boxes.xyxy, again.tracks[name].xyxy)
        assert boxes.who.tolist() == again.tracks[name].who.tolist()
    assert first.mask_iou == again.mask_iou


def test_looks_are_read_back_and_made_again_where_they_are_damaged(
    scene: Scene, tmp_path: Path
) -> None:
    perceived, kept = perceive(scene, ALL_TOLD, tmp_path / "cache"), tmp_path / "looks.npz"
    first = looks(scene, perceived, kept)
    written = kept.stat().st_mtime_ns
    again = looks(scene, perceived, kept)
    assert kept.stat().st_mtime_ns == written
    assert again.keys() == first.keys() >= {"colours of the clothes"}
    for way, of_way in first.items():
        assert of_way.keys() == {(camera, track) for camera in "ab" for track in (1, 2, 3)}
        np.testing.assert_array_equal(between(of_way, [*of_way]), between(again[way], [*of_way]))
    kept.write_bytes(kept.read_bytes()[:100])
    assert looks(scene, perceived, kept).keys() == first.keys()


def test_a_damaged_cache_is_made_anew(scene: Scene, tmp_path: Path) -> None:
    perceive(scene, ALL_TOLD, tmp_path / "cache")
    [path] = (tmp_path / "cache").glob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    assert Perceived.load(path) is None
    assert len(perceive(scene, ALL_TOLD, tmp_path / "cache").tracklets)


def test_nobody_in_view_is_ordinary(scene: Scene, tmp_path: Path) -> None:
    for camera in "ab":
        path = tmp_path / camera / "masks.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    empty = Scene.load(tmp_path)
    perceived = perceive(empty, ALL_TOLD, tmp_path / "cache")
    judged = judge(empty, ALL_TOLD, perceived, Encoder.random("small", 0), threshold=1.0)
    assert np.isnan(judged.followed.recall)
    assert judged.identities == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "scene.json").unlink(), r"cannot read .*scene\.json"),
        (lambda folder: (folder / "scene.json").write_text("{}"), "expected cameras"),
        (lambda folder: (folder / "b.mp4").unlink(), r"expected the video b\.mp4"),
        (lambda folder: (folder / "a" / "masks.json").write_text("{"), "expected JSON"),
        (
            lambda folder: (folder / "a" / "masks.json").write_text('{"annotations": [{}]}'),
            "expected annotations with",
        ),
    ],
)
def test_a_folder_that_is_no_scene_is_refused(
    scene: Scene, tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        Scene.load(tmp_path)


def test_masks_are_compared_in_the_frame() -> None:
    full = np.ones((4, 4), bool)
    assert mask_iou(Mask(full, 0, 0), Mask(full, 0, 0)) == 1.0
    assert mask_iou(Mask(full, 0, 0), Mask(full, 2, 0)) == pytest.approx(8 / 24)
    assert mask_iou(Mask(full, 0, 0), Mask(full, 9, 9)) == 0.0
    assert mask_iou(None, Mask(full, 0, 0)) == 0.0
