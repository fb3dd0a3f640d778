"""An RTSP server that misbehaves on command; run by the system's Python, which has GStreamer.

/usr/bin/python3 tests/servers/rtsp.py --units clip.units --path cam0 --path cam1 --fps 10

`clip.units` holds H.264 access units (`clip.h265` H.265), each behind its length (4 bytes,
big-endian), the first one decodable by itself; they are sent over and over. Prints {"port": N}
once it listens, then obeys lines on its standard input, until that ends:

    pause PATH          sends nothing more, but keeps every connection open
    resume PATH
    garbage PATH N      spoils the next N units
    no-key PATH SECONDS leaves out units that could be decoded by themselves
    units PATH FILE     sends another clip from now on, to whoever connects anew
    switch PATH FILE    sends another clip of the same codec from now on, to everyone
"""

from __future__ import annotations

import argparse
import json
import os
import random
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

_LAUNCH = (
    "( appsrc name=source is-live=true do-timestamp=true format=time "
    "caps=video/x-{codec},stream-format=byte-stream,alignment=au "
    "! {codec}parse ! rtp{codec}pay name=pay0 pt=96 config-interval=-1 )"
)
_KEY_UNITS = (5, 7, 8)  # NAL types of a picture that needs no other, and of its parameters


class Camera:
    """One path of the server: its units, its clock, and what is wrong with it."""

    def __init__(self, units: Path, fps: float, share: float | None = None) -> None:
        """Prepare.

        Args:
            units: What is sent, over and over.
            fps: How fast.
            share: Begin so far into the clip and into an interval of the clock; None begins with
                the clip, when somebody comes.
        """
        self.units = _read(units)
        self.codec = _codec(units)
        self._interval_s = 1 / fps
        self._share = share
        self._is_paused = False
        self._num_garbage = 0
        self._no_key_until_s = 0.0
        self._switched: list[bytes] | None = None
        self._random = random.Random(0)

    def obey(self, verb: str, arguments: list[str]) -> None:
        if verb in ("pause", "resume"):
            self._is_paused = verb == "pause"
        elif verb == "garbage":
            self._num_garbage = int(arguments[0])
        elif verb == "no-key":
            self._no_key_until_s = time.monotonic() + float(arguments[0])
        elif verb == "units":
            self.units, self.codec = _read(Path(arguments[0])), _codec(Path(arguments[0]))
        elif verb == "switch":
            self._switched = _read(Path(arguments[0]))
        else:
            raise ValueError(f"no such command: {verb}")

    def feed(
        self, source: Gst.Element, is_over: threading.Event, sent: Callable[[int], None]
    ) -> None:
        units, (index, due_s) = self.units, self._begin()
        while not is_over.is_set():
            if self._switched is not None:
                self.units, self._switched, index = self._switched, None, 0
                units = self.units
            place = index % len(units)
            unit = units[place]
            index += 1
            if self._is_wanted(unit):
                sent(place)
                buffer = Gst.Buffer.new_wrapped(self._spoilt(unit))
                if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return
            due_s += self._interval_s
            is_over.wait(max(0.0, due_s - time.monotonic()))

    def _begin(self) -> tuple[int, float]:
        """Return the first unit's place and when it is due."""
        now_s = time.monotonic()
        if self._share is None:
            return 0, now_s
        first = int(self._share * len(self.units))
        while not _is_key(self.units[first % len(self.units)]):
            first += 1
        wait_s = (self._share * self._interval_s - now_s) % self._interval_s
        time.sleep(wait_s)
        return first, now_s + wait_s

    def _is_wanted(self, unit: bytes) -> bool:
        if self._is_paused:
            return False
        return not (_is_key(unit) and time.monotonic() < self._no_key_until_s)

    def _spoilt(self, unit: bytes) -> bytes:
        if self._num_garbage <= 0:
            return unit
        self._num_garbage -= 1
        return unit[:8] + self._random.randbytes(max(0, len(unit) - 8))


class Factory(GstRtspServer.RTSPMediaFactory):
    """Starts feeding when the first client comes."""

    def __init__(self, camera: Camera, sent: Callable[[int], None]) -> None:
        super().__init__()
        self._camera = camera
        self._sent = sent
        self.set_shared(True)
        self.connect("media-configure", self._configure)

    def do_create_element(self, _url: GstRtsp.RTSPUrl) -> Gst.Element:
        return Gst.parse_launch(_LAUNCH.format(codec=self._camera.codec))

    def _configure(self, _factory: Factory, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_child_by_name("source")
        is_over = threading.Event()
        media.connect("unprepared", lambda _media: is_over.set())
        work = (source, is_over, self._sent)
        threading.Thread(target=self._camera.feed, args=work, daemon=True).start()


def _read(path: Path) -> list[bytes]:
    data, units, at = path.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return units


def _codec(path: Path) -> str:
    return "h265" if path.suffix == ".h265" else "h264"


def _is_key(unit: bytes) -> bool:
    start = unit.find(b"\x00\x00\x01")
    return start >= 0 and unit[start + 3] & 0x1F in _KEY_UNITS


def _protect(
    server: GstRtspServer.RTSPServer,
    factories: list[Factory],
    login: str | None,
    certificate: Path | None,
) -> None:
    auth = GstRtspServer.RTSPAuth()
    if certificate is not None:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(str(certificate)))
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if login is None:
        auth.set_default_token(token)
    else:
        auth.set_supported_methods(2)  # digest, as cameras do
        user, _, password = login.partition(":")
        auth.add_digest(user, password, token)
    server.set_auth(auth)
    for factory in factories:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)


def _obey(cameras: dict[str, Camera]) -> None:
    for line in sys.stdin:
        verb, path, *arguments = line.split()
        cameras[path].obey(verb, arguments)
        print(json.dumps({"done": line.strip()}), flush=True)
    os._exit(0)  # whoever gave the commands has gone


def _note(log: TextIO, path: str, place: int) -> None:
    log.write(f"{path} {place} {time.time():.6f}\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=Path, required=True)
    parser.add_argument("--path", action="append", required=True)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--login", help="USER:PASSWORD that is asked for")
    parser.add_argument("--certificate", type=Path, help="PEM of certificate and key, for RTSPS")
    parser.add_argument("--log", type=Path, help="gets a line a unit: path, place, unix seconds")
    parser.add_argument("--apart", action="store_true", help="cameras begin at different moments")
    args = parser.parse_args()
    Gst.init(None)
    shares = [number / len(args.path) if args.apart else None for number in range(len(args.path))]
    cameras = {
        path: Camera(args.units, args.fps, share)
        for path, share in zip(args.path, shares, strict=True)
    }
    log = open(args.log or os.devnull, "a", buffering=1)  # noqa: SIM115
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(args.port))
    factories = []
    for path, camera in cameras.items():
        factories.append(Factory(camera, partial(_note, log, path)))
        server.get_mount_points().add_factory(f"/{path}", factories[-1])
    if args.login or args.certificate:
        _protect(server, factories, args.login, args.certificate)
    server.attach(None)
    print(json.dumps({"port": server.get_bound_port()}), flush=True)
    threading.Thread(target=_obey, args=(cameras,), daemon=True).start()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
