"""The control socket by itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.live.control import ControlSocket, ask


def test_garbage_on_the_control_socket_hurts_nobody(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with ControlSocket(path, lambda request: {"ok": True}):
        hung = socket.socket(socket.AF_UNIX)
        hung.connect(str(path))  # and says nothing
        for data in (b"\xff\x00\n", b"[1]\n", b"{" * 9000 + b"\n", b"x" * 200_000):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(str(path))
                client.sendall(data)
                assert b"error" in client.recv(1000)
        assert ask(path, {"do": "status"}) == {"ok": True}
        hung.close()
    assert not path.exists()


def test_the_socket_of_a_killed_run_is_replaced_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with (
        ControlSocket(path, lambda request: {}),
        pytest.raises(ConfigError, match="another run listens"),
    ):
        ControlSocket(path, lambda request: {})
    path.write_text("mine")
    with pytest.raises(ConfigError, match="found another file"):
        ControlSocket(path, lambda request: {})
    assert path.read_text() == "mine"
