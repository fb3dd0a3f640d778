from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.errors import OutputError
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.tracklets import (
    TrackletStore,
    contact_sheet,
    gait_energy_image,
    read_tracklet,
    silhouette_strip,
)

Make = Callable[..., Any]


def test_a_tracklet_is_read_back_exactly(folder: ResultsFolder, tracklet: Make) -> None:
    boxes = (2.5, 1.0, 40.0, 120.0), (4.5, 1.0, 42.0, 121.0)
    written = replace(tracklet(stream="../<b> ü"), boxes=boxes)
    embedding = np.random.default_rng(1).normal(size=(256, 16)).astype(np.float32)
    path = TrackletStore(folder).write(written, embedding=embedding, identity="person-003")
    assert path is not None
    assert path.is_relative_to(folder.path / "streams")
    stored = read_tracklet(path)
    for name in ("silhouettes", "frame_indices", "times_s"):
        np.testing.assert_array_equal(getattr(stored.tracklet, name), getattr(written, name))
    for name in ("stream", "track_id", "seen_s", "quality", "reasons", "is_last", "boxes"):
        assert getattr(stored.tracklet, name) == getattr(written, name)
    assert stored.embedding is not None
    np.testing.assert_array_equal(stored.embedding, embedding)
    assert stored.identity == "person-003"


def test_a_tracklet_without_reasons_embedding_or_identity_is_read_back(
    folder: ResultsFolder, tracklet: Make
) -> None:
    path = TrackletStore(folder).write(tracklet())
    assert path is not None
    stored = read_tracklet(path)
    assert (stored.embedding, stored.identity) == (None, None)


def test_the_npz_is_smaller_than_a_quarter_of_its_pixels(
    folder: ResultsFolder, tracklet: Make
) -> None:
    path = TrackletStore(folder).write(tracklet())
    assert path is not None
    assert path.stat().st_size < 30 * 64 * 44 / 4


def test_an_empty_tracklet_writes_nothing(folder: ResultsFolder, tracklet: Make) -> None:
    assert TrackletStore(folder).write(tracklet(length=0)) is None
    assert not folder.streams.exists()


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_npz_is_refused_in_words(
    folder: ResultsFolder, tracklet: Make, damage: bytes | None
) -> None:
    path = TrackletStore(folder).write(tracklet())
    assert path is not None
    path.write_bytes(path.read_bytes()[:400] if damage is None else damage)
    with pytest.raises(OutputError, match="it is damaged"):
        read_tracklet(path)


def test_the_contact_sheet_shows_the_silhouettes_in_reading_order(tracklet: Make) -> None:
    walk = tracklet(length=12)
    sheet = contact_sheet(walk, identity="person-001")
    gap, header, cell_h, cell_w = 6, 56, 128, 88
    for index, (row, column) in {0: (0, 0), 9: (0, 9), 11: (1, 1)}.items():
        top = header + row * (cell_h + 14 + gap)
        left = gap + column * (cell_w + gap)
        cell = sheet[top : top + cell_h : 2, left : left + cell_w : 2, 0]
        np.testing.assert_array_equal(cell, walk.silhouettes[index])


def test_the_contact_sheet_beside_the_npz_is_the_one_drawn(
    folder: ResultsFolder, tracklet: Make
) -> None:
    path = TrackletStore(folder).write(tracklet(), identity="zoë")
    assert path is not None
    png = cv2.imread(str(path.with_suffix(".png")))
    np.testing.assert_array_equal(png, contact_sheet(tracklet(), identity="zoë"))


def test_a_long_tracklet_gets_a_sheet_of_bounded_size(tracklet: Make) -> None:
    assert contact_sheet(tracklet(length=700)).shape == contact_sheet(tracklet(length=60)).shape


def test_the_gait_energy_image_is_the_mean_silhouette(tracklet: Make) -> None:
    walk = tracklet(length=7).silhouettes
    naive = [[round(sum(int(s[y, x]) for s in walk) / 7) for x in range(44)] for y in range(64)]
    np.testing.assert_array_equal(gait_energy_image(walk), np.array(naive, dtype=np.uint8))


def test_a_strip_holds_first_and_last_and_no_more_than_asked(tracklet: Make) -> None:
    walk = tracklet(length=30).silhouettes
    strip = silhouette_strip(walk, 12)
    assert strip.shape == (64, 12 * 44)
    np.testing.assert_array_equal(strip[:, :44], walk[0])
    np.testing.assert_array_equal(strip[:, -44:], walk[-1])
    assert silhouette_strip(walk[:3], 12).shape == (64, 3 * 44)


def test_a_tracklet_that_continues_a_walk_says_so_in_its_npz_and_on_its_sheet(
    folder: ResultsFolder, tracklet: Make
) -> None:
    first, later = tracklet(length=8), replace(tracklet(length=8), offset=30)
    path = TrackletStore(folder).write(later)
    assert path is not None
    assert read_tracklet(path).tracklet.offset == 30
    differs = (contact_sheet(first) != contact_sheet(later)).any(axis=(1, 2))
    assert differs[:56].any()  # the caption
    assert not differs[56:].any()


def test_an_npz_from_before_walks_could_continue_or_told_their_places_is_read(
    folder: ResultsFolder, tracklet: Make
) -> None:
    path = TrackletStore(folder).write(tracklet())
    assert path is not None
    with np.load(path) as npz:
        older = {name: npz[name] for name in npz.files if name not in ("offset", "boxes")}
    np.savez_compressed(path, **older)
    read = read_tracklet(path).tracklet
    assert (read.offset, read.boxes) == (0, None)
