"""Segment Anything by box prompt (Kirillov et al. 2023). The only file with segment_anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.stages.segment_guard import MaskGuards, guarded, padded_region
from pipeline.stages.torchvision_shim import ensure_torchvision
from pipeline.values import Frame
from pipeline.weights import sha256_of
from trackers.boxes import Mask, Tracks

# Sam registers these two without saving them; they are its paper's ImageNet statistics.
_PIXEL_MEAN = [123.675, 116.28, 103.53]
_PIXEL_STD = [58.395, 57.12, 57.375]


class SamSegmenter:
    """Return the person of each box; a frame's image embedding is computed once for all its boxes.

    Attributes:
        description: Model and device.
        model_hash: SHA-256 of the checkpoint, None for a model that was handed in.
    """

    def __init__(
        self,
        sam: Any,
        *,
        guards: MaskGuards,
        device: str = "cpu",
        name: str = "segment_anything",
        model_hash: str | None = None,
    ) -> None:
        """Take a built `segment_anything.modeling.Sam`; see `from_checkpoint` for files."""
        vendor = _import_segment_anything()
        self._predictor = vendor.SamPredictor(sam.to(device).eval())
        self._guards = guards
        self._device = device
        self.description = f"{name} on {device}"
        self.model_hash = model_hash

    @classmethod
    def from_checkpoint(
        cls, path: Path, model_type: str, *, device: str, guards: MaskGuards
    ) -> SamSegmenter:
        """Load a released checkpoint, without running any code in it.

        Raises:
            ModelError: The file is damaged or of another model, or segment_anything is missing.
        """
        sam = load_sam(path, model_type)
        name = f"segment_anything {model_type} ({path.name})"
        return cls(
            sam, guards=guards, device=_device(device), name=name, model_hash=sha256_of(path)
        )

    def close(self) -> None:
        """Nothing is held that Python would not give back."""

    def segment(
        self, frames: Sequence[Frame], tracks: Sequence[Tracks]
    ) -> list[tuple[Mask | None, ...]]:
        """Return one mask per track of each frame; None where nothing trustworthy was found.

        Raises:
            ModelError: The network fails, as when the GPU has no memory left.
        """
        return [self._segment(f, t.xyxy) for f, t in zip(frames, tracks, strict=True)]

    def _segment(self, frame: Frame, boxes: NDArray[np.float32]) -> tuple[Mask | None, ...]:
        regions = [padded_region(xyxy, frame.hw, self._guards) for xyxy in boxes]
        rows = [row for row, region in enumerate(regions) if region is not None]
        if not rows:
            return (None,) * len(boxes)
        masks: list[Mask | None] = [None] * len(boxes)
        for row, full in zip(rows, self._predict(frame, boxes[rows]), strict=True):
            region = regions[row]
            assert region is not None
            pixels = full[region.top : region.bottom, region.left : region.right]
            masks[row] = guarded(pixels, region, boxes[row], self._guards)
        return tuple(masks)

    def _predict(self, frame: Frame, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return shape (N, H, W): one frame-sized mask a box."""
        import torch

        try:
            with torch.inference_mode():
                self._predictor.set_image(frame.image, image_format="BGR")
                prompts = torch.as_tensor(boxes, device=self._device)
                masks, _, _ = self._predictor.predict_torch(
                    point_coords=None,
                    point_labels=None,
                    boxes=self._predictor.transform.apply_boxes_torch(prompts, frame.hw),
                    multimask_output=False,
                )
        except RuntimeError as error:
            raise ModelError(f"{self.description}: inference failed ({error})") from error
        return np.asarray(masks[:, 0].cpu().numpy(), dtype=np.bool_)


def load_sam(path: Path, model_type: str) -> Any:
    """Return the `Sam` of a released checkpoint.

    Raises:
        ModelError: The file is damaged, hostile or of another model.
    """
    state = _read_state(path)
    sam = empty_sam(model_type)
    try:
        sam.load_state_dict(state, assign=True)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"model {path}: expected a Segment Anything checkpoint of {model_type}, but its "
            f"weights do not fit ({reason}); check segmenter.model_type"
        ) from error
    return sam


def empty_sam(model_type: str) -> Any:
    """Return a released architecture without storage for its weights (on the meta device)."""
    import torch

    vendor = _import_segment_anything()
    with torch.device("meta"):  # drawing 91 to 636 million random numbers would take seconds
        sam = vendor.sam_model_registry[model_type](checkpoint=None)
    sam.pixel_mean = torch.tensor(_PIXEL_MEAN).view(-1, 1, 1)
    sam.pixel_std = torch.tensor(_PIXEL_STD).view(-1, 1, 1)
    return sam


def _read_state(path: Path) -> dict[str, Any]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler lets KeyError and others out on garbage
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"model {path}: expected a PyTorch file of plain weights, got one that cannot be read "
            f"safely ({reason})"
        ) from error
    if not isinstance(state, dict):
        raise ModelError(f"model {path}: expected named weights, got a {type(state).__name__}")
    return state


def _device(asked: str) -> str:
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked != "cpu" and not torch.cuda.is_available():
        raise ModelError(f"segmenter.device: got {asked}, but torch sees no GPU; use cpu")
    return asked


def _import_segment_anything() -> Any:
    try:
        ensure_torchvision()
        import segment_anything
    except ImportError as error:
        raise ModelError(
            f"segmenter: 'sam' needs segment_anything and torchvision ({error}); "
            "pip install 'trackletgait[sam]'"
        ) from error
    return segment_anything
