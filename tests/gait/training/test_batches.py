from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from gait.data.dataset import FolderDataset
from gait.data.pack import write_pack
from gait.errors import ConfigError, DataError
from gait.training.batches import Batch, BatchReader, open_sides
from gait.training.config import TrainingConfig

MakeConfig = Callable[..., TrainingConfig]


def reader(config: TrainingConfig, **place: int) -> BatchReader:
    return BatchReader(open_sides(config.data).train, config, **place)


def same(one: Batch, other: Batch) -> bool:
    return (
        one.number == other.number
        and bool((one.silhouettes == other.silhouettes).all())
        and bool((one.labels == other.labels).all())
        and one.keys == other.keys
        and np.array_equal(one.draws.degrees, other.draws.degrees)
    )


def test_batches_depend_on_seed_and_number_alone(make_config: MakeConfig) -> None:
    config = make_config()
    from_start = list(islice(reader(config).batches(0), 5))
    resumed = list(islice(reader(config).batches(3), 2))
    assert all(same(a, b) for a, b in zip(from_start[3:], resumed, strict=True))
    assert not same(from_start[0], reader(make_config(seed=1)).read(0))
    assert not (from_start[0].silhouettes == from_start[1].silhouettes).all()


@pytest.mark.parametrize("workers", [1, 5])
def test_reading_ahead_keeps_the_order(workers: int, make_config: MakeConfig) -> None:
    batches = reader(make_config(data={"workers": workers, "ahead": 7})).batches(0)
    assert [batch.number for batch in islice(batches, 12)] == list(range(12))


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batch_of_one(world_size: int, make_config: MakeConfig) -> None:
    config = make_config()
    whole = reader(config).read(5)
    for rank in range(world_size):
        part, places = reader(config, rank=rank, world_size=world_size).read(5), slice(
            rank, None, world_size
        )  # fmt: skip
        assert (part.silhouettes == whole.silhouettes[places]).all()
        assert (part.labels == whole.labels[places]).all()
        assert np.array_equal(part.draws.corners, whole.draws.corners[places])


def test_a_batch_is_p_subjects_times_k_sequences(make_config: MakeConfig) -> None:
    batch = reader(make_config()).read(0)
    assert batch.silhouettes.shape == (8, 4, 64, 44)
    subjects, counts = np.unique([key.subject for key in batch.keys], return_counts=True)
    assert len(subjects) == 4
    assert set(counts) == {2}
    assert [int(key.subject) for key in batch.keys] == batch.labels.tolist()


def test_ordered_sampling_draws_one_number_of_frames_a_batch(make_config: MakeConfig) -> None:
    sampling = {"kind": "ordered", "min_frames": 3, "max_frames": 9}
    config = TrainingConfig.model_validate(make_config().model_dump() | {"sampling": sampling})
    lengths = {reader(config).read(number).silhouettes.shape[1] for number in range(12)}
    assert lengths <= set(range(3, 10))
    assert len(lengths) > 2


def test_a_batch_that_processes_cannot_share_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="batch"):
        reader(make_config(), rank=0, world_size=3)


def test_a_packed_data_set_gives_the_same_batches(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    write_pack(FolderDataset(Path(config.data.path)), tmp_path / "d.gaitpack")
    packed = make_config(data={"path": str(tmp_path / "d.gaitpack")})
    assert same(reader(config).read(2), reader(packed).read(2))


@pytest.fixture
def own_tree(tree: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy to be damaged."""
    data = Path(shutil.copytree(tree[0], tmp_path / "data"))
    partition = Path(shutil.copy(tree[1], tmp_path / "partition.json"))
    return data, partition


def config_of(make_config: MakeConfig, own_tree: tuple[Path, Path]) -> TrainingConfig:
    return make_config(data={"path": str(own_tree[0]), "partition": str(own_tree[1])})


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize(
    "content",
    ["empty file", "code", np.zeros((0, 64, 44), np.uint8), np.zeros((5, 64, 44)), "cut"],
    ids=["empty", "code", "no frames", "float64", "truncated"],
)
def test_a_bad_sequence_stops_the_batch_and_is_named(
    content: object, make_config: MakeConfig, own_tree: tuple[Path, Path], tmp_path: Path
) -> None:
    bad = own_tree[0] / "002" / "nm-01" / "000" / "000.pkl"
    target = tmp_path / "owned"
    good = bad.read_bytes()
    written = {"empty file": b"", "code": pickle.dumps(Malicious(target)), "cut": good[:-100]}
    bad.write_bytes(written[content] if isinstance(content, str) else pickle.dumps(content))
    with pytest.raises(DataError, match=str(bad)):
        list(islice(reader(config_of(make_config, own_tree)).batches(0), 30))
    assert not target.exists()


def test_two_widths_in_one_batch_are_named(
    make_config: MakeConfig, own_tree: tuple[Path, Path]
) -> None:
    other = own_tree[0] / "001" / "nm-02" / "000" / "000.pkl"
    other.write_bytes(pickle.dumps(np.full((9, 64, 64), 255, np.uint8)))
    with pytest.raises(DataError, match=r"-nm-.*64, 44|-nm-.*64, 64"):
        list(islice(reader(config_of(make_config, own_tree)).batches(0), 30))


def test_strays_and_single_sequences_are_told(
    make_config: MakeConfig, own_tree: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    data, partition = own_tree
    sides = json.loads(partition.read_text())
    sides["TRAIN_SET"] = [*sides["TRAIN_SET"][1:], "900"]
    partition.write_text(json.dumps(sides))
    for take in ("01", "02", "03"):
        shutil.rmtree(data / "003" / f"nm-{take}")
    with caplog.at_level(logging.WARNING):
        batches = reader(config_of(make_config, own_tree))
    assert "1 subjects of the partition are not there: 900" in caplog.text
    assert "1 subjects are in no side of the partition and are left out: 000" in caplog.text
    assert "1 training subjects have one sequence, which is repeated: 003" in caplog.text
    assert batches.class_num == 5
    assert batches.read(0).silhouettes.shape[0] == 8


def test_nobody_to_train_with_is_refused(
    make_config: MakeConfig, own_tree: tuple[Path, Path]
) -> None:
    own_tree[1].write_text(json.dumps({"TRAIN_SET": ["000"], "TEST_SET": []}))
    with pytest.raises(DataError, match="at least two subjects"):
        reader(config_of(make_config, own_tree))


def test_own_data_without_a_partition_is_refused(make_config: MakeConfig) -> None:
    config = make_config(data={"partition": None})
    with pytest.raises(ConfigError, match=r"data\.partition"):
        open_sides(config.data)
