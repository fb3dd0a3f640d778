from __future__ import annotations

import pytest

from pipeline.commands.console import Console


def test_what_went_wrong_is_told_word_for_word_on_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "videos/a:cat:b.mp4: expected [1, 2], got :-1: " + "and so on " * 20
    Console(stderr=True).problem(words)
    assert capsys.readouterr().err == f"Error: {words}\n"
