"""Segmenters: which pixels of each track are the person. The table of choices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from gait.runtimes.session import Vendor
from gait.strict import StrictModel
from pipeline.errors import ModelError
from pipeline.stages.segment_guard import MaskGuards
from pipeline.values import Frame
from pipeline.weights import resolve
from trackers.boxes import Mask, Tracks


class Segmenter(Protocol):
    """Cuts people out; holds no state, so all streams share one.

    Attributes:
        model_hash: SHA-256 of the model file, or None when no model is involved.
    """

    model_hash: str | None

    @property
    def description(self) -> str:
        """What runs, in words for the run's record."""
        ...

    def segment(
        self, frames: Sequence[Frame], tracks: Sequence[Tracks]
    ) -> list[tuple[Mask | None, ...]]:
        """Return one mask per track of each frame; None where nothing trustworthy was found."""
        ...

    def close(self) -> None:
        """Give back the model; the segmenter cannot be used afterwards."""
        ...


class PoseConfig(StrictModel):
    """The bundled person-mask network, once per box. About 7.5 ms a person on one core.

    Attributes:
        model: The bundled "pose-landmark-full", or the path of another .onnx of the same kind.
        backend: "onnxruntime", "tensorrt" or "openvino"; "auto" takes tensorrt where a GPU and the
            package are there, else onnxruntime. TensorRT is the fastest on a GPU, at the price of a
            first start that compiles.
        device: "auto" (a GPU where the backend finds one), "cpu", "cuda" or "cuda:N".
        threads: Cores that may be used on the CPU, each for one person at a time. More shortens
            the wait, at the price of the stages that run beside it. A live run takes all cores
            unless told.
        threshold: Probability from which a pixel is the person. Higher trims coats and hair, lower
            lets shadows in.
        presence: Probability that there is a person at all, below which the mask is dropped.
            Higher drops half-hidden people too, lower lets cones and signs through.
        guards: What a mask must satisfy beyond that.
    """

    kind: Literal["pose"] = "pose"
    model: str = "pose-landmark-full"
    backend: Vendor | Literal["auto"] = "auto"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(default=1, ge=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    presence: float = Field(default=0.25, ge=0, le=1)
    guards: MaskGuards = MaskGuards()

    def build(self) -> Segmenter:
        """Load the network.

        Raises:
            ModelError: The file is missing or is another kind of network, or cannot run there.
        """
        from pipeline.stages.segment_pose import PoseSegmenter

        return PoseSegmenter(
            resolve(self.model),
            backend=self.backend,
            device=self.device,
            threads=self.threads,
            threshold=self.threshold,
            presence=self.presence,
            guards=self.guards,
        )


class DetectorMasksConfig(StrictModel):
    """The masks a -seg detector already made; costs nothing."""

    kind: Literal["detector"] = "detector"

    def build(self) -> Segmenter:
        """Return the stage."""
        return DetectorMasks()


class SamConfig(StrictModel):
    """Segment Anything, prompted by each box. Slow: for files and quality checks.

    Attributes:
        checkpoint: Path of `sam_vit_b_01ec64.pth` or one of its larger sisters.
        model_type: Which of the three it is. Larger outlines better, at the price of time and
            memory (91, 308 and 636 million parameters).
        device: "auto", "cpu", "cuda" or "cuda:N".
        guards: What a mask must satisfy.
    """

    kind: Literal["sam"] = "sam"
    checkpoint: str
    model_type: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    guards: MaskGuards = MaskGuards()

    def build(self) -> Segmenter:
        """Load the checkpoint.

        Raises:
            ModelError: It is missing, damaged or of another model, or segment_anything is not
                installed.
        """
        from pipeline.stages.segment_sam import SamSegmenter

        return SamSegmenter.from_checkpoint(
            resolve(self.checkpoint), self.model_type, device=self.device, guards=self.guards
        )


class ReplayMasksConfig(StrictModel):
    """Recorded masks: what the rest makes of the true ones, or of a segmenter that ran elsewhere.

    Attributes:
        file: COCO file with compressed run lengths (`masks.json` of `synth video`); image n is
            `Frame.index` n - 1. `{stream}` in the path stands for the stream's name.
        min_overlap: Intersection over union that a track's box must have with a mask's. Higher
            gives fewer masks of somebody else, at the price of none where boxes are loose.
    """

    kind: Literal["replay"] = "replay"
    file: str
    min_overlap: float = Field(default=0.5, gt=0, le=1)

    def build(self) -> Segmenter:
        """Return the stage; a stream's file is read with its first frame."""
        from pipeline.stages.segment_replay import ReplaySegmenter

        return ReplaySegmenter(str(Path(self.file).expanduser()), min_overlap=self.min_overlap)


class DetectorMasks:
    """Passes on the masks that the tracks carry from a -seg detector."""

    description = "masks of the detector"
    model_hash: str | None = None

    def close(self) -> None:
        """Nothing is held that Python would not give back."""

    def segment(
        self, frames: Sequence[Frame], tracks: Sequence[Tracks]
    ) -> list[tuple[Mask | None, ...]]:
        """Return the tracks' own masks.

        Raises:
            ModelError: The detector yields none.
        """
        return [_own_masks(t) for _, t in zip(frames, tracks, strict=True)]


def _own_masks(tracks: Tracks) -> tuple[Mask | None, ...]:
    if tracks.masks is not None:
        return tracks.masks
    if len(tracks) == 0:
        return ()
    raise ModelError(
        "segmenter: kind 'detector' needs a detector that yields masks, and this one does not; "
        "set detector.model to a -seg model (yolo11n-seg.pt) or segmenter.kind to 'pose'"
    )


SEGMENTERS: dict[
    str,
    type[PoseConfig] | type[DetectorMasksConfig] | type[SamConfig] | type[ReplayMasksConfig],
] = {
    "pose": PoseConfig,
    "detector": DetectorMasksConfig,
    "sam": SamConfig,
    "replay": ReplayMasksConfig,
}
"""Every segmenter by the `kind` that chooses it."""

SegmenterConfig = Annotated[
    PoseConfig | DetectorMasksConfig | SamConfig | ReplayMasksConfig, Field(discriminator="kind")
]
