"""The tracklets that come with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gait.errors import DataError
from gait.runtimes import reference
from gait.runtimes.reference import calibration_tracklets, pack_tracklets, reference_tracklets


def test_they_are_silhouettes_of_all_lengths_from_one_frame_on() -> None:
    lengths = [len(each) for each in reference_tracklets()]
    assert len(lengths) == 16
    assert (min(lengths), max(lengths)) == (1, 64)
    for each in (*reference_tracklets(), *calibration_tracklets()):
        assert each.dtype == np.uint8
        assert each.shape[1:] == (64, 44)
        assert (each.reshape(len(each), -1).max(axis=1) > 200).all()  # somebody is in each


def test_nobody_is_calibrated_with_what_is_compared() -> None:
    compared = {frame.tobytes() for each in reference_tracklets() for frame in each}
    assert not any(
        frame.tobytes() in compared for each in calibration_tracklets() for frame in each
    )


def test_the_file_is_small_and_can_be_packed_again() -> None:
    content = pack_tracklets(reference_tracklets(), calibration_tracklets())
    assert len(content) == reference.FILE.stat().st_size < 300_000


def test_callers_cannot_change_what_the_next_one_gets() -> None:
    with pytest.raises(ValueError, match="read-only"):
        reference_tracklets()[0][:] = 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more", b"\x80\x04N."])
def test_a_damaged_installation_is_said(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "reference.npz"
    damaged.write_bytes(content)
    monkeypatch.setattr(reference, "FILE", damaged)
    with pytest.raises(DataError, match="reinstall"):
        reference_tracklets()


def test_lengths_that_do_not_add_up_are_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.zeros((3, 64, 44), np.uint8)
    damaged = tmp_path / "reference.npz"
    np.savez(
        damaged,
        reference=frames,
        reference_lengths=[2],
        calibration=frames,
        calibration_lengths=[3],
    )
    monkeypatch.setattr(reference, "FILE", damaged)
    with pytest.raises(DataError, match="reinstall"):
        reference_tracklets()
