"""The whole configuration: one block a stage, each defined beside the class it builds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from gait.strict import StrictModel
from gait.yaml_config import load_yaml
from pipeline.gallery.config import GalleryConfig
from pipeline.sources.source import ReadConfig
from pipeline.stages.appearance import AppearanceConfig
from pipeline.stages.assemble import AssemblerConfig
from pipeline.stages.camera_motion import FlowConfig
from pipeline.stages.detect import DetectorConfig
from pipeline.stages.encode import EncoderConfig
from pipeline.stages.segment import SegmenterConfig
from pipeline.stages.track import TrackerConfig


def _by_kind(default: str) -> BeforeValidator:
    """Let `segmenter: sam` stand for `{kind: sam}`, and a missing kind for the default."""

    def complete(value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, dict):
            return {"kind": default, **value}
        return value

    return BeforeValidator(complete)


class RuntimeConfig(StrictModel):
    """How the stages share the machine.

    Attributes:
        batch_frames: Frames that go through the detector and the segmenter together. Higher uses a
            GPU better, at the price of memory and of a longer wait for the first result.
        ahead: Batches each stage may run ahead of the next. 0 runs the stages one after another.
            Higher keeps more cores busy, at the price of frames that wait inside; live cameras
            always run with 0.
        streams_at_once: Files read at the same time. Higher fills batches from more files, at the
            price of one decoder's memory each.
    """

    batch_frames: int = Field(default=4, ge=1, le=256)
    ahead: int = Field(default=2, ge=0, le=64)
    streams_at_once: int = Field(default=4, ge=1, le=256)


class OutputConfig(StrictModel):
    """What a run writes besides sightings, tracks and the report.

    Attributes:
        video: Write an annotated video per stream (a second pass over the file).
        tracklets: Write every tracklet as .npz with a contact sheet.
    """

    video: bool = True
    tracklets: bool = True


class PipelineConfig(StrictModel):
    """Everything `trackletgait process` can be told. A YAML file holds only what differs."""

    read: ReadConfig = ReadConfig()
    detector: Annotated[DetectorConfig, _by_kind("yolo")] = Field(
        default={"kind": "yolo"}, validate_default=True
    )
    appearance: Annotated[AppearanceConfig | None, _by_kind("histogram")] = None
    camera_motion: Annotated[FlowConfig | None, _by_kind("flow")] = None
    tracker: Annotated[TrackerConfig, _by_kind("bytetrack")] = Field(
        default={"kind": "bytetrack"}, validate_default=True
    )
    segmenter: Annotated[SegmenterConfig, _by_kind("pose")] = Field(
        default={"kind": "pose"}, validate_default=True
    )
    assembler: AssemblerConfig = AssemblerConfig()
    encoder: EncoderConfig = EncoderConfig()
    gallery: GalleryConfig = GalleryConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _replayed_tracks_have_boxes(self) -> PipelineConfig:
        if self.tracker.kind == "replay" and self.detector.kind != "replay":
            raise ValueError(
                "tracker replay takes the ids of recorded boxes: add `detector: {kind: replay, "
                "file: ...}`"
            )
        return self

    @model_validator(mode="after")
    def _deepsort_sees_something(self) -> PipelineConfig:
        if self.tracker.kind == "deepsort" and self.appearance is None:
            raise ValueError(
                "tracker deepsort compares appearance: add `appearance: histogram` or "
                "`appearance: mobilenet`"
            )
        return self


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Return the configuration in a YAML file (None: the defaults), changed by `key=value` texts.

    Raises:
        ConfigError: Naming the place, what was expected, what came and what is known.
    """
    return load_yaml(PipelineConfig, path, overrides)
