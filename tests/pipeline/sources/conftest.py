"""A real RTSP server on loopback that misbehaves when told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.rtsp_process import RtspServer, write_units

MakeServer = Callable[..., RtspServer]


@pytest.fixture(scope="session")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_units(tmp_path_factory.mktemp("units") / "small.units", (160, 120))


@pytest.fixture
def rtsp(units: Path) -> Iterator[MakeServer]:
    servers: list[RtspServer] = []

    def make(*paths: str, login: str | None = None, **more: Path) -> RtspServer:
        servers.append(RtspServer(units, paths or ("cam",), login, **more))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()
