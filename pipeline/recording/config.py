"""What is recorded, for how long it is kept, and where live pictures go. Off unless configured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from gait.strict import StrictModel

Codec = Literal["auto", "libx264", "libopenh264", "h264_nvenc", "mpeg4"]
Height = Annotated[int, Field(ge=64, le=4320)]


class RecordingConfig(StrictModel):
    """Clips around the people in view.

    Attributes:
        folder: Where clips go, a folder a camera: in the --out folder unless the path is absolute.
        cameras: Those that are recorded; null records all.
        before_s: Seconds shown before somebody is first tracked. Higher shows where they came
            from, at the price of memory and of compressing every picture; 0 costs nothing while
            nobody is there.
        after_s: Seconds without anybody after which a clip ends. Higher makes fewer, longer clips.
        longest_s: Seconds after which a new file begins. Lower loses less when a file is lost, at
            the price of more files.
        annotate: Whether boxes, outlines, track ids and identities are drawn into the pictures.
        height: Pixels; higher pictures are scaled down, null keeps them. Higher shows more, at the
            price of time, memory and disk.
        crf: x264's constant rate factor. Higher makes smaller files, at the price of detail.
        codec: What encodes; "auto" takes the first that works of libx264, libopenh264 and
            h264_nvenc, which make H.264, and mpeg4.
        keep_gb: Gigabytes (10^9 bytes) the folder may hold; beyond it the oldest clips are
            removed. Higher remembers longer, at the price of disk.
        keep_days: Days after which a clip is removed; null keeps it while there is room. Higher
            remembers longer: ask who may look at it, and for how long.
        memory_mb: Megabytes for pictures that are not encoded yet. Half of it holds those from
            before people came, of all cameras together: when it is full, clips begin later. Half
            holds those that wait for a slow disk: when it is full, pictures are lost and counted.
    """

    folder: str = "clips"
    cameras: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    before_s: float = Field(default=3.0, ge=0, le=30)
    after_s: float = Field(default=3.0, gt=0, le=60)
    longest_s: float = Field(default=60.0, ge=2, le=3600)
    annotate: bool = True
    height: Height | None = 720
    crf: int = Field(default=27, ge=0, le=51)
    codec: Codec = "auto"
    keep_gb: float = Field(default=20.0, gt=0)
    keep_days: float | None = Field(default=7.0, gt=0)
    memory_mb: int = Field(default=256, ge=8)


class PublishConfig(StrictModel):
    """The live picture of every camera, pushed to an RTSP server such as MediaMTX.

    Attributes:
        url: rtsp:// or rtsps://, with `{camera}` where the camera's name belongs. `${NAME}` is
            filled from the environment.
        cameras: Those that are published; null publishes all.
        annotate: Whether boxes, outlines, track ids and identities are drawn into the pictures.
        height: Pixels; higher pictures are scaled down, null keeps them. Higher shows more, at the
            price of time and network.
        crf: x264's constant rate factor. Higher needs less network, at the price of detail.
        codec: As for recordings.
    """

    url: str
    cameras: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    annotate: bool = True
    height: Height | None = 720
    crf: int = Field(default=27, ge=0, le=51)
    codec: Codec = "auto"

    @field_validator("url")
    @classmethod
    def _is_rtsp_for_every_camera(cls, url: str) -> str:
        # The address itself is not quoted: there may be a password in it.
        if not url.startswith(("rtsp://", "rtsps://")):
            raise ValueError("expected rtsp:// or rtsps://, such as rtsp://host:8554/{camera}")
        if "{camera}" not in url.rpartition("@")[2]:
            raise ValueError(
                "expected {camera} in its path, such as rtsp://host:8554/{camera}: every camera "
                "needs a path of its own"
            )
        return url


def address_alone(value: object) -> object:
    """Return the block that an address alone stands for."""
    return {"url": value} if isinstance(value, str) else value


PublishSetting = Annotated[PublishConfig, BeforeValidator(address_alone)]
"""A block, or the address alone."""
