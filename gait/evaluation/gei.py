"""The baseline without any learning: mean silhouettes, and how unlike two of them are.

The mean silhouette is the gait energy image of Han and Bhanu (PAMI 2006, equation 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gait.silhouette import to_model_input

_NOTHING = 1e-12  # two black shapes have nothing in common

Shapes = Sequence[NDArray[np.uint8]]
"""Sequences of silhouettes, each (T, 64, 44) or (T, 64, 64), which is cut; T may differ."""


def energy_images(sequences: Shapes) -> NDArray[np.float64]:
    """Return the mean silhouette of each sequence, shape (N, 64, 44), 0..1.

    Raises:
        ValueError: A sequence has no silhouettes.
        SilhouetteError: A sequence is not silhouettes.
    """
    for index, each in enumerate(sequences):
        if not len(each):
            raise ValueError(f"sequence {index}: expected at least one silhouette, got none")
    return np.stack([to_model_input(each, np.float64).mean(axis=0) for each in sequences])


def gei_l2(probes: Shapes, gallery: Shapes) -> NDArray[np.float64]:
    """Return the Euclidean distances of the mean silhouettes, shape (P, G)."""
    x, y = energy_images(probes), energy_images(gallery)
    return np.asarray(np.linalg.norm(x[:, None] - y, axis=(2, 3)))


def gei_iou(probes: Shapes, gallery: Shapes) -> NDArray[np.float64]:
    """Return 1 - intersection over union of the mean silhouettes, shape (P, G).

    Intersection and union of grey shapes are the sums of the smaller and of the larger value of
    each pixel; of black and white shapes these are the usual ones.
    """
    x, y = energy_images(probes), energy_images(gallery)
    common = np.stack([np.minimum(each, y).sum(axis=(1, 2)) for each in x])
    union = np.stack([np.maximum(each, y).sum(axis=(1, 2)) for each in x])
    return np.asarray(1 - common / np.maximum(union, _NOTHING))
