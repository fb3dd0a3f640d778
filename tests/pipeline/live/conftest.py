"""A live run in a thread; clips played at their own pace stand for cameras."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.live.config import LiveConfig
from pipeline.live.run import LiveRun
from pipeline.sinks.live import Event
from tests.pipeline.live.walkers import write_clip, write_walker


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_walker(tmp_path_factory.mktemp("walker"))


class Notebook:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, events: Sequence[Event]) -> None:
        self.events += events

    def close(self) -> None:
        pass

    def sightings(self, what: str) -> list[Mapping[str, Any]]:
        contents = [event.content for event in self.events if event.kind == "sighting"]
        return [content for content in contents if content["event"] == what]

    def states(self, camera: str) -> list[object]:
        own = [e.content for e in self.events if e.kind == "camera"]
        return [content["state"] for content in own if content["camera"] == camera]


class Running:
    """A run in a thread of its own."""

    def __init__(self, run: LiveRun, notebook: Notebook) -> None:
        self.run, self.notebook = run, notebook
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def wait_for(self, what: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"not within {seconds} s; {self.notebook.events}"
            time.sleep(0.02)

    def end(self) -> float:
        """Stop it and return the seconds that took."""
        began = time.monotonic()
        self.run.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.run.close()
        return time.monotonic() - began

    def _work(self) -> None:
        try:
            self.run.run()
        except Exception as error:
            self.error = error


Start = Callable[..., Running]


@pytest.fixture
def start(walker: dict[str, object]) -> Iterator[Start]:
    runs: list[Running] = []

    def start(
        cameras: dict[str, object], out: Path | None = None, spoil: object = None, **more: Any
    ) -> Running:
        reread = more.pop("reread", None)
        data = {"cameras": cameras, "pipeline": walker, **more}
        config = LiveConfig.model_validate(data)
        notebook = Notebook()
        run = LiveRun(config, out=out, reread=reread, sinks={"notebook": notebook})
        if callable(spoil):
            spoil(run)
        runs.append(Running(run, notebook))
        return runs[-1]

    yield start
    for running in runs:
        running.end()
