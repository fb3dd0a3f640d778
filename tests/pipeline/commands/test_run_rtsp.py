"""`trackletgait run` against a real RTSP server that asks for a password."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.live.program import NASTY, NASTY_SPELLINGS, Program
from tests.pipeline.live.walkers import IN_TIME_S, SIZE, write_config, write_walker
from tests.servers.rtsp_process import RtspServer, write_units

pytestmark = pytest.mark.rtsp

QUICK = {"stall_s": 4.0, "open_timeout_s": 5.0, "retry_first_s": 0.3, "retry_longest_s": 1.0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    units = write_units(tmp_path / "clip.units", SIZE)
    server = RtspServer(units, ("good", "other"), f"guard:{NASTY}")
    yield server
    server.kill()


def test_a_server_that_dies_and_returns_is_lived_through_and_no_password_is_told(
    server: RtspServer, tmp_path: Path
) -> None:
    own = "guard:${GATE_PASSWORD}@"
    cameras: dict[str, object] = {
        "good": {"url": server.url("good", own), **QUICK},
        "wrong password": {"url": server.url("other", "guard:hunter22@"), **QUICK},
        "wrong path": {"url": server.url("nowhere", own), **QUICK},
    }
    config = write_config(tmp_path / "live.yaml", cameras, write_walker(tmp_path / "walker"))
    program = Program(tmp_path, "run", config)
    try:
        program.wait_for(program.sightings)
        server.kill()
        program.wait_for(lambda: "good: backing-off" in program.printed)
        server.start()
        program.wait_for(lambda: len(program.sightings()) == 2)
        code, seconds = program.end(signal.SIGTERM)
    finally:
        program.kill()
    assert (code, seconds < IN_TIME_S) == (0, True), program.printed
    assert "wrong password: failed-config: the camera refuses" in program.printed
    assert "wrong path: failed-config: the camera has no stream" in program.printed
    assert json.loads((program.out / "run.json").read_text())["status"] == "finished"
    for secret in (*NASTY_SPELLINGS, "hunter22"):
        assert secret not in program.everything
