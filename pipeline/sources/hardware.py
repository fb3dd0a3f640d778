"""Decoding on a device, where FFmpeg and the machine offer one; in software everywhere else.

container = av.open(url, hwaccel=accelerator("auto"))
"""

from __future__ import annotations

import functools
import io
import logging
from typing import Literal

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

Hardware = Literal["none", "auto", "cuda", "vaapi", "qsv", "videotoolbox", "d3d11va", "amf"]

logger = logging.getLogger(__name__)

_PROBE_SIZE = 256  # decoders in hardware refuse much smaller pictures


def accelerator(choice: Hardware) -> HWAccel | None:
    """Return what decodes on a device, None for software.

    Every device is tried once a process with a picture of our own: FFmpeg reports a device that is
    not there as an error of the camera, at the camera's price of an attempt.

    Args:
        choice: A kind of device; "auto" takes the first that decodes, "none" none.
    """
    if choice == "none":
        return None
    kinds = hwdevices_available() if choice == "auto" else [choice]
    working = next((kind for kind in kinds if decodes(kind)), None)
    if working is None:
        _say_once(choice)
        return None
    return HWAccel(working, allow_software_fallback=True)


@functools.cache
def decodes(kind: str) -> bool:
    """Return whether a kind of device decodes H.264 on this machine; asked once a process."""
    try:
        with av.open(io.BytesIO(_clip()), "r", hwaccel=HWAccel(kind)) as container:
            stream = container.streams.video[0]
            next(container.decode(stream))
            return bool(stream.codec_context.is_hwaccel)
    except (av.FFmpegError, OSError, RuntimeError, ValueError, NotImplementedError, StopIteration):
        return False


@functools.cache
def _say_once(choice: str) -> None:
    logger.warning("no decoder in hardware (%s) on this machine: decoding in software", choice)


@functools.cache
def _clip() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=10)
        assert isinstance(stream, VideoStream)
        stream.width = stream.height = _PROBE_SIZE
        stream.pix_fmt = "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(VideoFrame(_PROBE_SIZE, _PROBE_SIZE, "yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()
