"""An RTSP server that takes what is pushed to it; run by the system's Python, which has GStreamer.

/usr/bin/python3 tests/servers/rtsp_record.py --path gate --folder taken --login guard:secret

Whatever is pushed to /gate is written to taken/gate-1.mkv, gate-2.mkv and so on, one a connection.
Prints {"port": N} once it listens, and {"ended": "gate-1.mkv"} when a connection is over.
"""

from __future__ import annotations

import argparse
import json
from itertools import count
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtspServer  # noqa: E402

_LAUNCH = (
    "( rtph264depay name=depay0 ! h264parse ! "
    'matroskamux streamable=true ! filesink sync=false buffer-mode=unbuffered location="{file}" )'
)


class Factory(GstRtspServer.RTSPMediaFactory):
    """Writes each connection into a file of its own."""

    def __init__(self, folder: Path, path: str) -> None:
        super().__init__()
        self._files = (folder / f"{path}-{number}.mkv" for number in count(1))
        self.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
        self.connect("media-constructed", self._constructed)

    def do_create_element(self, _url: object) -> Gst.Element:
        self._file = next(self._files)
        return Gst.parse_launch(_LAUNCH.format(file=self._file))

    def _constructed(self, _factory: Factory, media: GstRtspServer.RTSPMedia) -> None:
        name = self._file.name
        media.connect("unprepared", lambda _media: _say({"ended": name}))


def _say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


def _protect(
    server: GstRtspServer.RTSPServer,
    factory: Factory,
    login: str | None,
    certificate: Path | None,
) -> None:
    auth = GstRtspServer.RTSPAuth()
    if certificate is not None:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(str(certificate)))
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "pusher")
    if login is None:
        auth.set_default_token(token)
    else:
        auth.set_supported_methods(2)  # digest
        user, _, password = login.partition(":")
        auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("pusher", "media.factory.access", True)
    permissions.add_permission_for_role("pusher", "media.factory.construct", True)
    factory.set_permissions(permissions)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", action="append", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--login", help="USER:PASSWORD that is asked for")
    parser.add_argument("--certificate", type=Path, help="PEM of certificate and key, for RTSPS")
    args = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(args.port))
    for path in args.path:
        factory = Factory(args.folder, path)
        server.get_mount_points().add_factory(f"/{path}", factory)
        if args.login or args.certificate:
            _protect(server, factory, args.login, args.certificate)
    server.attach(None)
    _say({"port": server.get_bound_port()})
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
