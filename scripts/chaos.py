"""What becomes of cameras when everything fails: `python scripts/chaos.py [--long]`.

Does every fault of the table to cameras with a real RTSP server, writes the figures into
docs/reliability.md, and ends with 1 when one of them is not as it must be. `--only` does some rows
and leaves the others as they were.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gait.runtimes.machine import describe_machine  # noqa: E402
from tests.servers import chaos, chaos_many, soak  # noqa: E402
from tests.servers.chaos import Effort  # noqa: E402
from tests.servers.rtsp_process import missing  # noqa: E402
from tests.servers.watch import Row  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"
KEPT = ROOT / "docs" / "reliability.json"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
PACKAGES = ["av", "numpy", "onnxruntime"]
VERDICTS = {True: "ok", False: "**fails**", None: "cannot tell"}
ROWS: tuple[Callable[[Effort, Path], Row], ...] = (
    chaos.killed_and_restarted,
    chaos.stops_sending,
    chaos.told_apart,
    chaos.spoilt_streams,
    chaos_many.one_of_eight,
    chaos.too_slow,
    chaos.failed_opens,
    chaos_many.opening_is_bounded,
    chaos_many.all_dead,
    chaos_many.flapping,
    soak.soak,
)


class Done(NamedTuple):
    """A row and how it was found.

    Attributes:
        row: What was found.
        how: Version, day, and how busy the machine was.
        machine: What it was found on.
    """

    row: Row
    how: str
    machine: str


def main() -> int:
    """Do the rows, write the page, return the exit status."""
    options = parse()
    if lacking := missing():
        sys.exit(f"chaos: {lacking}")
    effort = chaos.LONG if options.long else chaos.MEDIUM if options.medium else chaos.SHORT
    minutes = options.minutes or (2.0 if effort is chaos.SHORT else effort.soak_s / 60)
    effort = dataclasses.replace(effort, soak_s=60 * minutes)
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("tests").setLevel(logging.INFO)
    logging.getLogger("pipeline").setLevel(logging.ERROR)  # faults are what this is about
    is_ok = True
    with tempfile.TemporaryDirectory() as folder:
        for row in ROWS:
            if options.only in row.__name__:
                done = do(row, effort, Path(folder))
                is_ok &= done.row.is_ok is not False
                if options.page:
                    write(row.__name__, done)
    return 0 if is_ok else 1


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--long", action="store_true", help="50 restarts and an hour of soak")
    size.add_argument("--medium", action="store_true", help="20 restarts and 3 minutes of soak")
    parser.add_argument("--minutes", type=float, help="of soak; 2 in the short version")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--no-page", dest="page", action="store_false", help="write nothing")
    return parser.parse_args()


def do(row: Callable[[Effort, Path], Row], effort: Effort, folder: Path) -> Done:
    """Do one row, and print what it showed."""
    before, began_s = os.getloadavg()[0], time.monotonic()
    found = row(effort, folder)
    minutes = (time.monotonic() - began_s) / 60
    print(f"{VERDICTS[found.is_ok]:11} {found.fault}: {found.shown}", flush=True)
    how = (
        f"{effort.name}, {time.strftime('%Y-%m-%d')}, {minutes:.1f} minutes, load average "
        f"{before:.1f} before and {os.getloadavg()[0]:.1f} after"
    )
    return Done(found, how, describe_machine(packages=PACKAGES, root=ROOT))


def write(name: str, done: Done) -> None:
    """Put one row into the table; the others stay as they are."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    kept[name] = [dataclasses.asdict(done.row), done.how, done.machine]
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    found = {key: Done(Row(**row), *rest) for key, (row, *rest) in kept.items()}
    names = [row.__name__ for row in ROWS]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    lines = table([found[name] for name in names if name in found])
    PAGE.write_text("\n".join([before + BEGIN, *lines, END + after]), encoding="utf-8")


def table(rows: list[Done]) -> list[str]:
    """Return the page's lines: the machines, and a line for each row."""
    machines = list(dict.fromkeys(done.machine for done in rows))
    return [
        *(f"* Machine {number}: {name}" for number, name in enumerate(machines, 1)),
        "",
        "| fault | must show | shown | | how |",
        "|---|---|---|---|---|",
        *(
            f"| {row.fault} | {row.must_show} | {row.shown} | {VERDICTS[row.is_ok]} | "
            f"{how}; machine {machines.index(machine) + 1} |"
            for row, how, machine in rows
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
