"""Opens misconfigured cameras with every log at its loudest, and says what became of them."""

from __future__ import annotations

import logging
import sys
import traceback

import av.logging

from pipeline.sources.address import Address
from pipeline.sources.camera import Camera, CameraConfig
from pipeline.sources.camera_state import CameraState
from tests.servers.watch import Diary, wait_for

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
# Past PyAV, which passes on but little: what FFmpeg itself has to say, on stderr.
av.logging.restore_default_callback()
av.logging.set_libav_level(av.logging.TRACE)
logger = logging.getLogger("talkative")


def main() -> None:
    """Print a line for each address: the state, the reason, and the wait in seconds."""
    for url in sys.argv[1:]:
        diary = Diary()
        with Camera("cam", Address.parse(url), CameraConfig(url=url), diary) as camera:
            over = (CameraState.BACKING_OFF, CameraState.FAILED_CONFIG)
            wait_for(diary.has_reason(*over), 15)
            logger.debug("%s %r", camera.address, camera.address)
        change = diary.entries[0][1] if diary.entries else None
        for _, entry in diary.entries:
            logger.info("%r", entry)
            change = entry if entry.retry_in_s else change
        if change is not None:
            print(change.state, change.reason, change.retry_in_s or 0.0)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        raise
