from __future__ import annotations

import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import ConfigError, LinkError
from pipeline.transport.keys import (
    ReceiverKeys,
    SenderKeys,
    check_endpoint,
    make_keys,
    read_key,
    read_public_key,
)


def test_a_key_is_made_that_only_its_owner_may_read(tmp_path: Path) -> None:
    secret, public = make_keys("north-gate", tmp_path / "new")
    assert (secret.name, public.name) == ("north-gate.key", "north-gate.pub")
    assert secret.stat().st_mode & 0o777 == 0o600
    key = read_key(secret)
    assert (key.name, key.public) == ("north-gate", read_public_key(public))
    assert key.secret.decode() in secret.read_text()
    assert key.secret.decode() not in public.read_text()
    assert key.secret.decode() not in repr(key)


def test_the_command_makes_a_key_and_prints_no_secret(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["keys", "hub", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert read_key(tmp_path / "hub.key").secret.decode() not in done.output
    assert str(tmp_path / "hub.pub") in done.output


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    secret, public = make_keys("hub", tmp_path)
    before = secret.read_bytes()
    public.unlink()
    with pytest.raises(ConfigError, match="a key of this name exists"):
        make_keys("hub", tmp_path)
    assert secret.read_bytes() == before
    assert not public.exists()


@pytest.mark.parametrize("name", ["", "../hub", "a b", ".hidden", "x" * 65, "hub\n"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="expected letters, digits"):
        make_keys(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LinkError, match="cannot be written"):
        make_keys("hub", tmp_path / "file" / "keys")


def test_a_public_key_in_place_of_a_secret_one_is_said(tmp_path: Path) -> None:
    _, public = make_keys("hub", tmp_path)
    with pytest.raises(ConfigError, match=r"is this the \.pub file"):
        read_key(public)


@pytest.mark.parametrize(
    "text",
    [b"", b"\x00\xff" * 50, b'public-key = "short"', b'public-key = "' + b"\x7f" * 40 + b'"'],
)
def test_a_file_that_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.pub").write_bytes(text)
    with pytest.raises(ConfigError, match=r"x\.pub: expected a key made by") as refused:
        read_public_key(tmp_path / "x.pub")
    assert "short" not in str(refused.value)


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_public_key(tmp_path / "none.pub")


def test_a_secret_key_that_others_may_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, _ = make_keys("hub", tmp_path)
    read_key(secret)
    assert not caplog.records
    secret.chmod(0o644)
    read_key(secret)
    assert "chmod 600" in caplog.text


def test_the_allowed_are_those_in_the_folder_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, _ = make_keys("hub", tmp_path)
    _, public = make_keys("gate", tmp_path)
    key = read_public_key(public)
    allowed = tmp_path / "allowed"
    with pytest.raises(ConfigError, match="expected a folder"):
        ReceiverKeys.read(secret, allowed)
    allowed.mkdir()
    (allowed / "a-broken.pub").write_text("nothing")
    keys = ReceiverKeys.read(secret, allowed)
    with caplog.at_level(logging.ERROR):
        assert keys.name_of(key) is None
        (allowed / "south.pub").write_bytes(public.read_bytes())
        assert keys.name_of(key) == "south"
        (allowed / "south.pub").unlink()
        assert keys.name_of(key) is None


def test_a_sender_reads_its_own_key_and_the_receivers(tmp_path: Path) -> None:
    own, _ = make_keys("gate", tmp_path)
    _, receiver = make_keys("hub", tmp_path)
    keys = SenderKeys.read(own, receiver)
    assert (keys.own.name, keys.receiver) == ("gate", read_public_key(receiver))


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5800", "tcp://127.8.8.8:*", "tcp://[::1]:5800", "tcp://localhost:1", "ipc:///run/x"],
)  # fmt: skip
def test_plain_text_may_stay_on_this_machine(endpoint: str) -> None:
    check_endpoint(endpoint, has_keys=False, insecure=False)


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://*:5800", "tcp://0.0.0.0:5800", "tcp://10.0.0.5:5800", "tcp://hub.example:5800",
     "tcp://eth0:5800", "tcp://[::]:5800", "tcp://127.0.0.1.example:5800", "tcp://[::1:5800",
     "tcp://10.0.0.5:1;127.0.0.1:5800"],
)  # fmt: skip
def test_plain_text_between_machines_needs_a_plain_word(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"trackletgait keys NAME.*--insecure"):
        check_endpoint(endpoint, has_keys=False, insecure=False)
    check_endpoint(endpoint, has_keys=True, insecure=False)
    check_endpoint(endpoint, has_keys=False, insecure=True)


@pytest.mark.parametrize("endpoint", ["", "hub:5800", "http://hub", "inproc://x", "tcp://"])
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="expected tcp://HOST:PORT"):
        check_endpoint(endpoint, has_keys=True, insecure=True)
