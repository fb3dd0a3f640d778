"""Walkers drawn in a few strokes, as raw masks and as silhouettes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gait.silhouette import cut, normalise

Frames = NDArray[np.uint8]


def draw_masks(seed: int, num_frames: int = 6) -> Frames:
    """Return whole pictures (T, 120, 100) of one person, different for each seed."""
    trunk, stride, start = 4 + seed % 5, 8 + seed % 7, seed % 11
    frames = np.zeros((num_frames, 120, 100), np.uint8)
    for t, frame in enumerate(frames):
        x, swing = 40 + t, int(stride * np.sin((t + start) / 3))
        cv2.circle(frame, (x, 25), 6, 255, -1)
        cv2.ellipse(frame, (x, 52), (trunk, 22), 0, 0, 360, 255, -1)
        cv2.line(frame, (x, 70), (x + swing, 105), 255, 4)
        cv2.line(frame, (x, 70), (x - swing, 105), 255, 4)
    return frames


def draw_silhouettes(seed: int, num_frames: int = 6, width: int = 64) -> Frames:
    silhouettes = np.stack([np.asarray(normalise(mask)) for mask in draw_masks(seed, num_frames)])
    return silhouettes if width == 64 else np.ascontiguousarray(cut(silhouettes))


def write_frames(folder: Path, frames: Frames) -> Path:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:03}.png"), frame)
    return folder


def write_sequence(root: Path, key: str, array: object, name: str = "000.pkl") -> Path:
    file = root / key / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(array))
    return file


def write_dataset(
    root: Path, subjects: list[str], width: int = 64, conditions: tuple[str, ...] = ("nm-01",)
) -> Path:
    """Write two views a condition for each subject, all sequences different."""
    seed = 0
    for subject in subjects:
        for condition in conditions:
            for view in ("000", "090"):
                seed += 1
                silhouettes = draw_silhouettes(seed, 5 + seed % 9, width)
                silhouettes[0, 2, width // 2] = seed  # no two alike
                write_sequence(root, f"{subject}/{condition}/{view}", silhouettes, f"{view}.pkl")
    return root


@pytest.fixture
def casia_b(tmp_path: Path) -> Path:
    """Four subjects of CASIA-B in OpenGait's layout, two to train and two to test."""
    return write_dataset(tmp_path / "casia-b", ["001", "074", "075", "124"])


@pytest.fixture
def masks() -> Callable[..., Frames]:
    return draw_masks


@pytest.fixture
def silhouettes() -> Callable[..., Frames]:
    return draw_silhouettes


@pytest.fixture
def to_pngs() -> Callable[[Path, Frames], Path]:
    return write_frames


@pytest.fixture
def to_pickle() -> Callable[..., Path]:
    return write_sequence


@pytest.fixture
def to_dataset() -> Callable[..., Path]:
    return write_dataset
