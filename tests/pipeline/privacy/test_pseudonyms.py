"""Pseudonyms are short, the same every time, and say nothing without the site's key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.privacy.pseudonyms import PseudonymKey, period_of

HERE, THERE = PseudonymKey(b"h" * 32), PseudonymKey(b"t" * 32)


@settings(deadline=None, max_examples=40)
@given(st.integers(0) | st.text("aö7 ", max_size=8), st.integers(0, 10**6))
def test_a_pseudonym_is_short_readable_and_always_the_same(who: int | str, period: int) -> None:
    name = HERE.pseudonym(who, period=period)
    assert re.fullmatch(r"person-[0-9A-HJKMNP-TV-Z]{4}", name)
    assert name == PseudonymKey(b"h" * 32).pseudonym(who, period=period)


def test_two_sites_and_two_periods_cannot_be_joined_by_their_names() -> None:
    people = range(1000)
    here = [HERE.pseudonym(number) for number in people]
    for others in (
        [THERE.pseudonym(number) for number in people],
        [HERE.pseudonym(number, period=1) for number in people],
        [HERE.pseudonym(str(number)) for number in people],
    ):
        # One of 2^20 names is the same by chance: one pair in a thousand people at most.
        assert sum(a == b for a, b in zip(here, others, strict=True)) <= 1


def test_nobody_gets_a_name_that_somebody_has() -> None:
    taken: set[str] = set()
    for number in range(3000):
        taken.add(HERE.pseudonym(number, is_taken=taken.__contains__))
    assert len(taken) == 3000
    assert any(len(name) > len("person-7K3Q") for name in taken), "no two ever wanted one name"


def test_a_name_that_is_taken_grows_a_letter() -> None:
    short = HERE.pseudonym(7)
    longer = HERE.pseudonym(7, is_taken=lambda name: name == short)
    assert longer.startswith(short)
    assert len(longer) == len(short) + 1


def test_when_every_name_is_taken_that_is_said() -> None:
    with pytest.raises(ValueError, match="expected some name to be free"):
        HERE.pseudonym(7, is_taken=lambda name: True)


def test_a_period_lasts_a_day_unless_told_otherwise() -> None:
    assert period_of(86_399.9) == 0
    assert period_of(86_400.0) == 1
    assert period_of(7200.0, length_s=3600.0) == 2
