"""`trackletgait run`, `perceive` or `identify` in a process of its own, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = (sys.executable, "-m", "pipeline.cli")
NASTY = "p@s:s/w#o?r%d"
NASTY_SPELLINGS = (
    NASTY,
    "p%40s%3As%2Fw%23o%3Fr%25d",
    "p%40s%3as%2fw%23o%3fr%25d",
    "s:s/w",
    "o?r%d",
)


class Program:
    """The process of a verb, and all it leaves; one folder takes one after another."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out = folder / "out"
        self._files = (folder / "stdout", folder / "stderr")
        with self._files[0].open("wb") as stdout, self._files[1].open("wb") as stderr:
            self._process = subprocess.Popen(
                [*PROGRAM, "-v", *map(str, arguments), "--out", str(self.out)],
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "GATE_PASSWORD": NASTY, "OMP_NUM_THREADS": "1"},
            )

    def wait_for(self, what: Callable[[], object], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self._process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.05)

    def sightings(self, what: str = "seen") -> list[dict[str, object]]:
        path = self.out / "sightings.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        contents = [json.loads(line)["content"] for line in lines if line.endswith(b"\n")]
        return [content for content in contents if content["event"] == what]

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; return the exit code and the seconds it took."""
        began = time.monotonic()
        self.send(number)
        return self._process.wait(timeout=60), time.monotonic() - began

    def wait(self) -> int:
        return self._process.wait(timeout=60)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def printed(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self._files)

    @property
    def everything(self) -> str:
        """What it printed and every file it wrote."""
        files = [path for path in self.out.rglob("*") if path.is_file()]
        return self.printed + "".join(path.read_text(errors="replace") for path in files)
