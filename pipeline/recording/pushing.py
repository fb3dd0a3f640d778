"""Pushes one camera's pictures to an RTSP server; a process, started by `Publisher`.

FFmpeg connects and waits while it holds Python's lock, so a server that hangs would hold up the
whole run; here it holds up nothing, and SIGALRM ends it.

Standard input: a line of JSON (`Order`), then for each picture its time (8 bytes, a double) and
its I420 pixels. Standard output: a line for each, empty when it was sent, else why not.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import BinaryIO

import av
import numpy as np

from gait.strict import StrictModel
from pipeline.sinks.drawing import Canvas
from pipeline.sinks.encoder import Encoding, PictureEncoder

ANSWER_S = 10
"""Seconds the server may take for one picture, the first of which connects."""

_KEY_S = 2.0  # who begins to watch waits so long for a picture at most


class Order(StrictModel):
    """What to push where.

    Attributes:
        url: With credentials: not to be seen on a command line.
        width: Pixels.
        height: Pixels.
        codec: What encodes.
        crf: x264's constant rate factor.
    """

    url: str
    width: int
    height: int
    codec: str
    crf: int

    @property
    def num_bytes(self) -> int:
        """Bytes of a picture."""
        return self.width * self.height * 3 // 2


def main() -> None:
    """Push what comes until there is no more."""
    pictures, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    order = Order.model_validate_json(pictures.readline())
    encoding = Encoding(order.codec, crf=order.crf, key_s=_KEY_S, is_live=True, threads=1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also inside FFmpeg
    try:
        container = av.open(order.url, "w", format="rtsp", options={"rtsp_transport": "tcp"})
        with PictureEncoder(container, Canvas(order.width, order.height), encoding) as encoder:
            _push(pictures, answers, order, encoder)
            signal.alarm(1)  # saying goodbye may take no longer
    except OSError as error:
        answers.write(f"{error.strerror or error}\n".encode())


def _push(pictures: BinaryIO, answers: BinaryIO, order: Order, encoder: PictureEncoder) -> None:
    length = 8 + order.num_bytes
    while len(data := pictures.read(length)) == length:
        (time_s,) = struct.unpack_from("<d", data)
        pixels = np.frombuffer(data, np.uint8, offset=8).reshape(-1, order.width)
        signal.alarm(ANSWER_S)
        encoder.add_yuv(pixels, time_s)
        signal.alarm(0)
        answers.write(b"\n")


if __name__ == "__main__":
    main()
