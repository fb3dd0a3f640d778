from __future__ import annotations

import json
from pathlib import Path

import pytest

from gait.data.datasets import DATASETS
from gait.data.partition import Partition, load_partition, partition_for
from gait.errors import DataError


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "partition.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "subjects", "first_test"),
    [
        ("casia-b", [f"{i:03}" for i in range(1, 125)], "075"),
        ("ou-mvlp", [f"{i:05}" for i in range(1, 10308)], "00002"),
        ("ccpg", [f"{i:03}" for i in range(200)], "100"),
        ("sustech1k", [f"{i:04}" for i in range(1050)], "0250"),
        (
            "grew",
            [f"{i:05}train" for i in range(1, 20001)]
            + [f"{i:05}" for i in range(1, 6001)]
            + ["probe"],
            "00001",
        ),
    ],
)
def test_the_rules_give_the_published_sizes(
    name: str, subjects: list[str], first_test: str
) -> None:
    partition = partition_for(name, subjects)
    assert len(partition.train) == DATASETS[name].num_train
    assert len(partition.test) == DATASETS[name].num_test
    assert partition.test[0] == first_test
    assert not set(partition.train) & set(partition.test)


def test_ou_mvlps_last_subject_tests_although_it_is_odd() -> None:
    assert partition_for("ou-mvlp", ["10305", "10306", "10307"]) == Partition(
        ["10305"], ["10306", "10307"]
    )


@pytest.mark.parametrize("subject", ["000", "125", "abc", "-1", "٣"])
def test_a_subject_the_rule_does_not_know_is_in_neither_list(subject: str) -> None:
    assert partition_for("casia-b", [subject]) == Partition([], [])


def test_a_split_that_is_a_list_asks_for_its_file() -> None:
    with pytest.raises(DataError, match="Gait3D: expected the path of its partition file"):
        partition_for("gait3d", ["0000"])
    with pytest.raises(DataError, match="expected one of casia-b"):
        partition_for("casia", ["000"])


def test_a_partition_file_keeps_its_order_and_its_probes(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"TRAIN_SET": ["2", "1"], "TEST_SET": ["4", "3"], "PROBE_SET": ["4-camid0_videoid2-seq0"]},
    )
    partition = load_partition(path)
    assert partition == Partition(["2", "1"], ["4", "3"], frozenset({"4-camid0_videoid2-seq0"}))
    assert partition.among(["3", "1"]) == Partition(["1"], ["3"], partition.probe)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "as JSON"),
        ([], "expected the keys TRAIN_SET"),
        ({"TRAIN_SET": []}, "expected the keys TRAIN_SET"),
        ({"TRAIN_SET": [], "TEST_SET": [], "TETS_SET": []}, "TETS_SET"),
        ("[" * 100_000, "as JSON"),
        ({"TRAIN_SET": [*range(20_000)], "TEST_SET": []}, r"got 0, 1, 2, 3, 4 and 19995 more$"),
        ({"TRAIN_SET": "001", "TEST_SET": []}, "expected a list of texts"),
        ({"TRAIN_SET": ["1"], "TEST_SET": ["1"]}, "nobody in both"),
        ({"TRAIN_SET": ["1", "1"], "TEST_SET": []}, "got twice: 1"),
    ],
)
def test_a_partition_of_another_form_is_refused_in_words(
    content: object, says: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=says) as caught:
        load_partition(path)
    assert str(path) in str(caught.value)


def test_a_missing_partition_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot read"):
        load_partition(tmp_path / "none.json")
