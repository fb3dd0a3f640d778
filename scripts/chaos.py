"""What becomes of cameras when everything fails: `python scripts/chaos.py [--long]`.

Does every fault of the table to the camera layer with a real RTSP server, writes the figures into
docs/reliability.md, and ends with 1 when one of them is not as it must be.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gait.runtimes.machine import describe_machine  # noqa: E402
from tests.servers import chaos, chaos_many, soak  # noqa: E402
from tests.servers.chaos import Effort  # noqa: E402
from tests.servers.watch import Row  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
PACKAGES = ["av", "numpy"]
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


def main() -> int:
    """Do the rows, write the page, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--long", action="store_true", help="50 restarts and an hour of soak")
    size.add_argument("--medium", action="store_true", help="20 restarts and 3 minutes of soak")
    parser.add_argument("--minutes", type=float, help="of soak; 2 in the short version")
    parser.add_argument("--only", help="rows whose name holds this; the page is not written")
    arguments = parser.parse_args()
    effort = chaos.LONG if arguments.long else chaos.MEDIUM if arguments.medium else chaos.SHORT
    minutes = arguments.minutes or (2.0 if effort is chaos.SHORT else effort.soak_s / 60)
    effort = dataclasses.replace(effort, soak_s=60 * minutes)
    wanted = [row for row in ROWS if (arguments.only or "") in row.__name__]
    load_before, began_s = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = [_done(row, effort, Path(folder)) for row in wanted]
    if not arguments.only:
        _write(_table(effort, rows, load_before, time.monotonic() - began_s))
    return 0 if all(row.is_ok for row in rows) else 1


def _done(row: Callable[[Effort, Path], Row], effort: Effort, folder: Path) -> Row:
    found = row(effort, folder)
    print(f"{'ok  ' if found.is_ok else 'FAIL'} {found.fault}: {found.shown}", flush=True)
    return found


def _table(effort: Effort, rows: list[Row], load: float, passed_s: float) -> str:
    lines = [
        f"The {effort.name} version, {time.strftime('%Y-%m-%d')}, in {passed_s / 60:.0f} minutes. "
        f"Machine: {describe_machine(packages=PACKAGES, root=ROOT)}; load average {load:.1f} "
        "before it began.",
        "",
        "| fault | must show | shown | |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row.fault} | {row.must_show} | {row.shown} | {'ok' if row.is_ok else '**fails**'} |"
        for row in rows
    ]
    return "\n".join(lines)


def _write(table: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
