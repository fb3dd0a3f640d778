"""The short version of the chaos table, without the soak: `scripts/chaos.py` does the long one.

Seconds of soak cannot tell memory that grows by 1 % from memory that breathes by 3 %.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import chaos, chaos_many
from tests.servers.chaos import SHORT, Effort
from tests.servers.watch import Row

pytestmark = pytest.mark.rtsp


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.mark.parametrize(
    "row",
    [
        chaos.killed_and_restarted,
        chaos.stops_sending,
        chaos.told_apart,
        chaos.spoilt_streams,
        chaos.too_slow,
        chaos.failed_opens,
        chaos_many.one_of_eight,
        chaos_many.opening_is_bounded,
        chaos_many.all_dead,
        chaos_many.flapping,
    ],
)
def test_a_fault_shows_what_it_must(row: Callable[[Effort, Path], Row], folder: Path) -> None:
    found = row(SHORT, folder)
    assert found.is_ok is not False, f"{found.fault}: expected {found.must_show}; got {found.shown}"
