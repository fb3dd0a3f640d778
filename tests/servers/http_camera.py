"""An HTTP server that stands for a camera: Motion JPEG at `/mjpeg`, and a folder's files.

`*.slow` is sent over 10 seconds, evenly.
"""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

FPS = 10


@contextmanager
def http_camera(folder: Path) -> Iterator[str]:
    """Serve while the block runs; yields the address without a slash at its end."""
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.endswith(".slow"):
            self._drip(Path(self.translate_path(self.path)).read_bytes())
            return
        if self.path != "/mjpeg":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        picture = jpeg()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        try:
            while True:
                self.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(1 / FPS)
        except OSError:
            return  # the camera's reader has gone

    def _drip(self, content: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        step = len(content) // 100 + 1
        try:
            for at in range(0, len(content), step):
                self.wfile.write(content[at : at + step])
                time.sleep(0.1)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def jpeg() -> bytes:
    """Return a grey picture of 160x120."""
    codec = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = 160, 120, "yuvj420p"
    codec.time_base = Fraction(1, FPS)
    image = np.full((120, 160, 3), 90, np.uint8)
    frame = VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def write_hls(clip: Path, folder: Path) -> str:
    """Cut a clip into pieces of a second; return the playlist's name."""
    with (
        av.open(str(clip), "r") as source,
        av.open(str(folder / "live.m3u8"), "w", format="hls", options={"hls_time": "1"}) as target,
    ):
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return "live.m3u8"


def write_sound_that_outlasts_the_picture(path: Path) -> Path:
    """Write an MPEG transport stream with five seconds of pictures in ten of noise."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="mpegts") as target:
        video = target.add_stream("libx264", rate=FPS, options={"tune": "zerolatency"})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.codec_context.gop_size = FPS // 2
        sound = target.add_stream("aac", rate=16_000)
        assert isinstance(sound, av.AudioStream)
        sound.layout = "mono"
        for index in range(156):
            if index % 3 == 0 and index < 78:  # five pictures a second or so, for half of it
                picture = VideoFrame(160, 120, "yuv420p")
                picture.pts = index * 1024 * FPS // 16_000
                target.mux(video.encode(picture))
            noise = rng.uniform(-0.5, 0.5, (1, 1024)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 1024 * index
            target.mux(sound.encode(frame))
        target.mux(sound.encode(None))
    return path
