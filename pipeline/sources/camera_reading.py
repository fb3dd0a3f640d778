"""What is known of one connection to a camera while it lasts."""

from __future__ import annotations

import time
from fractions import Fraction

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.sources.pixels import PictureShape

_PACED = ("mov", "matroska", "avi", "hls")  # containers that come as fast as they are read
_CLOCKLESS = ("mpjpeg", "mjpeg", "image2pipe")  # formats whose timestamps FFmpeg makes up
_LOW_DELAY = {"flags": "low_delay"}
# RTSP tells the codec before the first packet; probing would only wait for some seconds of video.
_RTSP = {
    "fflags": "nobuffer",
    "probesize": "32",
    "analyzeduration": "0",
    "allowed_media_types": "video",
}
_PROBING = 0.3  # of the time for opening, for looking at what comes: the rest is for connecting
_BELIEVED_PAUSE_S = 5.0  # between two frames of what is played at its own pace


def opened(
    url: str,
    *,
    transport: str,
    open_timeout_s: float,
    stall_s: float,
    hwaccel: HWAccel | None,
) -> InputContainer:
    """Connect to a camera.

    Args:
        url: With credentials; FFmpeg's errors quote it.
        transport: "tcp" or "udp", for RTSP.
        open_timeout_s: Seconds that connecting may take.
        stall_s: Seconds that each later call may take.
        hwaccel: What decodes; None is software.

    Raises:
        av.FFmpegError: It cannot be reached, or refuses.
    """
    options = dict(_LOW_DELAY)
    if url.startswith(("rtsp://", "rtsps://")):
        options |= _RTSP | {"rtsp_transport": transport}
    else:  # by itself FFmpeg looks at 5 to 7 s of a live stream: longer than opening may take
        probing_us = round(_PROBING * 1e6 * open_timeout_s)
        options |= {"analyzeduration": str(probing_us), "fpsprobesize": "0"}
    return av.open(
        url,
        "r",
        format="v4l2" if url.startswith("/dev/") else None,
        options=options,
        timeout=(open_timeout_s, stall_s),
        hwaccel=hwaccel,
    )


class Reading:
    """One connection while it lasts: its pace, its clock, the shape of its pictures.

    Attributes:
        shape: Follows the size of the pictures.
        seen_shape_changes: How many of its changes the reader has acted on.
        is_live: Whether a picture has come.
        time_base: Seconds of a tick of the timestamps.
        has_clock: Whether the timestamps are the camera's.
        is_paced: Whether it comes as fast as it is read, and must be held back.
        last_frame_s: When the last picture came, on the monotonic clock.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        kinds = container.format.name.split(",")
        self.shape = PictureShape(stream)
        self.seen_shape_changes = 0
        self.is_live = False
        self.time_base = stream.time_base or Fraction(1, 1000)
        self.has_clock = not any(kind in _CLOCKLESS for kind in kinds)
        self.last_frame_s = time.monotonic()
        self._container = container
        self._began_s: float | None = None
        self._is_file = "://" not in container.name and not container.name.startswith("/dev/")
        self.is_paced = self._is_file or any(kind in _PACED for kind in kinds)

    @property
    def is_file_played(self) -> bool:
        """Whether this was a file, and it held a picture."""
        return self._is_file and self.is_live

    @property
    def began_unix_s(self) -> float | None:
        """Unix time of timestamp 0 by the camera's clock; None until it has told (RTCP)."""
        if self._is_file or not self.has_clock:
            return None
        told_us = self._container.start_time_realtime
        return None if told_us is None else told_us / 1e6

    def early_s(self, time_s: float) -> float:
        """Return the seconds until a frame of a file is due."""
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s - time_s
        early_s = self._began_s + time_s - now_s
        if abs(early_s) > _BELIEVED_PAUSE_S:  # timestamps that jump, or we were asleep
            self._began_s, early_s = now_s - time_s, 0.0
        return max(0.0, early_s)
