"""`trackletgait perceive` and `identify` in processes of their own, which are killed."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import app
from pipeline.errors import ConfigError, LinkError
from pipeline.live.control import ask
from pipeline.transport.keys import make_keys
from tests.pipeline.live.program import Program
from tests.pipeline.live.walkers import IN_TIME_S, write_clip, write_config, write_walker

PATIENCE_S = 120.0  # three programs begin, on a processor that others use too

Start = Callable[..., Program]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A camera before which somebody walks for a second, again and again."""
    pipeline = write_walker(tmp_path / "walker", there=25, away=20)
    pipeline["tracker"] = {"kind": "bytetrack", "lost_s": 0.4}
    pipeline["gallery"] = {"path": str(tmp_path / "people.gallery")}
    return write_config(
        tmp_path / "live.yaml", {"door": str(write_clip(tmp_path / "clip.mp4"))}, pipeline
    )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    programs: list[Program] = []

    def start(verb: str, *arguments: object) -> Program:
        programs.append(Program(tmp_path / verb, verb, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def link_of(program: Program) -> dict[str, Any]:
    """Return what the program says of its link; nothing while it begins."""
    try:
        link = ask(program.out / "control.sock", {"do": "status"})["link"]
    except LinkError:
        return {"waiting": 0}
    assert isinstance(link, dict)
    return link


@pytest.mark.timeout(600)
def test_every_walk_is_told_once_though_both_sides_are_killed(
    start: Start, config: Path, tmp_path: Path
) -> None:
    hub_key, hub_public = make_keys("hub", tmp_path / "keys")
    gate_key, gate_public = make_keys("gate", tmp_path / "keys")
    (tmp_path / "senders").mkdir()
    shutil.copy(gate_public, tmp_path / "senders")
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    def identify() -> Program:
        keys = "--key", hub_key, "--senders", tmp_path / "senders"
        return start("identify", config, "--bind", endpoint, *keys)

    def perceive() -> Program:
        keys = "--key", gate_key, "--hub-key", hub_public
        return start("perceive", config, "--link", endpoint, *keys)

    began = time.time()
    hub, gate = identify(), perceive()
    hub.wait_for(hub.sightings, PATIENCE_S)
    hub.kill()  # in the middle of a walk
    gate.wait_for(lambda: link_of(gate)["waiting"] >= 10, PATIENCE_S)
    hub = identify()
    hub.wait_for(lambda: len(hub.sightings("ended")) >= 2, PATIENCE_S)
    told = len(hub.sightings())
    hub.wait_for(lambda: len(hub.sightings()) > told, PATIENCE_S)
    gate.kill()  # in the middle of a walk
    hub.kill()
    hub, gate = identify(), perceive()
    told = len(hub.sightings("ended"))
    hub.wait_for(lambda: len(hub.sightings("ended")) >= told + 2, PATIENCE_S)
    code, seconds = gate.end(signal.SIGTERM)
    assert (code, seconds < IN_TIME_S) == (0, True), gate.printed
    ids = {sighting["id"] for sighting in hub.sightings()}
    hub.wait_for(lambda: ids <= {sighting["id"] for sighting in hub.sightings("ended")}, PATIENCE_S)
    code, seconds = hub.end(signal.SIGTERM)
    assert (code, seconds < IN_TIME_S) == (0, True), hub.printed

    ended = hub.sightings("ended")
    assert max(Counter(sighting["id"] for sighting in ended).values()) == 1
    assert max(Counter(sighting["id"] for sighting in hub.sightings()).values()) == 1
    numbers = {int(str(sighting["track_id"])) for sighting in ended}
    assert len(set(range(1, max(numbers) + 1)) - numbers) == 1  # where ids go on after the kill
    assert {sighting["camera"] for sighting in ended} == {"gate/door"}
    assert {sighting["identity"] for sighting in ended} <= {"person-001", None}
    assert sum(sighting["is_new"] is True for sighting in ended) == 1
    spans = sorted((float(str(s["start_unix_s"])), float(str(s["end_unix_s"]))) for s in ended)
    assert began < spans[0][0]
    assert spans[-1][1] < time.time()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert "Traceback" not in hub.printed + gate.printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["perceive", "x.mp4", "--link", "tcp://192.0.2.1:5800"], "--insecure"),
        (["identify", "--bind", "tcp://0.0.0.0:5800"], "--insecure"),
        (["perceive", "x.mp4", "--link", "192.0.2.1:5800"], "expected tcp://HOST:PORT"),
        (["perceive", "x.mp4", "--link", "tcp://127.0.0.1:99999"], "up to 65535"),
        (["identify", "--bind", "tcp://127.0.0.1"], "expected tcp://HOST:PORT"),
        (["perceive", "x.mp4", "--link", "ipc://x", "--name", "a/b"], "sender: expected letters"),
        (["perceive", "x.mp4", "--link", "ipc://x", "--key", "a.key"], "expected both --key"),
        (["identify", "--bind", "ipc://x", "--senders", "."], "expected both --key"),
        (["identify", "nowhere.yaml", "--bind", "ipc://x"], "cannot read the configuration"),
    ],
)
def test_what_cannot_be_a_link_is_refused_in_words_and_leaves_no_file(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        app(words, standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_a_sender_goes_by_the_name_of_its_key(tmp_path: Path) -> None:
    key, public = make_keys("gate", tmp_path)
    keys = ["--key", str(key), "--hub-key", str(public)]
    with pytest.raises(ConfigError, match="expected none or 'gate'"):
        app(["perceive", "x", "--link", "ipc://x", "--name", "door", *keys], standalone_mode=False)
