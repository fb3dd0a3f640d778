"""What several stages' tests look at: real frames, and the people a person counted in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.values import Frame

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="session")
def street() -> list[Frame]:
    """Two frames of a street with 7 and 6 people in full view."""
    frames = []
    for number in (240, 290):
        image = cv2.imread(str(DATA / f"street-{number}.jpg"))
        assert image is not None
        frames.append(Frame(image.astype(np.uint8), "street", number, number / 10))
    return frames
