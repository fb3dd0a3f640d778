"""Does a process grow? The verdict on it, and the page the chaos rows are kept on."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.servers.soak_growth import Growth, Ledger, growth
from tests.servers.watch import Holdings, Row

ROOT = Path(__file__).parents[2]
AT_S = [60.0 * minute for minute in range(60)]


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos_script", ROOT / "scripts" / "chaos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos_script"] = module
    spec.loader.exec_module(module)
    return module


def breathing(*, grows_mib: float = 0.0) -> list[float]:
    """Return an hour of looks that go up and down by 0.3 % and grow by so much besides."""
    rng = np.random.default_rng(0)
    return [100 + grows_mib * s / AT_S[-1] + float(rng.normal(0, 0.3)) for s in AT_S]


def test_what_breathes_and_does_not_grow_is_flat() -> None:
    found = growth(AT_S, breathing())
    assert found.is_flat
    assert found.low < 0 < found.high


def test_what_grows_is_told_although_it_breathes() -> None:
    found = growth(AT_S, breathing(grows_mib=3))
    assert found.is_flat is False
    assert found.middle == pytest.approx(2.25, abs=0.5)  # in the three quarters that count


def test_single_odd_looks_decide_nothing() -> None:
    looks = breathing()
    looks[20], looks[-1] = 150.0, 140.0
    assert growth(AT_S, looks).is_flat


def test_what_is_allocated_in_the_first_quarter_is_warming_up() -> None:
    looks = [held + 50 * min(1.0, s / AT_S[14]) for s, held in zip(AT_S, breathing(), strict=True)]
    assert growth(AT_S, looks).is_flat


@pytest.mark.parametrize("num_looks", [0, 1, 6])
def test_few_looks_cannot_tell(num_looks: int) -> None:
    found = growth(AT_S[:num_looks], breathing()[:num_looks])
    assert found.is_flat is None
    assert "too few" in str(found)


def test_an_interval_that_holds_the_limit_cannot_tell() -> None:
    assert Growth(0.2, 1.1, 2.0, 40).is_flat is None
    assert Growth(-0.5, 0.2, 0.9, 40).is_flat is True
    assert Growth(1.1, 1.4, 2.0, 40).is_flat is False


@pytest.mark.parametrize("kind", ["threads", "files"])
def test_one_thread_or_file_more_is_growth_however_flat_memory_is(kind: str) -> None:
    looks = [Holdings(1.0, 1.0, threads=9, files=9) for _ in range(40)]
    assert ledger_of(looks).is_flat() is True
    looks[-1] = dataclasses.replace(looks[-1], **{kind: 10})
    assert ledger_of(looks).is_flat() is False


def ledger_of(looks: list[Holdings]) -> Ledger:
    each = iter(looks)
    ledger = Ledger(now=lambda: next(each), clock=iter(range(len(looks))).__next__)
    for _ in looks:
        ledger.look()
    return ledger


def test_this_process_can_be_looked_at() -> None:
    look = Holdings.now()
    assert look.held_mib > 1
    assert look.threads >= 1
    assert look.files >= 1


def test_a_row_done_anew_leaves_the_others_as_they_were(
    chaos: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{chaos.BEGIN}\nwhatever\n{chaos.END}\nafter\n")
    monkeypatch.setattr(chaos, "PAGE", page)
    monkeypatch.setattr(chaos, "KEPT", tmp_path / "kept.json")
    names = [row.__name__ for row in chaos.ROWS]
    for name, is_ok in ((names[1], None), (names[0], True), (names[1], False)):
        row = Row(f"fault {name}", "must", f"shown {is_ok}", is_ok)
        chaos.write(name, chaos.Done(row, "long", "a machine"))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{chaos.END}\nafter\n")
    assert "whatever" not in text
    assert "shown None" not in text
    first, second = text.index(names[0]), text.index(names[1])
    assert first < second
    assert f"| fault {names[1]} | must | shown False | **fails** | long; machine 1 |" in text
