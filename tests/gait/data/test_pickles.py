from __future__ import annotations

import os
import pickle
import resource
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gait.data.pickles import read_pickle, read_silhouettes, write_silhouettes
from gait.errors import DataError


class RunsCode:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files may not grow beyond 10 kB: the system refuses the write as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_silhouettes(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read_again(
    silhouettes: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "001" / "nm-01" / "000" / "000.pkl"
    write_silhouettes(path, silhouettes(1))
    np.testing.assert_array_equal(read_silhouettes(path), silhouettes(1))
    assert [each.name for each in path.parent.iterdir()] == ["000.pkl"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 0, 2)])
def test_an_array_is_read_as_it_was_in_whatever_order_its_memory_lay(
    axes: tuple[int, ...],
    protocol: int,
    silhouettes: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    lying = np.ascontiguousarray(silhouettes(1).transpose(axes)).transpose(np.argsort(axes))
    (tmp_path / "000.pkl").write_bytes(pickle.dumps(lying, protocol))
    np.testing.assert_array_equal(read_silhouettes(tmp_path / "000.pkl"), silhouettes(1))


def test_an_ordinary_unpickler_of_an_old_numpy_reads_what_is_written(
    silhouettes: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "000.pkl"
    write_silhouettes(path, silhouettes(1))
    assert b"numpy._core" not in path.read_bytes()
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy.core moved in numpy 2
        np.testing.assert_array_equal(pickle.load(file), silhouettes(1))


def test_a_pickle_that_would_run_code_is_refused_by_name_and_nothing_runs(
    to_pickle: Callable[..., Path], tmp_path: Path
) -> None:
    path = to_pickle(tmp_path, "001/nm-01/000", RunsCode(tmp_path / "owned"))
    assert "nothing was run" in refused(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((0, 64, 44), np.uint8), "at least one silhouette"),
        (np.ones((3, 64, 44), np.float32), "float32"),
        (np.full((3, 64, 24), 255, np.uint8), "cut a second time"),
        (np.full((3, 64, 50), 255, np.uint8), "(3, 64, 50)"),
        ([np.zeros((64, 44), np.uint8), np.zeros((64, 64), np.uint8)], "got a list"),
        (np.array([np.zeros(3), np.zeros(4)], dtype=object), "object"),
        (np.zeros((3, 64, 44), np.uint8), "only black frames"),
        (np.ones((3, 64, 44), np.uint8), "multiply them by 255"),
    ],
    ids=["empty", "dtype", "cut twice", "width", "list", "ragged", "black", "zero and one"],
)
def test_a_pickle_that_holds_no_silhouettes_is_refused_in_words(
    array: object, says: str, to_pickle: Callable[..., Path], tmp_path: Path
) -> None:
    assert says in refused(to_pickle(tmp_path, "001/nm-01/000", array))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_pickle_is_refused(
    share: float, silhouettes: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "000.pkl"
    write_silhouettes(path, silhouettes(1))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "damaged" in refused(path)


def test_a_missing_pickle_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.pkl.*No such file"):
        read_pickle(tmp_path / "none.pkl")


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_and_no_half_one(
    silhouettes: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "000.pkl"
    write_silhouettes(path, silhouettes(1, 2))
    with pytest.raises(DataError, match=r"000\.pkl: cannot write it"):
        write_silhouettes(path, silhouettes(2, 40))
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(read_silhouettes(path), silhouettes(1, 2))
