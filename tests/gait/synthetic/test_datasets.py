from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gait.data.check import check
from gait.data.dataset import FolderDataset, GaitDataset
from gait.data.pack import PackedDataset
from gait.data.partition import load_partition, partition_for
from gait.data.pickles import read_silhouettes, write_silhouettes
from gait.errors import DataError
from gait.evaluation.protocols import evaluate
from gait.silhouette import normalise
from gait.synthetic import write
from gait.synthetic.filming import film
from gait.synthetic.noise import SegmentationNoise
from gait.synthetic.plan import Band, Plan
from gait.synthetic.recipes import LabRecipe, WildRecipe
from gait.synthetic.walkers import person
from gait.synthetic.write import RECIPE_NAME, make

SMALL = WildRecipe(people=2, test_people=2, sequences=4, frames=6)


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wild") / "out"
    make(SMALL, out)
    return out


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lab") / "out"
    make(LabRecipe(people=2, frames=1), out, is_packed=True)
    return out / "lab.gaitpack"


def pixels(dataset: GaitDataset) -> dict[str, bytes]:
    return {str(key): dataset[index].tobytes() for index, key in enumerate(dataset.keys)}


def digest(out: Path) -> str:
    return str(json.loads((out / RECIPE_NAME).read_text())["digest"])


