"""A camera's process: reads one camera and puts its newest pictures into shared memory.

Started by `ProcessCamera` with the numbers of a socket and of the memory; everything secret comes
over the socket. It ends when the socket does: with the run, however the run ends.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from pipeline.sources.address import Address
from pipeline.sources.camera import Camera
from pipeline.sources.camera_memory import PictureMemory
from pipeline.sources.camera_messages import (
    LONGEST_TEXT,
    Begin,
    Changed,
    Counted,
    Line,
    Order,
    Pictured,
    Said,
)
from pipeline.sources.camera_state import Change

_PULSE_S = 1.0
_FIRST_TO_GO = "500"  # of 1000: when memory runs out, rather one camera than the run


class _Teller(logging.Handler):
    """Log lines for the run's log, and each change of state."""

    def __init__(self, line: Line, address: Address) -> None:
        super().__init__()
        self._line = line
        self._address = address

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line; one that cannot be sent is lost with the run it is for."""
        text = self._address.without_secrets(self.format(record))[:LONGEST_TEXT]
        with suppress(OSError, ValueError):
            self._line.send(Said(logger=record.name, level=record.levelno, text=text))

    def changed(self, change: Change) -> None:
        """Tell of another state."""
        with suppress(OSError):
            self._line.send(
                Changed(state=change.state, reason=change.reason, retry_in_s=change.retry_in_s)
            )


def _handed_on(camera: Camera, memory: PictureMemory) -> Pictured | None:
    """Put the newest picture where the run finds it; without room it waits for a newer one."""
    slot, arrived_s = memory.free_slot(), time.monotonic()
    frame = None if slot is None else camera.take()
    if slot is None or frame is None:
        return None
    memory.put(slot, frame.image)
    height, width = frame.hw
    return Pictured(
        slot=slot,
        height=height,
        width=width,
        index=frame.index,
        epoch=frame.epoch,
        time_s=frame.time_s,
        captured_s=frame.captured_s,
        arrived_s=arrived_s,
        counts=camera.counts,
    )


def _obey(camera: Camera, line: Line) -> None:
    """Pause and resume until the run hangs up; then leave the camera politely and end."""
    try:
        while message := line.receive():
            is_pause = Order.model_validate_json(message).order == "pause"
            (camera.pause if is_pause else camera.resume)()
        camera.close()
    finally:
        os._exit(0)


def _be_expendable() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the password
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")


def main() -> None:
    """Read until the run hangs up."""
    line = Line(socket.socket(fileno=int(sys.argv[1])))
    file = int(sys.argv[2])
    memory = PictureMemory(file)
    os.close(file)
    _be_expendable()
    begin = Begin.model_validate_json(line.receive())
    address = Address(begin.url, begin.shown, begin.secrets)
    teller = _Teller(line, address)
    logging.basicConfig(level=logging.WARNING, handlers=[teller])
    news = threading.Event()
    camera = Camera(begin.name, address, begin.config, teller, arrived=news.set)
    if begin.is_paused:
        camera.pause()
    threading.Thread(target=_obey, args=(camera, line), name="orders", daemon=True).start()
    with camera, suppress(BrokenPipeError):  # the run has gone
        while True:
            picture = None
            if news.wait(_PULSE_S):
                news.clear()
                picture = _handed_on(camera, memory)
            line.send(picture or Counted(counts=camera.counts))


if __name__ == "__main__":
    main()
