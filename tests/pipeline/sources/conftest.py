"""A real RTSP server on loopback that misbehaves when told to."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

SERVER = Path(__file__).parents[2] / "servers" / "rtsp.py"
SYSTEM_PYTHON = "/usr/bin/python3"  # the one that has GStreamer
FPS = 10


class RtspServer:
    """The server's process: kill it, freeze it, start it again on the same port."""

    def __init__(self, units: Path, paths: tuple[str, ...], login: str | None = None) -> None:
        self._command = [SYSTEM_PYTHON, str(SERVER), "--units", str(units), "--fps", str(FPS)]
        self._command += [word for path in paths for word in ("--path", path)]
        self._command += ["--login", login] if login else []
        self.port = 0
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._answer()["port"]

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self._answer()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def url(self, path: str, login: str = "") -> str:
        return f"rtsp://{login}127.0.0.1:{self.port}/{path}"

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer


MakeServer = Callable[..., RtspServer]


@pytest.fixture(scope="session")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_units(tmp_path_factory.mktemp("units") / "small.units", (160, 120))


@pytest.fixture
def rtsp(units: Path) -> Iterator[MakeServer]:
    servers: list[RtspServer] = []

    def make(*paths: str, login: str | None = None) -> RtspServer:
        servers.append(RtspServer(units, paths or ("cam",), login))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


def write_units(path: Path, size: tuple[int, int], num_frames: int = 40) -> Path:
    """Encode a moving square, a key frame a second, as the server wants it."""
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = *size, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, FPS), Fraction(FPS)
    codec.gop_size, codec.max_b_frames = FPS, 0
    codec.options = {"preset": "ultrafast", "tune": "zerolatency"}
    packets = []
    for index in range(num_frames):
        image = np.full((size[1], size[0], 3), 60, np.uint8)
        image[40:80, 3 * index % size[0] :][:, :30] = 220
        frame = VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
        frame.pts = index
        packets += codec.encode(frame)
    packets += codec.encode(None)
    path.write_bytes(b"".join(struct.pack(">I", len(bytes(p))) + bytes(p) for p in packets))
    return path
