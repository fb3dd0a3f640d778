"""The RTSP server that misbehaves, as a process, and the clips it sends."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

SERVER = Path(__file__).parent / "rtsp.py"
SYSTEM_PYTHON = "/usr/bin/python3"  # the one that has GStreamer
FPS = 10

# One slice a picture: GStreamer repeats the parameter sets before every slice of a key frame, at
# which FFmpeg takes the slices for pictures of their own, torn ones.
WHOLE = {"tune": "zerolatency", "x264-params": "sliced-threads=0:slices=1"}


class RtspServer:
    """The server's process: kill it, freeze it, start it again on the same port."""

    def __init__(
        self,
        units: Path,
        paths: tuple[str, ...],
        login: str | None = None,
        certificate: Path | None = None,
        fps: int = FPS,
        log: Path | None = None,
    ) -> None:
        """Start it.

        Args:
            units: What is sent, over and over.
            paths: Of the cameras.
            login: USER:PASSWORD that is asked for.
            certificate: For RTSPS.
            fps: How fast each camera sends.
            log: Gets a line for each unit sent; the cameras then begin at different moments.
        """
        self._command = [SYSTEM_PYTHON, str(SERVER), "--units", str(units), "--fps", str(fps)]
        self._command += [word for path in paths for word in ("--path", path)]
        self._command += ["--login", login] if login else []
        self._command += ["--certificate", str(certificate)] if certificate else []
        self._command += ["--log", str(log), "--apart"] if log else []
        self._scheme = "rtsps" if certificate else "rtsp"
        self.port = 0
        self.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for its owner, who then kills it
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

    def send(self, units: Path) -> None:
        """Send another clip after the next start."""
        self._command[self._command.index("--units") + 1] = str(units)

    def url(self, path: str, login: str = "") -> str:
        return f"{self._scheme}://{login}127.0.0.1:{self.port}/{path}"

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer


def missing() -> str:
    """Return what is missing to run the server, with advice; empty where nothing is."""
    code = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        found = subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, text=True)
        problem = found.stderr.strip().splitlines()[-1] if found.returncode else ""
    except OSError as error:
        problem = str(error)
    return problem and (
        f"expected GStreamer's RTSP server in {SYSTEM_PYTHON}, got {problem}; on Debian: apt-get "
        "install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good "
        "gstreamer1.0-plugins-bad"
    )


def write_units(
    path: Path, size: tuple[int, int], num_frames: int = 40, *, num_b_frames: int = 0
) -> Path:
    """Encode a moving square, a key frame a second, as the server wants it.

    Args:
        path: Ends in `.h265` for that codec; anything else is H.264.
        size: Width and height.
        num_frames: Length of the clip, which is sent over and over.
        num_b_frames: Most frames in a row that need a later one.
    """
    codec = av.CodecContext.create("libx265" if path.suffix == ".h265" else "libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = *size, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, FPS), Fraction(FPS)
    codec.gop_size, codec.max_b_frames = FPS, num_b_frames
    codec.options = {"preset": "ultrafast", "x265-params": "log-level=none:repeat-headers=1"}
    if not num_b_frames:
        codec.options |= WHOLE
    packets = []
    for index in range(num_frames):
        packets += codec.encode(_picture(index, size))
    packets += codec.encode(None)
    path.write_bytes(b"".join(struct.pack(">I", len(bytes(p))) + bytes(p) for p in packets))
    return path


def _picture(index: int, size: tuple[int, int]) -> VideoFrame:
    image = np.full((size[1], size[0], 3), 60, np.uint8)
    image[40:80, 3 * index % size[0] :][:, :30] = 220
    frame = VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
    frame.pts = index
    return frame