def pooled(dataset: GaitDataset) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return an embedding that anybody can make: the mean silhouette, coarsely."""
    means = np.stack([dataset[index].mean(axis=0) for index in range(len(dataset))])
    return means.reshape(len(means), 16, -1).transpose(0, 2, 1).astype(np.float32)


def test_wild_is_a_sound_data_set_with_its_partitions(wild: Path) -> None:
    for name in ("partition.json", "partition-unseen-views.json"):
        report = check(wild, partition_path=wild / name)
        assert [each for each in report.findings if each.severity == "error"] == []
        partition = load_partition(wild / name)
        assert (len(partition.train), len(partition.test)) == (2, 2)
        assert partition.probe
    assert report.num_sequences == 2 * 4 + 2 * 6


def test_wild_can_be_evaluated_as_gait3d(wild: Path) -> None:
    partition = load_partition(wild / "partition.json")
    tests = FolderDataset(wild).select(partition.test)
    found = evaluate("gait3d", pooled(tests), tests.keys, probe_set=partition.probe)
    assert 0.0 <= found.metrics["rank-1"] <= 1.0


def test_lab_is_numbered_as_casia_b_and_evaluated_as_it(lab: Path) -> None:
    dataset = PackedDataset(lab)
    partition = load_partition(lab.parent / "partition.json")
    by_rule = partition_for("casia-b", {key.subject for key in dataset.keys})
    assert (partition.train, partition.test) == (by_rule.train, by_rule.test)
    assert partition.train == ["001"]
    assert partition.test == ["075"]
    assert len(dataset) == 2 * 10 * 11
    tests = dataset.select(partition.test)
    found = evaluate("casia-b", pooled(tests), tests.keys)
    assert found.metrics
    report = check(lab, partition_path=lab.parent / "partition.json")
    assert report.num_errors == 0


def test_the_pixels_follow_from_the_seed_whatever_the_number_of_workers(
    wild: Path, tmp_path: Path
) -> None:
    made = make(SMALL, tmp_path / "again", num_workers=2, is_packed=True)
    assert made.digest == digest(wild)
    assert pixels(PackedDataset(made.data)) == pixels(FolderDataset(wild))
    other = make(SMALL.model_copy(update={"seed": 1}), tmp_path / "other")
    assert other.digest != made.digest


def test_the_pixels_of_a_seed_are_what_they_were() -> None:
    """Whoever changes bodies, motion or dress on purpose raises `write.FORMAT` and this digest."""
    plan = LabRecipe(people=2, frames=1).plan()
    first = replace(plan.subjects[0], walks=plan.subjects[0].walks[:1])
    silhouettes = np.concatenate(film(plan.seed, first, SegmentationNoise()))
    assert hashlib.sha256(silhouettes.tobytes()).hexdigest()[:16] == "ed0c469021eab6e2"


def test_more_people_leave_the_others_as_they_are(wild: Path, tmp_path: Path) -> None:
    more = make(SMALL.model_copy(update={"people": 3}), tmp_path / "more", is_packed=True)
    before, after = pixels(FolderDataset(wild)), pixels(PackedDataset(more.data))
    assert {key: after[key] for key in before} == before


def test_an_interrupted_folder_is_gone_on_with_to_the_same_end(
    wild: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = write.write_silhouettes, []

    def breaks(path: Path, silhouettes: Any) -> None:
        if len(written) == 5:
            raise DataError("disk full")
        written.append(path)
        real(path, silhouettes)

    monkeypatch.setattr(write, "write_silhouettes", breaks)
    with pytest.raises(DataError, match="disk full"):
        make(SMALL, tmp_path / "out")
    assert json.loads((tmp_path / "out" / RECIPE_NAME).read_text())["digest"] is None
    assert not (tmp_path / "out" / "partition.json").exists()
    monkeypatch.setattr(write, "write_silhouettes", real)
    stamp = written[0].stat().st_mtime_ns
    made = make(SMALL, tmp_path / "out")
    assert made.digest == digest(wild)
    assert written[0].stat().st_mtime_ns == stamp


def test_a_complete_set_whose_files_changed_is_not_passed_off_as_the_same(tmp_path: Path) -> None:
    make(SMALL, tmp_path / "out")
    told = (tmp_path / "out" / RECIPE_NAME).read_text()
    file = next((tmp_path / "out").glob("0*/*/*/*.pkl"))
    write_silhouettes(file, 255 - read_silhouettes(file))
    with pytest.raises(DataError, match="files were changed since"):
        make(SMALL, tmp_path / "out")
    assert (tmp_path / "out" / RECIPE_NAME).read_text() == told
    file.unlink()  # what is merely missing comes back
    assert make(SMALL, tmp_path / "out").digest == json.loads(told)["digest"]


def test_an_interrupted_pack_leaves_no_pack(tmp_path: Path) -> None:
    def stops(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(SMALL, tmp_path / "out", is_packed=True, on_silhouettes=stops)
    assert [each.name for each in (tmp_path / "out").iterdir()] == [RECIPE_NAME]


def test_what_a_kill_left_of_a_pack_goes_with_the_next_run(tmp_path: Path) -> None:
    recipe = LabRecipe(people=2, frames=1)
    make(recipe, tmp_path / "out", is_packed=True)
    (tmp_path / "out" / ".lab.gaitpack.4711.part").write_bytes(b"half a pack")
    make(recipe, tmp_path / "out", is_packed=True)
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "lab.gaitpack", "partition.json", RECIPE_NAME,
    }  # fmt: skip


def test_a_folder_with_anything_else_in_it_is_refused(wild: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="same recipe"):
        make(SMALL.model_copy(update={"frames": 7}), wild)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="new or an empty folder"):
        make(SMALL, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "values",
    [
        {"people": 0},
        {"frames": 0},
        {"sequences": 1},
        {"pitch": (10.0, 50.0)},
        {"pitch": (20.0, 10.0)},
        {"seed": -1},
        {"fps": ()},
        {"conditions": {"nm": float("inf")}},
        {"unseen_azimuth": (0.0, 90.0), "unseen_pitch": (0.0, 40.0)},
    ],
)
def test_impossible_recipes_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WildRecipe.model_validate(values)


def test_nobody_trains_with_the_views_held_out() -> None:
    plan = WildRecipe(people=60, test_people=20).plan()
    band = Band((35.0, 60.0), (6.0, 14.0))
    names = plan.partitions["partition-unseen-views.json"]
    for subject in plan.subjects:
        is_test = subject.name in names["TEST_SET"]
        for walk in subject.walks:
            (view,) = walk.views
            is_unseen = str(view.key) in names["PROBE_SET"]
            assert band.holds(view.azimuth, view.pitch) == is_unseen
            assert (view.avoided is None) == is_test


def test_frames_that_stray_into_a_held_out_view_are_left_out() -> None:
    plan = WildRecipe(people=1, test_people=1, sequences=2, frames=6, noise=False).plan()
    subject = plan.subjects[0]
    everything = Band((0.0, 90.0), (0.0, 90.0))
    walks = tuple(
        replace(
            walk,
            num_frames=6,
            views=tuple(
                replace(view, avoided=everything, drop=0.0, occluder=None) for view in walk.views
            ),
        )
        for walk in subject.walks
    )
    kept = film(plan.seed, replace(subject, walks=walks), SegmentationNoise())
    assert all(len(each) < 6 for each in kept)


def test_views_cover_what_a_surveillance_camera_sees() -> None:
    plan = WildRecipe(people=200, test_people=1).plan()
    views = [view for each in plan.subjects for walk in each.walks for view in walk.views]
    azimuth = np.array([view.azimuth for view in views])
    pitch = np.array([view.pitch for view in views])
    height = np.array([view.height_px for view in views])
    assert (np.histogram(azimuth, 8, (0, 360))[0] > len(views) / 16).all()
    usual = (pitch > 20) & (pitch < 35) & (height > 60) & (height < 120)
    assert usual.mean() > 0.12
    assert height.min() < 45
    assert height.max() > 180


def test_probes_are_a_quarter_of_each_persons_walks_and_never_all() -> None:
    for sequences, probes in ((2, 1), (12, 3)):
        plan = WildRecipe(people=1, test_people=4, sequences=sequences).plan()
        assert len(plan.partitions["partition.json"]["PROBE_SET"]) == 4 * probes


def test_a_person_is_the_same_whoever_asks() -> None:
    first, again, other = person(0, 7), person(0, 7), person(0, 8)
    np.testing.assert_array_equal(first.body.vertices, again.body.vertices)
    assert first.style.cadence == again.style.cadence
    assert first.clothes(2) == again.clothes(2)
    assert first.clothes(1) != first.clothes(2)
    assert first.style.cadence != other.style.cadence


def test_silhouettes_fill_the_rows_and_stand_in_the_middle() -> None:
    plan = LabRecipe(people=2, frames=2).plan()
    for sequence in film(plan.seed, plan.subjects[0], SegmentationNoise()):
        assert sequence.shape == (2, 64, 64)
        assert sequence.dtype == np.uint8
        assert (sequence[:, [0, -1]].max(axis=2) > 0).all()
        columns = sequence.sum(axis=(0, 1), dtype=np.int64)
        assert abs(float(columns @ np.arange(64)) / columns.sum() - 32) < 4
        assert not isinstance(normalise(sequence[0]), str)


def test_all_cameras_of_the_laboratory_see_the_same_walk() -> None:
    plan: Plan = LabRecipe(people=2, frames=1).plan()
    films = dict(
        zip(
            plan.subjects[0].keys,
            film(plan.seed, plan.subjects[0], SegmentationNoise()),
            strict=True,
        )
    )
    front, behind = (
        next(films[key] for key in films if key.condition == "nm-01" and key.view == view)
        for view in ("000", "180")
    )
    # from afar the view from behind is nearly the mirror image of the one from ahead
    mirrored = behind[0][:, ::-1]
    overlap = np.minimum(front[0], mirrored).sum() / np.maximum(front[0], mirrored).sum()
    assert overlap > 0.75
