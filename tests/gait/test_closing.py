"""Closing several things of which some fail to."""

from __future__ import annotations

import pytest

from gait.closing import close_all


class Opened:
    def __init__(self, name: str, closed: list[str], *, fails: bool = False) -> None:
        self.name, self.closed, self.fails = name, closed, fails

    def close(self) -> None:
        self.closed.append(self.name)
        if self.fails:
            raise OSError(f"{self.name} is full")


def test_all_are_closed_in_order_although_one_fails_and_its_error_is_raised() -> None:
    closed: list[str] = []
    with pytest.raises(OSError, match="b is full"):
        close_all([Opened("a", closed), Opened("b", closed, fails=True), Opened("c", closed)])
    assert closed == ["a", "b", "c"]


def test_of_two_that_fail_none_is_forgotten() -> None:
    closed: list[str] = []
    with pytest.raises(OSError, match="b is full") as error:
        close_all([Opened("a", closed, fails=True), Opened("b", closed, fails=True)])
    assert str(error.value.__context__) == "a is full"
